//! Images: pulled by tag and digest, open and with a password, looked up by every form of name, removed whole; the pause image stays.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use dockershim::cri;
use futures_util::future::join_all;
use libtest_mimic::Trial;
use tonic::Code;

use crate::lab::{Case, Stage, eventually, sleeper, trials};
use crate::support::engine::Options;
use crate::support::images::{self, BUSYBOX, FULL, USER_NAME, USER_NUMBER};
use crate::support::registry::{PASSWORD, Registry, USER};

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = trials![Stage::Shared;
        a_pulled_image_is_found_by_every_form_of_its_name,
        a_pull_by_digest_gets_that_very_image,
        a_password_opens_the_closed_registry,
        a_wrong_password_is_refused_and_not_told,
        a_pull_that_finds_nothing_leaves_nothing,
        pulls_of_one_image_at_once_all_succeed,
        removal_by_one_name_removes_all_names,
        removals_of_one_image_at_once_all_succeed,
        an_image_in_use_is_not_removed,
        the_list_knows_users_sizes_and_pinned_images,
        what_docker_loads_and_removes_is_seen,
        the_file_system_of_images_is_told,
        the_pause_image_is_pinned_and_stays,
    ];
    all.extend(trials![Stage::Own(Options::default()); a_pruned_pause_image_comes_back]);
    all
}

/// One registry for all tests here; each has repositories of its own.
fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(Registry::start)
}

async fn a_pulled_image_is_found_by_every_form_of_its_name(case: Case) {
    registry().fill(&case.lab.engine.docker, "forms");
    let name = format!("{}/forms", registry().open);
    let taken_away = || async { case.cri.image(&format!("{name}:1")).await.unwrap().is_none().then_some(()) };
    eventually("the image is on the registry alone", Duration::from_secs(3), taken_away).await;
    let image_ref = case.cri.pull(&format!("{name}:1"), None).await.unwrap();
    let image = case.cri.image(&format!("{name}:1")).await.unwrap().unwrap();
    assert_eq!(image.id, image_ref, "what a pull answers is what containers and lists call the image");
    assert_eq!(image.repo_tags, [format!("{name}:1")]);
    assert!(image.size > 100_000 && !image.pinned, "{image:?}");
    let [digest] = image.repo_digests.as_slice() else { panic!("{:?}", image.repo_digests) };
    let hex = image.id.trim_start_matches("sha256:");
    let (_, only_digest) = digest.split_once('@').unwrap();
    for form in [&image.id, hex, digest, &format!("{name}:1@{only_digest}")] {
        let found = case.cri.image(form).await.unwrap().unwrap_or_else(|| panic!("{form} is not found"));
        assert_eq!(found.id, image.id, "{form}");
    }
    let other = "0".repeat(64);
    for form in [&format!("{name}:2"), &name, &other, &format!("sha256:{other}"), &format!("{name}@sha256:{other}")] {
        assert!(case.cri.image(form).await.unwrap().is_none(), "{form}");
    }
    let (tag, path) = (":1", BUSYBOX.trim_end_matches(":1"));
    for form in [format!("{path}{tag}"), format!("docker.io/library/{path}{tag}"), format!("library/{path}{tag}")] {
        assert!(case.cri.image(&form).await.unwrap().is_some(), "{form}");
    }
    case.cri.remove_image(&image.id).await.unwrap();
}

async fn a_pull_by_digest_gets_that_very_image(case: Case) {
    registry().fill(&case.lab.engine.docker, "digest");
    let name = format!("{}/digest", registry().open);
    let id = case.cri.pull(&format!("{name}:1"), None).await.unwrap();
    let digest = case.cri.image(&id).await.unwrap().unwrap().repo_digests.remove(0);
    case.cri.remove_image(&id).await.unwrap();
    assert_eq!(case.cri.pull(&digest, None).await.unwrap(), id);
    let image = case.cri.image(&digest).await.unwrap().unwrap();
    assert_eq!(
        (image.repo_tags.as_slice(), image.repo_digests.as_slice()),
        ([].as_slice(), [digest.clone()].as_slice())
    );
    let pod = case.run_pod("digest").await;
    let mut config = sleeper("main");
    config.image = Some(crate::support::client::image_spec(&digest));
    let container = case.start(&pod, &config).await;
    assert_eq!(case.cri.status(&container).await.unwrap().image_id, id);
    case.cri.remove_pod(&pod.id).await.unwrap();
    case.cri.remove_image(&digest).await.unwrap();
    assert!(case.cri.image(&id).await.unwrap().is_none());
}

