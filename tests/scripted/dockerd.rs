//! An engine that lives in memory: containers, images and events as dockerd has them, as far as the shim looks at them.
//! What a test scripts comes before what is usual. Containers have real processes (`sleep`): their ends can be watched.

use std::io::{self, BufRead, BufReader};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::http::{Lines, Request, answer, decode, upgrade};
use super::script::{Act, End, Script};

/// An image that is always there.
pub(crate) const BUSYBOX: &str = "busybox:1";

/// API versions that an engine speaks, by their minor parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api {
    pub(crate) oldest: u16,
    pub(crate) newest: u16,
}

/// Docker 20.10.
pub(crate) const DOCKER_20_10: Api = Api { oldest: 12, newest: 41 };
/// Of the first that mounts images.
pub(crate) const DOCKER_28: Api = Api { oldest: 24, newest: 48 };
/// And of the first that tells how outputs are framed.
pub(crate) const DOCKER_23: Api = Api { oldest: 12, newest: 42 };

/// The engine; it lives as long as its test.
#[derive(Clone)]
pub(crate) struct Dockerd {
    socket: PathBuf,
    script: Arc<Script>,
    engine: Arc<Mutex<Engine>>,
}

/// What it has.
struct Engine {
    api: Api,
    containers: Vec<Container>,
    images: Vec<Image>,
    listeners: Vec<mpsc::Sender<String>>,
    connections: Vec<UnixStream>,
    /// Counts what was made; also its clock.
    count: usize,
}

/// One of its containers.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    /// As dockerd would say it, or as it never would.
    pub(crate) state: String,
    pub(crate) exit_code: i32,
    /// Why it could not be started.
    pub(crate) error: String,
    body: Value,
    process: Option<Child>,
    started_at: String,
    finished_at: String,
}

struct Image {
    id: String,
    tags: Vec<String>,
}

/// A whole answer.
type Answer = (u16, Value);

impl Dockerd {
    /// An engine that doesn't run yet.
    pub(crate) fn new(socket: PathBuf) -> Dockerd {
        let engine = Engine {
            api: DOCKER_20_10,
            containers: Vec::new(),
            images: Vec::new(),
            listeners: Vec::new(),
            connections: Vec::new(),
            count: 0,
        };
        let dockerd = Dockerd { socket, script: Arc::default(), engine: Arc::new(Mutex::new(engine)) };
        dockerd.engine().add_image(BUSYBOX);
        dockerd
    }

