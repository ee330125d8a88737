//! The daemon as a whole, on a socket of its own and without an engine: what holds before Docker is reached.

use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::config::cli::Cli;
use crate::cri;
use crate::cri::runtime_service_client::RuntimeServiceClient;

/// A daemon in a folder of its own.
struct Running {
    folder: PathBuf,
    socket: PathBuf,
    shutdown: Arc<Notify>,
    ended: JoinHandle<Result<(), Error>>,
}

impl Running {
    async fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("dockershim-server-{name}-{}", std::process::id()));
        let shutdown = Arc::new(Notify::new());
        let told = shutdown.clone();
        let config = config(&folder);
        let ended = tokio::spawn(async move { run(config, Supervisor::default(), told.notified()).await });
        let socket = folder.join("cri.sock");
        for _ in 0..200 {
            if tokio::net::UnixStream::connect(&socket).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Running { folder, socket, shutdown, ended }
    }

    async fn client(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(client::connect(&self.socket, Duration::from_secs(20)).await.unwrap())
    }

    async fn stop(self) {
        self.shutdown.notify_one();
        self.ended.await.unwrap().unwrap();
        assert!(!self.socket.exists());
        std::fs::remove_dir_all(self.folder).unwrap();
    }
}

fn config(folder: &Path) -> Config {
    let flag = |name: &str, file: &str| format!("--{name}={}", folder.join(file).display());
    let arguments = [
        "dockershim".to_owned(),
        flag("container-runtime-endpoint", "cri.sock"),
        flag("docker-endpoint", "docker.sock"),
        flag("root-directory", "state"),
        "--network-plugin=bridge".to_owned(),
        "--allow-other-adapter".to_owned(),
    ];
    Config::from_flags(Cli::try_parse_from(arguments).unwrap().told.flags).unwrap()
}

#[tokio::test]
async fn version_and_status_answer_without_an_engine() {
    let daemon = Running::start("version").await;
    let mut client = daemon.client().await;
    let version = client.version(cri::VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!(version.runtime_name, "docker");
    let status = client.status(cri::StatusRequest::default()).await.unwrap().into_inner().status.unwrap();
    let ready = |name: &str| status.conditions.iter().find(|condition| condition.r#type == name).unwrap().status;
    assert!(!ready("RuntimeReady") && ready("NetworkReady"));
    daemon.stop().await;
}

#[tokio::test]
async fn a_checkpoint_is_refused_with_the_reason() {
    let daemon = Running::start("checkpoint").await;
    let request = cri::CheckpointContainerRequest { container_id: "c".to_owned(), ..Default::default() };
    let status = daemon.client().await.checkpoint_container(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("experimental") && status.message().contains("CRIU"), "{status}");
    daemon.stop().await;
}

#[tokio::test]
async fn events_are_followed_without_an_engine_and_end_when_we_shut_down() {
    let daemon = Running::start("events").await;
    let mut client = daemon.client().await;
    let mut events = client.get_container_events(cri::GetEventsRequest {}).await.unwrap().into_inner();
    let begun = Instant::now();
    daemon.stop().await;
    let end = events.message().await.unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::Unavailable, "dockershim is shutting down"));
    assert!(begun.elapsed() < DRAIN / 2);
}

#[tokio::test]
async fn a_request_may_have_16_mib_and_no_more() {
    let daemon = Running::start("size").await;
    let mut client = daemon.client().await;
    let sized = |bytes| cri::VersionRequest { version: "v".repeat(bytes) };
    assert!(client.version(sized(LARGEST_REQUEST - 16)).await.is_ok());
    assert_eq!(client.version(sized(LARGEST_REQUEST + 1)).await.unwrap_err().code(), Code::OutOfRange);
    daemon.stop().await;
}

#[tokio::test]
async fn an_rpc_on_its_way_is_answered_although_we_shut_down() {
    let daemon = Running::start("drain").await;
    let mut client = daemon.client().await;
    let begun = Instant::now();
    // waits for an engine that isn't there
    let call = tokio::spawn(async move { client.list_containers(cri::ListContainersRequest::default()).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    daemon.stop().await;
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert!(begun.elapsed() < DRAIN);
}

#[tokio::test]
async fn a_second_daemon_is_refused_the_state_directory_and_the_socket() {
    let daemon = Running::start("second").await;
    let never = std::future::pending::<()>;
    assert!(matches!(
        run(config(&daemon.folder), Supervisor::default(), never()).await,
        Err(Error::StateDirTaken { .. })
    ));
    let mut elsewhere = config(&daemon.folder);
    elsewhere.state_dir = daemon.folder.join("other-state");
    assert!(matches!(run(elsewhere, Supervisor::default(), never()).await, Err(Error::SocketInUse { .. })));
    daemon.stop().await;
}

#[tokio::test]
async fn an_adapter_for_docker_is_a_rival() {
    let daemon = Running::start("rival").await;
    let rival = rival::look(&daemon.socket, &[], &[]).await.unwrap_err();
    assert!(matches!(rival, Rival::Answers { .. }), "{rival}");
    let refused = Error::OtherAdapter { rival }.to_string();
    assert!(refused.contains("--allow-other-adapter"), "{refused}");
    assert!(rival::look(&daemon.socket, std::slice::from_ref(&daemon.socket), &[]).await.is_ok());
    daemon.stop().await;
}
