//! What a connection's bytes travel through.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use socket2::SockRef;

use crate::engine::outbox::Outbox;

/// A connection's socket, and what lies between it and the bytes of HTTP and WebSocket.
pub struct Transport {
    socket: OwnedFd,
}

/// What one attempt to receive gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Not now.
    Nothing,
    /// The peer's end, or a failed socket: either way nothing comes any more.
    End,
}

impl Transport {
    /// Bytes as they are.
    pub fn plain(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Receive once into `room`, which is not empty.
    pub fn receive(&mut self, room: &mut [u8]) -> Received {
        receive(&self.socket, room, RecvFlags::empty())
    }

    /// Look at what the socket has, and leave it there.
    pub fn peek(&self, room: &mut [u8]) -> Received {
        receive(&self.socket, room, RecvFlags::PEEK)
    }

    /// Take what was seen off the socket, as much as `seen` holds.
    pub fn take(&self, seen: &mut [u8]) -> Received {
        receive(&self.socket, seen, RecvFlags::empty())
    }

    /// Send what waits, as far as the socket takes it; returns how many bytes left the outbox.
    pub fn write(&mut self, outbox: &mut Outbox) -> io::Result<usize> {
        outbox.write(self.socket.as_fd())
    }

    /// Receive and forget, once, into `room`: whether more may come.
    pub fn discard(&self, room: &mut [u8]) -> bool {
        receive(&self.socket, room, RecvFlags::empty()) != Received::End
    }

    /// See to it that closing the socket resets it. Without that the system would go on with what
    /// is not sent or not acknowledged, without a descriptor: for a minute, or for as long as the
    /// peer keeps its window shut.
    pub fn abort(&mut self) {
        // Fails only where TCP has ended already.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Close our half.
    pub fn shut(&mut self) {
        // Fails only where TCP has ended already, which the poller will say.
        let _ = shutdown(&self.socket, Shutdown::Write);
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn receive(socket: &OwnedFd, room: &mut [u8], flags: RecvFlags) -> Received {
    match recv(socket, room, flags).map(|(_, count)| count) {
        Ok(0) => Received::End,
        Ok(count) => Received::Bytes(count),
        Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
        Err(_) => Received::End,
    }
}
