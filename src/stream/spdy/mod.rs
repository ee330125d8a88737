//! SPDY/3.1 as the Kubernetes clients speak it: many streams over one upgraded connection, server side.
//!
//! It must not know what runs over the streams: subprotocols, ports and processes are for the files beside this folder.
//!
//! ```text
//!             ┌────────────── Session ──────────────┐
//!  bytes in ─▶│ frame ─▶ header ─▶ mux ─▶ arrivals  │─▶ accept() ─▶ Incoming ─▶ reply() ─▶ (Reader, Writer)
//!             │  (reader task)     │ ├──▶ inboxes   │─▶ Reader::read()
//! bytes out ◀─│ frame ◀────────────┘ └◀── one queue │◀─ Writer::write(), Writer::finish()
//!             │  (writer task)                      │
//!             └─────────────────────────────────────┘
//!
//! A stream:   SYN_STREAM          reply()
//!   (none) ─────────────▶ Incoming ──────▶ open ─┬─ FIN from the peer ─▶ read() gives None  ─┬─▶ both halves
//!                            │                   └─ finish()           ─▶ FIN to the peer   ─┘   dropped: gone
//!                            └─ dropped: RST REFUSED_STREAM          RST either way, or the session's end: Error
//! ```
//!
//! There is no flow control in what the peers speak: SETTINGS and WINDOW_UPDATE are skipped and never sent. Backpressure is
//! TCP's: when a stream's inbox is full the connection is not read, and its siblings wait with it. A stream that is reset or
//! whose `Reader` was dropped never blocks them, as its data is dropped.
//!
//! Bounds: an inbox pins at most 128 KiB, a stream's share of the outgoing queue is 128 KiB and as much again is being
//! written by the session as a whole; there are 4096 streams at once, a header block inflates to at most 1 MiB.
//!
//! Exec and attach: `accept` until the expected number of streams is there (told apart by the header `streamtype`), under a
//! deadline of their own; then keep calling it beside the copying, as it gives the error when the peer has gone.
//! Port-forward: `accept` in a loop, `reply` and pair by the header `requestid`; a pair's task owns its halves, and dropping
//! them resets the two streams and no other.

mod dictionary;
mod frame;
mod header;
mod inbox;
mod mux;
mod outbox;
mod session;

use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use frame::{Status, Violation};
pub use header::Headers;
pub use session::{Incoming, Reader, Session, Writer};

/// Why a stream or its session is over. Cheap to clone: every stream of a session gets the session's own.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The peer reset this stream; its siblings live on.
    #[error("the peer reset the stream: {0}")]
    Reset(Status),
    /// The peer closed the connection, or said GOAWAY and had no stream left.
    #[error("the peer closed the connection")]
    Closed,
    /// The session was closed or dropped on our side.
    #[error("the session was closed")]
    Ended,
    /// No byte came or went for this long.
    #[error("the connection was idle for {0:?}")]
    Idle(Duration),
    /// The peer broke the protocol; it was told so by GOAWAY.
    #[error("the peer broke SPDY/3.1: {0}")]
    Violation(Violation),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Connection(#[source] Arc<io::Error>),
}
