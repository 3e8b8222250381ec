//! What a connection's bytes travel through: the socket as it is, or TLS.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use socket2::SockRef;

use crate::engine::outbox::Outbox;
use crate::engine::tls::TlsSettings;

use super::session::Session;

/// A connection's socket, and what lies between it and the bytes of HTTP and WebSocket.
pub struct Transport {
    socket: OwnedFd,
    /// TLS, unless bytes travel as they are. What may come in front of it on the wire (the PROXY
    /// protocol) is read from the socket before the first `receive`.
    tls: Option<Box<Session>>,
}

/// What one attempt to receive gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Something, of which no byte can be read yet: a part of a TLS record.
    Part,
    /// A TLS handshake that can be answered: the costly part of it is done.
    Hello,
    /// Not now.
    Nothing,
    /// The peer's end, or a failed socket: either way nothing comes any more.
    End,
    /// What came is not TLS, or TLS that was tampered with: see [`Transport::fault`].
    Failed,
}

/// Why TLS with a peer has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It speaks HTTP without TLS.
    PlainHttp,
    /// Anything else, for a person.
    Tls(String),
}

impl Transport {
    /// Bytes as they are.
    pub fn plain(socket: OwnedFd) -> Self {
        Self { socket, tls: None }
    }

    /// TLS, whose handshake is to come.
    pub fn tls(socket: OwnedFd, settings: &TlsSettings) -> io::Result<Self> {
        Ok(Self { socket, tls: Some(Box::new(Session::new(settings)?)) })
    }

    /// Whether bytes are encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the TLS handshake is not done, so that nothing can be said yet.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether a TLS handshake was begun and is not done.
    pub fn is_in_handshake(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking() && tls.has_begun())
    }

    /// Receive once into `room`, which is not empty; through `wire`, where that is encrypted.
    pub fn receive(&mut self, room: &mut [u8], wire: &mut [u8]) -> Received {
        match &mut self.tls {
            None => receive(self.socket.as_fd(), room, RecvFlags::empty()),
            Some(tls) => tls.receive(self.socket.as_fd(), room, wire),
        }
    }

    /// Look at what the socket has, and leave it there: it may come in front of TLS.
    pub fn peek(&self, room: &mut [u8]) -> Received {
        receive(self.socket.as_fd(), room, RecvFlags::PEEK)
    }

    /// Take what was seen off the socket, as much as `seen` holds.
    pub fn take(&self, seen: &mut [u8]) -> Received {
        receive(self.socket.as_fd(), seen, RecvFlags::empty())
    }

    /// Whether a receive that gave `count` of `most` bytes may have left some in the socket.
    pub fn may_have_left(&self, count: usize, most: usize) -> bool {
        self.tls.as_ref().map_or(count == most, |tls| tls.is_filled())
    }

    /// Bytes that it holds of this process, beside the socket.
    pub fn held(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.held())
    }

    /// Whether [`receive`](Self::receive) has something to say without anything new from the peer.
    pub fn has_more(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_more())
    }

    /// Send what waits, as far as the socket takes it; returns how many bytes left the outbox.
    pub fn write(&mut self, outbox: &mut Outbox) -> io::Result<usize> {
        match &mut self.tls {
            None => outbox.write(self.socket.as_fd()),
            Some(tls) => tls.write(self.socket.as_fd(), outbox),
        }
    }

    /// Whether bytes wait that are not in the outbox any more, or never were: TLS's own.
    pub fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Receive and forget, once, into `room`: whether more may come. Nothing can be received after.
    pub fn discard(&self, room: &mut [u8]) -> bool {
        receive(self.socket.as_fd(), room, RecvFlags::empty()) != Received::End
    }

    /// See to it that closing the socket resets it. Without that the system would go on with what
    /// is not sent or not acknowledged, without a descriptor: for a minute, or for as long as the
    /// peer keeps its window shut.
    pub fn abort(&mut self) {
        // Fails only where TCP has ended already.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Say that nothing comes any more, and close our half. False while what says so waits for the
    /// socket, which must then be written first.
    pub fn shut(&mut self) -> bool {
        let said = self.tls.as_mut().is_none_or(|tls| tls.say_goodbye(self.socket.as_fd()));
        if said {
            // Fails only where TCP has ended already, which the poller will say.
            let _ = shutdown(&self.socket, Shutdown::Write);
        }
        said
    }

    /// What [`Received::Failed`] was about. Where the peer speaks no TLS at all, it is spoken to as
    /// it speaks from now on.
    pub fn fault(&mut self) -> Fault {
        let fault = self.tls.as_mut().and_then(|tls| tls.take_fault());
        if fault == Some(Fault::PlainHttp) {
            self.tls = None;
        }
        fault.unwrap_or_else(|| Fault::Tls("unknown".to_owned()))
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Receive once, as it comes.
pub fn receive(socket: BorrowedFd<'_>, room: &mut [u8], flags: RecvFlags) -> Received {
    match recv(socket, room, flags).map(|(_, count)| count) {
        Ok(0) => Received::End,
        Ok(count) => Received::Bytes(count),
        Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
        Err(_) => Received::End,
    }
}
