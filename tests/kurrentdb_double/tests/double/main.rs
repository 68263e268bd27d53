//! The double, seen by the official client.

mod client_defects;
mod faults;
mod normal_use;
mod process;

use eventstore::{AppendToStreamOptions, Client, EventData, StreamState};
use grantlog_kurrentdb_double::{Cluster, Options};
use uuid::Uuid;

fn client(connection_string: &str) -> Client {
    Client::new(connection_string.parse().unwrap()).unwrap()
}

fn one_node() -> (Cluster, Client) {
    let cluster = Cluster::start(Options::default()).unwrap();
    let client = client(&cluster.connection_string());
    (cluster, client)
}

fn event(body: &str) -> EventData {
    EventData::binary("happened", body.to_owned().into()).id(Uuid::new_v4())
}

fn expecting(state: StreamState) -> AppendToStreamOptions {
    AppendToStreamOptions::default().stream_state(state)
}
