//! Ways into the cluster: each has an address for every node.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use crate::cluster::{Power, Shared};
use crate::connection::Connection;
use crate::door::{Access, Closing, Door};
use crate::service::NodeService;
use crate::tls::{Stream, as_parameter};

/// TLS handshakes at a time, and how long one may take.
const HANDSHAKES: usize = 64;
const HANDSHAKE: Duration = Duration::from_secs(30);

/// How an entrance is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Connections are reset and new ones refused: the machine is gone.
    Reset,
    /// Nothing comes through in either direction, and nobody is told: the network is gone. What was connected goes
    /// on when it is healed, if nobody has given up.
    BlackHole,
}

/// A way into the cluster: an address for every node, that gossip and not-leader errors name to those who come by it.
#[derive(Clone)]
pub struct Entrance {
    inner: Arc<EntranceInner>,
    shared: Weak<Shared>,
    credentials: String,
    parameters: String,
}

pub(crate) struct EntranceInner {
    name: String,
    /// By node.
    pub(crate) doors: Vec<Arc<Door>>,
    cut: Mutex<Option<Cut>>,
}

impl Entrance {
    /// Names all nodes, with what else a client needs: TLS, user, certificate authority.
    pub fn connection_string(&self) -> String {
        let hosts: Vec<String> = self.addresses().iter().map(SocketAddr::to_string).collect();
        format!(
            "kurrentdb://{}{}?{}",
            self.credentials,
            hosts.join(","),
            self.parameters
        )
    }

    /// Names the first node and has the client ask it for the others.
    pub fn discovering_connection_string(&self) -> String {
        format!(
            "kurrentdb+discover://{}{}?{}",
            self.credentials,
            self.inner.doors[0].address(),
            self.parameters
        )
    }

    /// By node.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.inner.doors.iter().map(|door| door.address()).collect()
    }

    /// Cuts off everybody who came by this entrance, and those who will.
    pub fn cut(&self, cut: Cut) {
        self.set(Some(cut));
    }

    /// Lets them in again.
    pub fn heal(&self) {
        self.set(None);
    }

    /// Resets the connections that were made by this entrance. New ones are let in.
    pub fn cut_connections(&self) {
        self.inner.doors.iter().for_each(|door| door.cut());
    }

    fn set(&self, cut: Option<Cut>) {
        let Some(shared) = self.shared.upgrade() else { return };
        let state = shared.lock();
        *self.inner.cut.lock().unwrap_or_else(PoisonError::into_inner) = cut;
        let nodes = state.nodes.iter().enumerate();
        let closing: Vec<Closing> = nodes
            .map(|(node, of_node)| self.inner.apply(node, of_node.power))
            .collect();
        drop(state);
        closing.into_iter().for_each(Closing::wait);
    }
}

impl fmt::Debug for Entrance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Entrance")
            .field("name", &self.inner.name)
            .field("addresses", &self.addresses())
            .finish()
    }
}

impl EntranceInner {
    /// Opens a way in. A `port_base` of 0 takes any ports that are free.
    pub(crate) fn open(shared: &Arc<Shared>, name: &str, port_base: u16) -> anyhow::Result<Entrance> {
        let mut doors = Vec::new();
        let mut to_be_served = Vec::new();
        for node in 0..shared.options.nodes {
            let port = if port_base == 0 {
                0
            } else {
                port_base + u16::try_from(node)?
            };
            let (door, connections) = Door::new(port, !shared.options.delayed_acknowledgements, &shared.runtime)?;
            doors.push(door);
            to_be_served.push(connections);
        }
        let inner = Arc::new(EntranceInner {
            name: name.to_owned(),
            doors,
            cut: Mutex::new(None),
        });
        for (node, connections) in to_be_served.into_iter().enumerate() {
            let service = NodeService::new(Arc::clone(shared), Arc::clone(&inner), node);
            let streams = with_tls(
                connections,
                shared.tls.as_ref().map(|tls| tls.acceptor.clone()),
                &shared.runtime,
            );
            shared.runtime.spawn(service.serve(streams));
        }
        let mut state = shared.lock();
        state.entrances.push(Arc::clone(&inner));
        let nodes = state.nodes.iter().enumerate();
        let closing: Vec<Closing> = nodes.map(|(node, of_node)| inner.apply(node, of_node.power)).collect();
        drop(state);
        closing.into_iter().for_each(Closing::wait);
        let credentials = shared.options.security.user.as_ref();
        let credentials = credentials
            .map(|(user, password)| format!("{user}:{password}@"))
            .unwrap_or_default();
        let parameters = match &shared.tls {
            Some(tls) => format!("tls=true&tlsCaFile={}", as_parameter(&tls.authority())),
            None => "tls=false".to_owned(),
        };
        Ok(Entrance {
            inner,
            shared: Arc::downgrade(shared),
            credentials,
            parameters,
        })
    }

    /// Brings a node's address in line with the state of the node and of this entrance.
    pub(crate) fn apply(&self, node: usize, power: Power) -> Closing {
        let cut = *self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        let access = match (power, cut) {
            (Power::Killed, _) | (_, Some(Cut::Reset)) => Access::Shut,
            (Power::Paused, _) | (_, Some(Cut::BlackHole)) => Access::Held,
            (Power::Up, None) => Access::Open,
        };
        match self.doors[node].set(access) {
            Ok(closing) => closing,
            Err(error) => panic!("node {node} cannot listen at entrance {} any more: {error}", self.name),
        }
    }
}

/// The connections as they are served.
fn with_tls(
    mut connections: mpsc::Receiver<Connection>,
    acceptor: Option<TlsAcceptor>,
    runtime: &tokio::runtime::Handle,
) -> ReceiverStream<std::io::Result<Stream>> {
    let (ready, served) = mpsc::channel(HANDSHAKES);
    runtime.spawn(async move {
        let slots = Arc::new(Semaphore::new(HANDSHAKES));
        while let Some(connection) = connections.recv().await {
            let Some(acceptor) = acceptor.clone() else {
                if ready.send(Ok(Stream::Plain(connection))).await.is_err() {
                    return;
                }
                continue;
            };
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let ready = ready.clone();
            tokio::spawn(async move {
                if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(connection)).await {
                    let _ = ready.send(Ok(Stream::Tls(Box::new(stream)))).await;
                }
                drop(slot);
            });
        }
    });
    ReceiverStream::new(served)
}
