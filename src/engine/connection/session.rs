//! TLS with one peer.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::os::fd::BorrowedFd;

use rustix::net::RecvFlags;
use rustls::ServerConnection;

use crate::engine::outbox::{Outbox, send_slices};
use crate::engine::tls::TlsSettings;

use super::transport::{Fault, Received, receive};

/// Encrypted bytes that may wait for a full socket. What waits beyond them stays in the outbox,
/// where it is counted, so this is little.
const MAX_UNSENT_BYTES: usize = 32 * 1024;

/// What an idle session holds, with what rustls keeps to receive into (benches/tls.py).
const IDLE_BYTES: usize = 8 * 1024;

/// The most that is kept of what came: a record that is decrypted, and the beginning of the next.
const MAX_KEPT_BYTES: usize = 2 * (16 * 1024 + 256);

/// Methods of HTTP by which a peer that forgot about TLS is known.
const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"PUT ",
    b"OPTIONS ",
    b"DELETE ",
    b"CONNECT ",
    b"PATCH ",
    b"TRACE ",
];

/// What rustls keeps of one connection, and what this engine must know beside it.
///
/// It holds no bytes of a message longer than it must: what is decrypted goes to the caller at
/// once, and only what his room does not take waits here, less than one record (16 KiB). rustls
/// keeps 4 KiB to receive into.
#[allow(clippy::struct_excessive_bools)] // Each is of its own.
pub struct Session {
    tls: ServerConnection,
    /// The first bytes that came.
    first: FirstBytes,
    /// Decrypted bytes wait for room.
    has_plaintext: bool,
    /// The peer has said that nothing comes any more.
    is_ended: bool,
    /// Whether the peer's hello was answered.
    is_answered: bool,
    /// Encrypted bytes that the socket did not take.
    unsent: usize,
    /// Bytes that came and were not given: the beginning of a record, what is decrypted, and what
    /// encryption adds to the last records.
    kept: usize,
    /// Whether the last receive took no more than it could: the socket may have more.
    is_filled: bool,
    /// To be reported once what came before it is read.
    fault: Option<Fault>,
}

impl Session {
    /// The server's side, at its beginning.
    pub fn new(settings: &TlsSettings) -> io::Result<Self> {
        let tls = ServerConnection::new(settings.config.clone());
        let mut tls = tls.map_err(io::Error::other)?;
        tls.set_buffer_limit(Some(MAX_UNSENT_BYTES));
        Ok(Self {
            tls,
            first: FirstBytes::default(),
            has_plaintext: false,
            is_ended: false,
            is_answered: false,
            unsent: 0,
            kept: 0,
            is_filled: false,
            fault: None,
        })
    }

    /// Whether nothing can be said yet.
    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether the peer has said anything.
    pub fn has_begun(&self) -> bool {
        !self.first.bytes().is_empty()
    }

    /// Whether receiving has something to say, whatever the socket has.
    pub fn has_more(&self) -> bool {
        self.has_plaintext || self.is_ended || self.fault.is_some()
    }

    /// Whether encrypted bytes wait for the socket.
    pub fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Bytes that it holds of this process.
    pub fn held(&self) -> usize {
        IDLE_BYTES + self.unsent + self.kept
    }

    /// Whether the socket may have more than was received of it last.
    pub fn is_filled(&self) -> bool {
        self.is_filled
    }

