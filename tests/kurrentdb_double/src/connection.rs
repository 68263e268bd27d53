//! A connection that can be held or reset from outside.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

const OPEN: u8 = 0;
const HELD: u8 = 1;
const RESET: u8 = 2;

/// What can be done to a connection while it is served elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Handle {
    state: AtomicU8,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Handle {
    /// Nothing is read or written until it is opened again: the network, or the process, stands still.
    pub(crate) fn hold(&self) {
        self.change(HELD);
    }

    pub(crate) fn open(&self) {
        self.change(OPEN);
    }

    /// The end of it, for good.
    pub(crate) fn reset(&self) {
        self.state.store(RESET, Ordering::SeqCst);
        self.wake();
    }

    fn change(&self, to: u8) {
        let unless_reset = |state| (state != RESET).then_some(to);
        let _ = self
            .state
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, unless_reset);
        self.wake();
    }

    fn wake(&self) {
        self.reader.wake();
        self.writer.wake();
    }

    /// Ready when the connection is open; an error when it was reset. Wakes up again by the waker.
    fn poll_open(&self, waker: &AtomicWaker, context: &Context<'_>) -> Poll<io::Result<()>> {
        waker.register(context.waker());
        match self.state.load(Ordering::SeqCst) {
            OPEN => Poll::Ready(Ok(())),
            HELD => Poll::Pending,
            _ => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

/// A TCP connection and the handle by which it is held or reset.
#[derive(Debug)]
pub(crate) struct Connection {
    inner: TcpStream,
    handle: Arc<Handle>,
    acknowledges_at_once: bool,
}

impl Connection {
    pub(crate) fn new(inner: TcpStream, handle: Arc<Handle>, acknowledges_at_once: bool) -> Connection {
        Connection {
            inner,
            handle,
            acknowledges_at_once,
        }
    }

    pub(crate) fn handle(&self) -> Arc<Handle> {
        Arc::clone(&self.handle)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.handle.state.load(Ordering::SeqCst) == RESET {
            // The peer gets a reset and not an orderly end.
            let _ = SockRef::from(&self.inner).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.handle.poll_open(&this.handle.reader, context) {
            Poll::Ready(Ok(())) => {
                let read = Pin::new(&mut this.inner).poll_read(context, buffer);
                // The client leaves Nagle's algorithm on and writes an append in pieces: without an acknowledgement
                // at once it waits up to 40 ms before it sends the next one. Not permanent, so after every read.
                #[cfg(target_os = "linux")]
                if this.acknowledges_at_once && read.is_ready() {
                    let _ = this.inner.set_quickack(true);
                }
                read
            }
            other => other,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.handle.poll_open(&this.handle.writer, context) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.inner).poll_write(context, bytes),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.handle.poll_open(&this.handle.writer, context) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.inner).poll_shutdown(context),
            // Reset: there is nobody to say goodbye to.
            Poll::Ready(Err(_)) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.handle.poll_open(&this.handle.writer, context) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.inner).poll_write_vectored(context, slices),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
