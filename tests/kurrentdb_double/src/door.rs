//! The address of a node: a port that stays taken while nobody listens on it, and the connections made to it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc as std_mpsc};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::connection::{Connection, Handle};

/// Connections that wait to be accepted by the kernel, and then to be served.
const BACKLOG: i32 = 1024;
const WAITING_TO_BE_SERVED: usize = 64;

/// How long the end of a listener is waited for.
const CLOSING: Duration = Duration::from_secs(10);

/// What comes to those who knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// They are served.
    Open,
    /// They are connected and hear nothing; what is connected stands still.
    Held,
    /// They are refused; what was connected is reset.
    Shut,
}

/// One address of one node.
pub(crate) struct Door {
    address: SocketAddr,
    /// Bound and never listening: keeps the port from everybody else while the door is shut.
    _reservation: Socket,
    acknowledges_at_once: bool,
    inner: Mutex<Inner>,
    runtime: tokio::runtime::Handle,
}

struct Inner {
    access: Access,
    listening: Option<Listening>,
    connections: Vec<Weak<Handle>>,
    accepted: mpsc::Sender<Connection>,
}

struct Listening {
    task: JoinHandle<()>,
    ended: std_mpsc::Receiver<()>,
}

/// A door that is being shut: from the end of the wait on nobody is let in. Whoever waits must hold no lock that those
/// who are served may want: the listener ends on their threads.
#[must_use]
pub(crate) struct Closing(Option<std_mpsc::Receiver<()>>);

impl Closing {
    pub(crate) fn wait(self) {
        if let Some(ended) = self.0 {
            // Answers by being dropped with the task.
            let _ = ended.recv_timeout(CLOSING);
        }
    }
}

impl Door {
    /// Shut at first. What is accepted comes out of the receiver. A port of 0 takes any that is free.
    pub(crate) fn new(
        port: u16,
        acknowledges_at_once: bool,
        runtime: &tokio::runtime::Handle,
    ) -> io::Result<(Arc<Door>, mpsc::Receiver<Connection>)> {
        let reservation = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let address = reservation
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let (accepted, to_be_served) = mpsc::channel(WAITING_TO_BE_SERVED);
        let inner = Inner {
            access: Access::Shut,
            listening: None,
            connections: Vec::new(),
            accepted,
        };
        let door = Door {
            address,
            _reservation: reservation,
            acknowledges_at_once,
            inner: Mutex::new(inner),
            runtime: runtime.clone(),
        };
        Ok((Arc::new(door), to_be_served))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Done when what it returns has been waited for: from then on nobody is let in who should not be.
    pub(crate) fn set(self: &Arc<Door>, access: Access) -> io::Result<Closing> {
        let mut inner = self.lock();
        inner.access = access;
        for connection in inner.connections.iter().filter_map(Weak::upgrade) {
            match access {
                Access::Open => connection.open(),
                Access::Held => connection.hold(),
                Access::Shut => connection.reset(),
            }
        }
        match (access, inner.listening.is_some()) {
            (Access::Shut, true) => {
                if let Some(listening) = inner.listening.take() {
                    listening.task.abort();
                    return Ok(Closing(Some(listening.ended)));
                }
            }
            (Access::Open | Access::Held, false) => {
                let listener = self.listen()?;
                let (end, ended) = std_mpsc::channel();
                let accepting = Arc::downgrade(self);
                let task = self.runtime.spawn(async move {
                    accept(listener, &accepting).await;
                    drop(end);
                });
                inner.listening = Some(Listening { task, ended });
            }
            _ => {}
        }
        Ok(Closing(None))
    }

    /// Resets what is connected now; new connections are as welcome as before.
    pub(crate) fn cut(&self) {
        for connection in self
            .lock()
            .connections
            .drain(..)
            .filter_map(|connection| connection.upgrade())
        {
            connection.reset();
        }
    }

    fn listen(&self) -> io::Result<TcpListener> {
        let socket = bind(self.address)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let _in_runtime = self.runtime.enter();
        TcpListener::from_std(socket.into())
    }

    /// Registers a connection that was accepted; `None` when the door was shut meanwhile.
    fn admit(&self, stream: tokio::net::TcpStream) -> Option<(Connection, mpsc::Sender<Connection>)> {
        let mut inner = self.lock();
        let handle = Arc::new(Handle::default());
        match inner.access {
            Access::Open => {}
            Access::Held => handle.hold(),
            Access::Shut => handle.reset(),
        }
        let connection = Connection::new(stream, Arc::clone(&handle), self.acknowledges_at_once);
        if inner.access == Access::Shut {
            return None;
        }
        inner.connections.retain(|connection| connection.strong_count() > 0);
        inner.connections.push(Arc::downgrade(&handle));
        Some((connection, inner.accepted.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(listening) = inner.listening.take() {
            listening.task.abort();
        }
    }
}

async fn accept(listener: TcpListener, door: &Weak<Door>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, say: not for long.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let Some(door) = door.upgrade() else { return };
        if let Some((connection, accepted)) = door.admit(stream) {
            drop(door);
            if accepted.send(connection).await.is_err() {
                return;
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // So that the listener can be bound beside the reservation.
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
