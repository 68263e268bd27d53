//! Small messages leave at once.
//!
//! The client leaves Nagle's algorithm on and sends each call in pieces: the head, the body, the end. With a server
//! that puts off its acknowledgements for 40 ms, as Linux does, each piece but the first waits for so long when nothing
//! else is going on. The client offers no way to its sockets, so they are found among the process's own
//! (docs/decisions/0020).

use filedescriptor::FileDescriptor;
use socket2::SockRef;
use std::fs;
use std::io;
use std::os::fd::RawFd;

/// Sets `TCP_NODELAY` on every TCP connection of this process that has not got it: it does no harm to others, which set
/// it themselves. Answers with how many these were; none where the system does not tell of open files.
pub(super) fn send_at_once() -> usize {
    let Ok(open) = fs::read_dir("/proc/self/fd") else {
        return 0;
    };
    open.flatten()
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|what| what.to_string_lossy().starts_with("socket:")))
        .filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok())
        .filter(|number| set_on(*number).unwrap_or(false))
        .count()
}

/// Whether it had to be set. The number may have become another file's meanwhile; that is no connection, or one that
/// may have it, too.
fn set_on(number: RawFd) -> io::Result<bool> {
    let copy = FileDescriptor::dup(&number).map_err(io::Error::other)?;
    let socket = SockRef::from(&copy);
    socket.peer_addr()?;
    if socket.tcp_nodelay()? {
        return Ok(false);
    }
    socket.set_tcp_nodelay(true)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_that_nobody_gives_us_sends_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!connection.nodelay().unwrap());
        assert!(send_at_once() >= 1);
        assert!(connection.nodelay().unwrap());
    }
}