    /// Starts it, or starts it again as another version.
    pub(crate) fn start(&self, api: Api) {
        self.engine().api = api;
        let listener = UnixListener::bind(&self.socket).unwrap();
        let dockerd = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                dockerd.engine().connections.push(stream.try_clone().unwrap());
                let dockerd = dockerd.clone();
                thread::spawn(move || {
                    // a client that goes away in the middle is no matter
                    let _ = dockerd.serve(&stream);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
    }

    /// Ends it as `kill -9` would: containers live on, connections don't.
    pub(crate) fn stop(&self) {
        std::fs::remove_file(&self.socket).unwrap();
        let mut engine = self.engine();
        engine.listeners.clear();
        for connection in engine.connections.drain(..) {
            // it may be closed already
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// The next such call is answered so. `*` in a path stands for anything; versions and queries don't count.
    pub(crate) fn once(&self, method: &'static str, path: &str, act: Act) {
        self.script.add(method, path, act, false);
    }

    /// All such calls are answered so, until `as_usual`.
    pub(crate) fn always(&self, method: &'static str, path: &str, act: Act) {
        self.script.add(method, path, act, true);
    }

    /// Takes an `always` back.
    pub(crate) fn as_usual(&self, method: &'static str, path: &str) {
        self.script.take_back(method, path);
    }

    /// The calls so far.
    pub(crate) fn calls(&self, method: &str, path: &str) -> Vec<Request> {
        self.script.calls(method, path)
    }

    /// How many there were.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.calls(method, path).len()
    }

    /// Waits until there have been so many.
    pub(crate) async fn reached(&self, count: usize, method: &'static str, path: &'static str) {
        let script = self.script.clone();
        tokio::task::spawn_blocking(move || script.wait_for_calls(count, method, path)).await.unwrap();
    }

    /// Waits until every step has been played.
    pub(crate) async fn played(&self) {
        let script = self.script.clone();
        tokio::task::spawn_blocking(move || script.wait_for_end()).await.unwrap();
    }

    /// Somebody else makes a container, and no event tells of it.
    pub(crate) fn put(&self, name: &str, labels: Value, runs: bool) -> String {
        let mut engine = self.engine();
        let id = engine.add(name, json!({ "Labels": labels, "Image": BUSYBOX }));
        if runs {
            engine.find(&id).unwrap().run("2026-01-01T00:00:00Z");
        }
        id
    }

    /// The same on a network of its own kind.
    pub(crate) fn put_on_network(&self, name: &str, labels: Value, mode: &str) -> String {
        let id = self.put(name, labels, true);
        self.edit(&id, |container| container.body["HostConfig"] = json!({ "NetworkMode": mode }));
        id
    }

    /// Somebody else's container has run and ended, and no event tells of it.
    pub(crate) fn put_ended(&self, name: &str, body: Value) {
        let mut engine = self.engine();
        let (id, at) = (engine.add(name, body), engine.now());
        let container = engine.containers.last_mut().filter(|container| container.id == id).unwrap();
        "2026-01-01T00:00:01Z".clone_into(&mut container.started_at);
        container.end(0, &at);
    }

    /// Changes a container, and no event tells of it.
    pub(crate) fn edit(&self, id: &str, edit: impl FnOnce(&mut Container)) {
        edit(self.engine().find(id).unwrap());
    }

    /// A container's process ends, the engine knows it, and no event tells of it.
    pub(crate) fn end_silently(&self, id: &str, exit_code: i32) {
        let mut engine = self.engine();
        let at = engine.now();
        engine.find(id).unwrap().end(exit_code, &at);
    }

    /// Ends all containers: nobody else would.
    pub(crate) fn end_processes(&self) {
        self.engine().containers.clear();
    }

    /// A container is gone, and no event tells of it.
    pub(crate) fn forget(&self, id: &str) {
        self.engine().containers.retain(|container| container.id != id);
    }

    /// An image is pruned, and no event tells of it.
    pub(crate) fn prune(&self, tag: &str) {
        self.engine().images.retain(|image| !image.tags.iter().any(|known| known == tag));
    }

    /// Sends a line as an event, whatever it is.
    pub(crate) fn say(&self, line: &str) {
        self.engine().listeners.retain(|listener| listener.send(line.to_owned()).is_ok());
    }

    /// The event that tells of a container.
    pub(crate) fn tell(&self, action: &str, id: &str) {
        self.engine().tell(action, id);
    }

    /// Ends the event stream in the middle.
    pub(crate) fn cut_events(&self) {
        self.engine().listeners.clear();
    }

    /// Names of all containers.
    pub(crate) fn names(&self) -> Vec<String> {
        self.engine().containers.iter().map(|container| container.name.clone()).collect()
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// One connection.
    fn serve(&self, stream: &UnixStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(request) = Request::read(&mut reader)? {
            match self.script.play(&request) {
                None => self.usual(&request, stream)?,
                Some(Act::Delay(time)) => {
                    thread::sleep(time);
                    self.usual(&request, stream)?;
                }
                Some(Act::Answer(status, body)) => answer(stream, status, &body)?,
                Some(Act::Lines(lines, end)) => {
                    let mut to = Lines::begin(stream)?;
                    lines.iter().try_for_each(|line| to.send(&line.to_string()))?;
                    match end {
                        End::Whole => to.end()?,
                        End::Cut => return Ok(()),
                        End::Hang => return reader.fill_buf().map(drop),
                    }
                }
                Some(Act::Trickle(lines, pause)) => {
                    let mut to = Lines::begin(stream)?;
                    for (at, line) in lines.iter().enumerate() {
                        thread::sleep(if at == 0 { Duration::ZERO } else { pause });
                        to.send(&line.to_string())?;
                    }
                    to.end()?;
                }
                Some(Act::Upgrade(content_type, bytes)) => return upgrade(stream, content_type, &bytes),
                // the client never sends a second request before its answer
                Some(Act::Hang) => return reader.fill_buf().map(drop),
                Some(Act::Cut) => return Ok(()),
            }
        }
        Ok(())
    }

    fn usual(&self, request: &Request, stream: &UnixStream) -> io::Result<()> {
        if request.path() == "/events" {
            return self.stream_events(stream);
        }
        let (status, body) = self.engine().answer(request);
        answer(stream, status, &body)
    }

    fn stream_events(&self, stream: &UnixStream) -> io::Result<()> {
        let (sender, lines) = mpsc::channel();
        self.engine().listeners.push(sender);
        let mut to = Lines::begin(stream)?;
        while let Ok(line) = lines.recv() {
            to.send(&line)?;
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl Engine {
    fn answer(&mut self, request: &Request) -> Answer {
        if let Some(refused) = self.refuse_version(request) {
            return refused;
        }
        let parts: Vec<&str> = request.path().split('/').skip(1).collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["version"]) => (200, self.version()),
            ("GET", ["info"]) => (200, info()),
            ("GET", ["containers", "json"]) => (200, self.list(request)),
            ("POST", ["containers", "create"]) => self.create(request),
            ("GET", ["containers", id, "json"]) => self.with(id, |container, _| (200, container.inspected())),
            ("POST", ["containers", id, "start"]) => self.start(id),
            ("POST", ["containers", id, "stop"]) => self.stop(id, (304, Value::Null)),
            ("POST", ["containers", id, "kill"]) => self.stop(id, failure(409, "is not running")),
            ("DELETE", ["containers", id]) => self.remove(id),
            ("GET", ["images", "json"]) => (200, self.images.iter().map(Image::told).collect()),
            ("GET", ["images", name @ .., "json"]) => self.image(&name.join("/")),
            ("POST", ["images", "load"]) => (200, self.add_image(dockershim::pause::reference())),
            ("POST", ["images", "create"]) => (200, self.pull(request)),
            _ => failure(404, "page not found"),
        }
    }

    /// As dockerd refuses versions that it doesn't speak, in its words.
    fn refuse_version(&self, request: &Request) -> Option<Answer> {
        let Api { oldest, newest } = self.api;
        let asked = request.version()?;
        let wrong = match () {
            () if asked < oldest => format!("is too old. Minimum supported API version is 1.{oldest}"),
            () if asked > newest => format!("is too new. Maximum supported API version is 1.{newest}"),
            () => return None,
        };
        Some(failure(400, &format!("client version 1.{asked} {wrong}")))
    }

    fn version(&self) -> Value {
        let Api { oldest, newest } = self.api;
        json!({ "Version": "20.10.24", "ApiVersion": format!("1.{newest}"), "MinAPIVersion": format!("1.{oldest}") })
    }

    fn list(&self, request: &Request) -> Value {
        let limit = request.query("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
        let filters: Value = request.query("filters").map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
        let label = filters["label"][0].as_str();
        let matching = self
            .containers
            .iter()
            .filter(|container| label.is_none_or(|label| container.body["Labels"].get(label).is_some()));
        matching.take(limit).map(Container::listed).collect()
    }

    fn create(&mut self, request: &Request) -> Answer {
        let (name, body) = (request.query("name").unwrap_or_default(), request.json());
        if let Some(holder) = self.find(&name) {
            let id = &holder.id;
            let message = format!("Conflict. The container name \"/{name}\" is already in use by container \"{id}\".");
            return failure(409, &message);
        }
        let image = body["Image"].as_str().unwrap_or_default();
        if !self.images.iter().any(|known| known.is(image)) {
            return failure(404, &format!("No such image: {image}"));
        }
        let id = self.add(&name, body);
        self.tell("create", &id);
        (201, json!({ "Id": id, "Warnings": [] }))
    }

    fn start(&mut self, id: &str) -> Answer {
        let started = self.with(id, |container, now| {
            if container.process.is_some() {
                return (304, Value::Null);
            }
            container.run(now);
            (204, Value::Null)
        });
        if started.0 == 204 {
            self.tell("start", id);
        }
        started
    }

    /// Ends a container; `idle` is the answer for one that doesn't run.
    fn stop(&mut self, id: &str, idle: Answer) -> Answer {
        let stopped = self.with(id, |container, now| {
            if container.process.is_none() {
                return idle;
            }
            container.end(137, now);
            (204, Value::Null)
        });
        if stopped.0 == 204 {
            self.tell("die", id);
        }
        stopped
    }

    fn remove(&mut self, id: &str) -> Answer {
        if self.find(id).is_none() {
            return no_container(id);
        }
        self.tell("destroy", id);
        self.containers.retain(|container| container.id != id);
        (204, Value::Null)
    }

    fn image(&mut self, name: &str) -> Answer {
        let name = decode(name);
        let found = self.images.iter().find(|image| image.is(&name));
        found.map_or_else(|| failure(404, &format!("No such image: {name}")), |image| (200, image.told()))
    }

    fn pull(&mut self, request: &Request) -> Value {
        let part = |name| request.query(name).unwrap_or_default();
        let (repository, tag) = (part("fromImage"), part("tag"));
        self.add_image(&format!("{}:{tag}", repository.trim_start_matches("docker.io/").trim_start_matches("library/")))
    }

    fn add_image(&mut self, tag: &str) -> Value {
        if !self.images.iter().any(|image| image.is(tag)) {
            let id = format!("sha256:{:064x}", self.next());
            self.images.push(Image { id, tags: vec![tag.to_owned()] });
        }
        json!({ "status": "done" })
    }

    fn add(&mut self, name: &str, body: Value) -> String {
        let id = format!("{:064x}", 0xc0de_0000_0000 + self.next());
        self.containers.push(Container {
            id: id.clone(),
            name: name.to_owned(),
            state: "created".to_owned(),
            exit_code: 0,
            error: String::new(),
            body,
            process: None,
            started_at: NEVER.to_owned(),
            finished_at: NEVER.to_owned(),
        });
        id
    }

    /// By id or name.
    fn find(&mut self, id: &str) -> Option<&mut Container> {
        self.containers.iter_mut().find(|container| container.id == id || container.name == id)
    }

    fn with(&mut self, id: &str, act: impl FnOnce(&mut Container, &str) -> Answer) -> Answer {
        let now = self.now();
        self.find(id).map_or_else(|| no_container(id), |container| act(container, &now))
    }

    fn tell(&mut self, action: &str, id: &str) {
        let Some(container) = self.find(id) else { return };
        let mut attributes = container.body["Labels"].clone();
        attributes["name"] = json!(container.name);
        attributes["exitCode"] = json!(container.exit_code.to_string());
        let actor = json!({ "ID": container.id, "Attributes": attributes });
        let event = json!({ "Type": "container", "Action": action, "Actor": actor, "timeNano": now_ns() }).to_string();
        self.listeners.retain(|listener| listener.send(event.clone()).is_ok());
    }

    fn next(&mut self) -> usize {
        self.count += 1;
        self.count
    }

    /// Later at each look.
    fn now(&mut self) -> String {
        format!("2026-01-02T03:04:05.{:09}Z", self.next())
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_nanos().try_into().unwrap()
}

const NEVER: &str = "0001-01-01T00:00:00Z";

fn failure(status: u16, message: &str) -> Answer {
    (status, json!({ "message": message }))
}

fn no_container(id: &str) -> Answer {
    failure(404, &format!("No such container: {id}"))
}

/// What `GET /info` usually tells.
pub(crate) fn info() -> Value {
    json!({
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2",
        "DockerRootDir": "/",
        "Runtimes": { "runc": { "path": "runc" } },
        "DefaultRuntime": "runc",
        "SecurityOptions": ["name=seccomp,profile=default"],
        "KernelVersion": "6.1.0",
        "Driver": "overlay2",
    })
}

impl Container {
    /// Gives it a process.
    pub(crate) fn run(&mut self, now: &str) {
        let process = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        (self.process, self.started_at) = (Some(process), now.to_owned());
        "running".clone_into(&mut self.state);
    }

    fn end(&mut self, exit_code: i32, now: &str) {
        self.end_process();
        (self.exit_code, self.finished_at) = (exit_code, now.to_owned());
        "exited".clone_into(&mut self.state);
    }

    fn end_process(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn listed(&self) -> Value {
        json!({
            "Id": self.id,
            "Names": [format!("/{}", self.name)],
            "State": self.state,
            "Labels": self.body["Labels"],
            "HostConfig": { "NetworkMode": self.body["HostConfig"]["NetworkMode"] },
            "Created": 1_767_225_600,
        })
    }

    fn inspected(&self) -> Value {
        let pid = self.process.as_ref().map_or(0, Child::id);
        json!({
            "Id": self.id,
            "Created": "2026-01-01T00:00:00.000000001Z",
            "Name": format!("/{}", self.name),
            "Image": self.body["Image"],
            "State": {
                "Status": self.state,
                "Running": self.process.is_some(),
                "Paused": false,
                "OOMKilled": false,
                "Pid": pid,
                "ExitCode": self.exit_code,
                "Error": self.error,
                "StartedAt": self.started_at,
                "FinishedAt": self.finished_at,
            },
            "Config": self.body,
            "HostConfig": self.body["HostConfig"],
            "Mounts": self.body["Mounts"],
            "NetworkSettings": { "Networks": { "bridge": { "IPAddress": "172.17.0.2" } } },
            "ResolvConfPath": "",
            "LogPath": "",
        })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.end_process();
    }
}

impl Image {
    fn is(&self, name: &str) -> bool {
        self.id == name
            || self.tags.iter().any(|tag| tag == name.trim_start_matches("docker.io/").trim_start_matches("library/"))
    }

    fn told(&self) -> Value {
        json!({ "Id": self.id, "RepoTags": self.tags, "RepoDigests": [], "Size": 1000, "Config": { "User": "" } })
    }
}
