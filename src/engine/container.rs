//! `/containers/…`: one method per endpoint.

use std::time::Duration;

use bollard::models::{ContainerCreateBody, ContainerUpdateBody};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};

use super::model::{ContainerInspect, ContainerListed, ContainerSummary};
use super::{Engine, Error, encode, within};

/// All containers, in any state, that a filter lets through.
fn listing(filter: &str, value: &str) -> String {
    format!("/containers/json?all=1&filters={}", encode(&format!(r#"{{"{filter}":["{value}"]}}"#)))
}

impl Engine {
    /// `GET /containers/json?all=1`: those with the label key, in any state. Sizes are never asked for.
    pub async fn list(&self, label: &str) -> Result<Vec<ContainerSummary>, Error> {
        self.get("list containers", &listing("label", label), self.timeouts.read).await
    }

    /// The same, but tells of each no more than that it is there.
    pub async fn list_ids(&self, label: &str) -> Result<Vec<ContainerListed>, Error> {
        self.get("list containers", &listing("label", label), self.timeouts.read).await
    }

    /// One item of the listing, for which the engine locks no container; None when there is none with that id.
    pub async fn listed(&self, id: &str, limit: Duration) -> Result<Option<ContainerSummary>, Error> {
        let all: Vec<ContainerSummary> = self.get("list containers", &listing("id", id), limit).await?;
        Ok(all.into_iter().find(|item| item.id == id))
    }

    /// `GET /containers/json?limit=1`: the cheapest listing, to see that the engine still lists.
    pub async fn list_one(&self, limit: Duration) -> Result<(), Error> {
        self.get::<Vec<ContainerListed>>("list containers", "/containers/json?limit=1", limit).await.map(|_| ())
    }

    /// `GET /containers/{id}/json` with a limit of its own: a hung container must not hold up others.
    pub async fn inspect(&self, id: &str, limit: Duration) -> Result<ContainerInspect, Error> {
        self.get("inspect container", &format!("/containers/{id}/json"), limit).await
    }

    /// `POST /containers/create?name=`; gives the new id. A taken name is [`Error::Conflict`], a missing image [`Error::NotFound`].
    pub async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String, Error> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let call = self.docker.create_container(Some(options), body);
        let response = within("create container", self.timeouts.write, async { Ok(call.await?) }).await?;
        for warning in response.warnings {
            tracing::debug!(name, warning, "the engine warns");
        }
        Ok(response.id)
    }

    /// `POST /containers/{id}/start`; success too when it runs already (304).
    pub async fn start(&self, id: &str) -> Result<(), Error> {
        let call = self.docker.start_container(id, None);
        within("start container", self.timeouts.write, async { Ok(call.await?) }).await
    }

    /// `POST /containers/{id}/stop?t=`: stop signal, `grace_s` seconds, SIGKILL; answers once the exit is committed.
    /// Success too when it doesn't run (304).
    pub async fn stop(&self, id: &str, grace_s: i32) -> Result<(), Error> {
        let options = StopContainerOptionsBuilder::new().t(grace_s).build();
        let call = self.docker.stop_container(id, Some(options));
        let limit = Duration::from_secs(u64::try_from(grace_s).unwrap_or(0)) + Duration::from_secs(60);
        within("stop container", limit, async { Ok(call.await?) }).await
    }

    /// `POST /containers/{id}/kill`: SIGKILL. One that doesn't run is [`Error::Conflict`].
    pub async fn kill(&self, id: &str) -> Result<(), Error> {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        let call = self.docker.kill_container(id, Some(options));
        within("kill container", self.timeouts.write, async { Ok(call.await?) }).await
    }

    /// `DELETE /containers/{id}?force=1&v=1`.
    pub async fn remove(&self, id: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let call = self.docker.remove_container(id, Some(options));
        within("remove container", self.timeouts.write, async { Ok(call.await?) }).await
    }

    /// `POST /containers/{id}/update`.
    pub async fn update(&self, id: &str, body: ContainerUpdateBody) -> Result<(), Error> {
        let call = self.docker.update_container(id, body);
        within("update container", self.timeouts.write, async { Ok(call.await?) }).await
    }
}