    /// What has failed, once.
    pub fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    /// Give what is decrypted; if nothing is, receive once through `wire` and decrypt that.
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        room: &mut [u8],
        wire: &mut [u8],
    ) -> Received {
        if self.has_plaintext {
            let given = self.give(room);
            self.kept = self.kept.saturating_sub(given);
            return Received::Bytes(given);
        }
        if self.fault.is_some() {
            return Received::Failed;
        }
        if self.is_ended {
            return Received::End;
        }
        // No more than `room` takes, so that what waits afterwards is less than a record.
        let most = room.len().min(wire.len());
        let wire = wire.get_mut(..most).unwrap_or_default();
        self.is_filled = false;
        match receive(socket, wire, RecvFlags::empty()) {
            Received::Bytes(count) => {
                self.is_filled = count == most;
                self.take(wire.get(..count).unwrap_or_default(), room)
            }
            nothing_or_end => nothing_or_end,
        }
    }

    /// Take what came over the wire, and decrypt it into `room`.
    fn take(&mut self, mut wire: &[u8], room: &mut [u8]) -> Received {
        self.first.note(wire);
        let came = wire.len();
        let mut given = 0;
        while !wire.is_empty() && self.fault.is_none() && !self.is_ended {
            if let Err(fault) = self.take_some(&mut wire) {
                self.fault = Some(fault);
            }
            given += self.give(room.get_mut(given..).unwrap_or_default());
        }
        self.shrink();
        self.kept = (self.kept + came).min(MAX_KEPT_BYTES);
        if given > 0 {
            // Of what came before, nothing is left.
            self.kept = self.kept.saturating_sub(given).min(came);
            return Received::Bytes(given);
        }
        if self.fault.is_some() {
            return Received::Failed;
        }
        if self.is_ended {
            return Received::End;
        }
        if !self.is_answered && self.tls.wants_write() {
            self.is_answered = true;
            return Received::Hello;
        }
        Received::Part
    }

    /// Give up what was needed for a large record and is empty now: it would be kept until more
    /// comes (benches/tls.py, after a message of 64 KiB: 21 -> 9 kB).
    fn shrink(&mut self) {
        let nothing = self.tls.read_tls(&mut NotNow);
        debug_assert!(nothing.is_err() || self.is_ended, "it was not now, or the end");
    }

    /// Feed rustls as much as it takes at once, which is 4 KiB.
    fn take_some(&mut self, wire: &mut &[u8]) -> Result<(), Fault> {
        self.tls.read_tls(wire).map_err(|error| Fault::Tls(error.to_string()))?;
        match self.tls.process_new_packets() {
            Ok(state) => self.is_ended = state.peer_has_closed(),
            Err(_) if self.first.are_http() => return Err(Fault::PlainHttp),
            Err(error) => return Err(Fault::Tls(error.to_string())),
        }
        Ok(())
    }

    /// Move what is decrypted into `room`; returns how many bytes that was.
    fn give(&mut self, room: &mut [u8]) -> usize {
        let mut reader = self.tls.reader();
        // An error says that nothing is there, or that nothing will be.
        let count = if room.is_empty() { 0 } else { reader.read(room).unwrap_or(0) };
        self.has_plaintext = reader.fill_buf().is_ok_and(|rest| !rest.is_empty());
        count
    }

    /// Send what waits, as far as the socket takes it; returns how many bytes left the outbox.
    ///
    /// No more is encrypted than the socket may take, so that the outbox stays the queue.
    pub fn write(&mut self, socket: BorrowedFd<'_>, outbox: &mut Outbox) -> io::Result<usize> {
        let mut total = 0;
        while self.flush(socket)? && !outbox.is_empty() && !self.tls.is_handshaking() {
            total += outbox.write_to(&mut self.tls.writer())?;
        }
        Ok(total)
    }

    /// Send what is encrypted. False if the socket does not take everything.
    fn flush(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        let mut wire = Wire { socket, is_full: false };
        while self.tls.wants_write() && !wire.is_full {
            self.tls.write_tls(&mut wire)?;
        }
        self.unsent = self.count_unsent();
        Ok(self.unsent == 0)
    }

    fn count_unsent(&mut self) -> usize {
        if !self.tls.wants_write() {
            return 0;
        }
        // There is nothing to process: this is how rustls is asked. Where it has failed, an alert.
        self.tls.process_new_packets().map_or(1, |state| state.tls_bytes_to_write().max(1))
    }

    /// Send `close_notify` (RFC 8446 §6.1). False if the socket does not take everything.
    pub fn say_goodbye(&mut self, socket: BorrowedFd<'_>) -> bool {
        self.tls.send_close_notify(); // Once, however often it is called.
        self.flush(socket).unwrap_or(true)
    }
}

/// A socket that has nothing: reading makes rustls look at its buffer, and nothing more.
struct NotNow;

impl io::Read for NotNow {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// A socket to write to, until it is full.
struct Wire<'a> {
    socket: BorrowedFd<'a>,
    is_full: bool,
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        match send_slices(self.socket, slices) {
            Ok(count) => {
                self.is_full = count < offered;
                Ok(count)
            }
            Err(rustix::io::Errno::AGAIN) => {
                self.is_full = true;
                Ok(0)
            }
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What came first, to know HTTP by: as many bytes as the longest method has.
#[derive(Default)]
struct FirstBytes {
    bytes: [u8; 8],
    len: u8,
}

impl FirstBytes {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn note(&mut self, wire: &[u8]) {
        let room = self.bytes.iter_mut().skip(usize::from(self.len));
        for (slot, byte) in room.zip(wire) {
            *slot = *byte;
            self.len += 1;
        }
    }

    /// Whether they are a method and what follows it, as far as they go. No record of TLS begins
    /// with a letter, and rustls refuses one after five bytes.
    fn are_http(&self) -> bool {
        let bytes = self.bytes();
        METHODS.iter().any(|method| bytes.starts_with(method) || method.starts_with(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_http(pieces: &[&[u8]]) -> bool {
        let mut first = FirstBytes::default();
        for piece in pieces {
            first.note(piece);
        }
        first.are_http()
    }

    #[test]
    fn http_is_known_by_its_method_however_it_was_cut() {
        assert!(are_http(&[b"GET / HTTP/1.1\r\n"]));
        assert!(are_http(&[b"G", b"E", b"T", b" ", b"/"]));
        assert!(are_http(&[b"OPTIONS * HTTP/1.1\r\n"]));
        assert!(are_http(&[b"OPTIO"]), "as far as it goes");
        assert!(!are_http(&[b"GETTING"]));
        assert!(!are_http(&[b"PROXY TCP4"]));
        assert!(!are_http(&[b"\x16\x03\x01\x02\x00"]));
    }
}
