//! Our server in front of a scripted dockerd: failures that a real engine can't be made to show on demand. What a real
//! engine does show belongs into `tests/real`.
//!
//! - `stage`       one test's own place: a scripted dockerd, the server before it, a client before that
//! - `dockerd`     an engine of containers, images and events in memory; its processes are real ones
//! - `script`      what it does otherwise than usual, call by call, and the calls that were made
//! - `http`        just enough HTTP/1.1 for it
//! - `check`       `dockershim check` on a node on which one thing is wrong
//! - `adapter`     another CRI adapter, for it to find
//! - `connection`  engines that hang, go, come back newer or older, and say odd things
//! - `network`     CNI as far as it needs no pod: refusals before the create, garbage
//! - `pods`        RunPodSandbox: undo, names that are taken, a pruned image, a client that goes away
//! - `containers`  lives of containers behind the shim's back
//! - `events`      GetContainerEvents across lost connections
//! - `figures`     what Prometheus scrapes, what `dockershim status` shows
//! - `images`      pulls that fail after they have begun, that go slowly, and that stand still
//! - `lists`       Stream*, and what many items cost
//! - `outputs`     ExecSync: content types, starts and ends
#![expect(clippy::unwrap_used, reason = "what a test can't go on without fails it")]

mod adapter;
mod check;
#[path = "../support/client.rs"]
#[expect(dead_code, reason = "the real-engine suite uses the rest of it")]
mod client;
mod connection;
mod containers;
mod dockerd;
mod events;
mod figures;
mod http;
mod images;
mod lists;
mod network;
mod outputs;
mod pods;
mod script;
mod stage;
