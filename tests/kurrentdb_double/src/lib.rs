//! Test code only: a double of KurrentDB that speaks the streams and gossip parts of its gRPC protocol.
//!
//! KurrentDB comes from no package registry, so the tests bring this. A [`Cluster`] is one or more nodes on
//! `127.0.0.1` with one log in memory. It answers the official client as the real server does, and it has what no
//! real server has: nodes that are killed, paused and demoted by a function call, connections that are cut, answers
//! that are late, lost or out of order, subscriptions that end or stall. **It keeps nothing on disk and promises no
//! durability. Never run it as an event store.**
//!
//! ```no_run
//! use grantlog_kurrentdb_double::{Cluster, Options, UnderWay};
//!
//! let cluster = Cluster::start(Options { nodes: 3, ..Options::default() })?;
//! println!("{}", cluster.connection_string());
//! cluster.kill_leader(UnderWay::Committed);
//! cluster.wait_for_leader();
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! What it leaves out: deleting, links, persistent subscriptions, projections, access control per stream, and a log
//! of its own on each node. What it simplifies: an election takes exactly as long as it is told to, nothing that was
//! committed is ever lost, and a cut network accepts connections and is silent where a real one would drop packets.

mod append;
mod cluster;
mod connection;
mod door;
mod entrance;
mod faults;
mod filter;
mod log;
mod read;
mod service;
mod tls;
mod wire;

pub use cluster::{Calls, Cluster, Options, Security};
pub use entrance::{Cut, Entrance};
pub use faults::{Delay, Loss, UnderWay};
pub use log::{Appended, ExpectedRevision, LoggedEvent, NewEvent};
pub use tonic::{Code, Status};