async fn a_password_opens_the_closed_registry(case: Case) {
    registry().fill(&case.lab.engine.docker, "closed");
    let name = format!("{}/closed:1", registry().closed);
    let plain = cri::AuthConfig { username: USER.to_owned(), password: PASSWORD.to_owned(), ..Default::default() };
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let encoded = cri::AuthConfig { auth: encoded, server_address: registry().closed.clone(), ..Default::default() };
    for auth in [plain, encoded] {
        let id = case.cri.pull(&name, Some(auth)).await.unwrap();
        case.cri.remove_image(&id).await.unwrap();
    }
}

async fn a_wrong_password_is_refused_and_not_told(case: Case) {
    registry().fill(&case.lab.engine.docker, "refused");
    let name = format!("{}/refused:1", registry().closed);
    let secret = "wr0ng-battery-staple";
    let wrong = cri::AuthConfig { username: USER.to_owned(), password: secret.to_owned(), ..Default::default() };
    for auth in [Some(wrong), None] {
        let refused = case.cri.pull(&name, auth).await.unwrap_err();
        assert!(!refused.message().contains(secret), "{}", refused.message());
        assert!(refused.message().contains("refused"), "the image is named: {}", refused.message());
        assert!(case.cri.image(&name).await.unwrap().is_none());
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{secret}"));
    let log = case.lab.shim.log(usize::MAX);
    assert!(!log.contains(secret) && !log.contains(&encoded), "nor in the log");
}

async fn a_pull_that_finds_nothing_leaves_nothing(case: Case) {
    let before: HashSet<_> =
        case.cri.list_images().await.unwrap().into_iter().flat_map(|image| image.repo_tags).collect();
    let name = format!("{}/no-such-image:1", registry().open);
    let refused = case.cri.pull(&name, None).await.unwrap_err();
    assert!(refused.message().contains("no-such-image"), "{}", refused.message());
    // a port that nobody listens on
    let refused = case.cri.pull("127.0.0.1:1/nobody/there:1", None).await.unwrap_err();
    assert!(refused.message().contains("127.0.0.1:1"), "{}", refused.message());
    let after: HashSet<_> =
        case.cri.list_images().await.unwrap().into_iter().flat_map(|image| image.repo_tags).collect();
    assert!(!after.iter().any(|tag| tag.contains("no-such") || tag.contains("nobody")), "{before:?} {after:?}");
}

async fn pulls_of_one_image_at_once_all_succeed(case: Case) {
    registry().fill(&case.lab.engine.docker, "together");
    let name = format!("{}/together:1", registry().open);
    let ids = join_all((0..4).map(|_| case.cri.pull(&name, None))).await;
    let ids: HashSet<_> = ids.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids.len(), 1);
    case.cri.remove_image(&name).await.unwrap();
}

async fn removal_by_one_name_removes_all_names(case: Case) {
    let docker = &case.lab.engine.docker;
    images::load_unique(docker, "names", &["dsh-names:1"]);
    docker.tag("dsh-names:1", "dsh-names", "2");
    docker.tag("dsh-names:1", "127.0.0.1:1/elsewhere", "3");
    let look = || async {
        let image = case.cri.image("dsh-names:2").await.unwrap()?;
        (image.repo_tags.len() == 3).then_some(image)
    };
    let image = eventually("all names are seen", Duration::from_secs(3), look).await;
    case.cri.remove_image("dsh-names:2").await.unwrap();
    for name in ["dsh-names:1", "dsh-names:2", "127.0.0.1:1/elsewhere:3", &image.id] {
        assert!(case.cri.image(name).await.unwrap().is_none(), "{name}");
    }
    case.cri.remove_image("dsh-names:2").await.unwrap();
    let (status, _) = docker.call("GET", &format!("/images/{}/json", image.id), "", b"").unwrap();
    assert_eq!(status, 404);
}

async fn removals_of_one_image_at_once_all_succeed(case: Case) {
    images::load_unique(&case.lab.engine.docker, "removed-at-once", &["dsh-at-once:1", "dsh-at-once:2"]);
    let seen = || async { case.cri.image("dsh-at-once:2").await.unwrap() };
    let image = eventually("the image is seen", Duration::from_secs(3), seen).await;
    let removed = join_all((0..4).map(|_| case.cri.remove_image(&image.id))).await;
    removed.into_iter().for_each(Result::unwrap);
    assert!(case.cri.image(&image.id).await.unwrap().is_none());
}

async fn an_image_in_use_is_not_removed(case: Case) {
    images::load_unique(&case.lab.engine.docker, "in-use", &["dsh-in-use:1"]);
    let seen = || async { case.cri.image("dsh-in-use:1").await.unwrap() };
    let image = eventually("the image is seen", Duration::from_secs(3), seen).await;
    let pod = case.run_pod("in-use").await;
    let mut config = sleeper("main");
    config.image = Some(crate::support::client::image_spec(&image.id));
    let container = case.start(&pod, &config).await;
    assert!(case.cri.remove_image(&image.id).await.is_err());
    assert_eq!(case.output(&container, "echo alive").await, "alive\n");
    assert!(case.cri.image("dsh-in-use:1").await.unwrap().is_some(), "nor does it lose its name");
    case.cri.remove_pod(&pod.id).await.unwrap();
    case.cri.remove_image(&image.id).await.unwrap();
}

async fn the_list_knows_users_sizes_and_pinned_images(case: Case) {
    let list = case.cri.list_images().await.unwrap();
    for (name, uid, username) in
        [(BUSYBOX, Some(0), ""), (USER_NUMBER, Some(1000), ""), (USER_NAME, None, "daemon"), (FULL, Some(0), "")]
    {
        let image = list.iter().find(|image| image.repo_tags.iter().any(|tag| tag == name));
        let image = image.unwrap_or_else(|| panic!("{name} is not listed"));
        assert_eq!(image.uid.map(|uid| uid.value), uid, "{name}");
        assert_eq!(image.username, username, "{name}");
        assert!(image.size > 0 && image.id.starts_with("sha256:"));
    }
    let filter = cri::ImageFilter { image: Some(crate::support::client::image_spec(USER_NAME)) };
    let one = case.cri.images().list_images(cri::ListImagesRequest { filter: Some(filter) }).await.unwrap();
    assert_eq!(one.into_inner().images.len(), 1);
}

async fn what_docker_loads_and_removes_is_seen(case: Case) {
    let docker = &case.lab.engine.docker;
    images::load_unique(docker, "outside", &["dsh-outside:1"]);
    let there = || async { case.cri.image("dsh-outside:1").await.unwrap() };
    eventually("the loaded image is seen", Duration::from_secs(3), there).await;
    docker.remove_image("dsh-outside:1");
    let gone = || async { case.cri.image("dsh-outside:1").await.unwrap().is_none().then_some(()) };
    eventually("the removal is seen", Duration::from_secs(3), gone).await;
}

async fn the_file_system_of_images_is_told(case: Case) {
    let told = case.cri.images().image_fs_info(cri::ImageFsInfoRequest {}).await.unwrap().into_inner();
    let images = told.image_filesystems.into_iter().next().unwrap();
    let place = images.fs_id.unwrap().mountpoint;
    assert!(std::path::Path::new(&place).is_dir(), "{place}");
    assert!(images.timestamp > 0);
    assert!(images.used_bytes.unwrap().value > 0);
}

/// The image that a pod's sandbox runs.
fn pause_image(case: &Case, pod: &str) -> String {
    case.lab.engine.docker.get(&format!("/containers/{pod}/json"))["Image"].as_str().unwrap().to_owned()
}

async fn the_pause_image_is_pinned_and_stays(case: Case) {
    let pod = case.run_pod("pinned").await;
    let id = pause_image(&case, &pod.id);
    let image = case.cri.image(&id).await.unwrap().unwrap();
    assert!(image.pinned, "{image:?}");
    for name in [image.id.clone(), image.repo_tags[0].clone()] {
        let refused = case.cri.remove_image(&name).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{name}");
    }
    let pinned: Vec<_> = case.cri.list_images().await.unwrap().into_iter().filter(|image| image.pinned).collect();
    assert_eq!(pinned.len(), 1, "{pinned:?}");
}

async fn a_pruned_pause_image_comes_back(case: Case) {
    let pod = case.run_pod("before").await;
    let id = pause_image(&case, &pod.id);
    case.cri.remove_pod(&pod.id).await.unwrap();
    // docker image prune -a
    let filters = "%7B%22dangling%22%3A%5B%22false%22%5D%7D";
    let docker = &case.lab.engine.docker;
    docker.json("POST", &format!("/images/prune?filters={filters}"), &serde_json::Value::Null);
    let (status, _) = docker.call("GET", &format!("/images/{id}/json"), "", b"").unwrap();
    assert_eq!(status, 404, "the prune took it");
    let pod = case.run_pod("after").await;
    assert_eq!(pause_image(&case, &pod.id), id);
}
