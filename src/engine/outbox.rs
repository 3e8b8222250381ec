//! What waits to be sent to one peer.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::os::fd::BorrowedFd;

use bytes::Bytes;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

use crate::protocol::frame::MAX_HEADER_BYTES;
use crate::protocol::{Header, Opcode, encoder};

/// From this size on a payload for one peer is better queued by reference than copied.
pub const SHARE_FROM_BYTES: usize = 4096;

/// The first allocation for copied frames: a handful of small ones.
const CHUNK_START_BYTES: usize = 512;

/// Where copied frames stop growing one chunk and start the next.
const CHUNK_BYTES: usize = 16 * 1024;

/// What a chunk costs beside its bytes: its entry, in a queue that may be half empty. (The first
/// one has its place in the outbox, which is counted with the connection.)
const CHUNK_COST_BYTES: usize = 2 * size_of::<Chunk>();

/// Chunks that one system call takes.
const MAX_SLICES: usize = 64;

/// Where no more than this waits in several chunks it is copied and sent as one: the system takes
/// longer for a slice than we do for its bytes, as long as they are few.
const GATHERED_BYTES: usize = 4096;

/// The first room for chunks behind the first one: a batch of publications.
const CHUNKS: usize = 16;

/// How everything is sent. A peer that is gone must be an error, not a signal that ends the process.
/// Where the flag does not exist, Python's own setting (SIGPIPE ignored) does the same.
#[cfg(not(target_vendor = "apple"))]
pub const FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
#[cfg(target_vendor = "apple")]
pub const FLAGS: SendFlags = SendFlags::DONTWAIT;

/// A payload on its way to one peer.
#[derive(Debug)]
pub enum Outgoing<'a> {
    /// To be copied into the queue: small, and for one peer.
    Copy(&'a [u8]),
    /// Shared with other queues or with the caller.
    Share(Bytes),
}

impl Outgoing<'_> {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Copy(bytes) => bytes,
            Self::Share(bytes) => bytes,
        }
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Debug)]
enum Chunk {
    /// Frames of this peer alone, one behind the other.
    Own(Vec<u8>),
    /// A payload of this peer alone that the caller keeps.
    Lent(Bytes),
    /// A frame that waits for others too, and counts itself.
    Shared(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Lent(bytes) | Self::Shared(bytes) => bytes,
        }
    }

    /// What it costs to keep it, but for what is shared.
    fn held(&self) -> usize {
        match self {
            Self::Own(bytes) => CHUNK_COST_BYTES + bytes.capacity(),
            Self::Lent(bytes) => CHUNK_COST_BYTES + bytes.len(),
            Self::Shared(_) => CHUNK_COST_BYTES,
        }
    }
}

/// A queue of bytes; owns no memory while it is empty. Its bound is its owner's business.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The chunk that is sent next: most queues have no other, and need no memory for a list.
    first: Option<Chunk>,
    /// The chunks behind it; none if there is no first.
    rest: VecDeque<Chunk>,
    /// Bytes of the first chunk that are already sent.
    sent: usize,
    len: usize,
    held: usize,
}

impl Outbox {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes that are kept for it: chunks that are not sent to their end, without those shared.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queue the bytes, about `len` of them, that `write` appends to the vector it is given.
    pub fn append_with(&mut self, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(Chunk::Own(own)) = self.rest.back_mut().or(self.first.as_mut())
            && own.len() < CHUNK_BYTES
        {
            let (len, capacity) = (own.len(), own.capacity());
            write(own);
            self.len += own.len() - len;
            self.held += own.capacity() - capacity;
            return;
        }
        let mut own = Vec::with_capacity(len.max(CHUNK_START_BYTES));
        write(&mut own);
        self.push(Chunk::Own(own));
    }

    /// Queue a whole message as one frame; copies it.
    pub fn push_message(&mut self, opcode: Opcode, payload: &[u8]) {
        self.append_with(MAX_HEADER_BYTES + payload.len(), |own| {
            encoder::append_frame(own, opcode, payload);
        });
    }

    /// Queue a whole message as one frame; shares its payload with the caller.
    pub fn push_shared_message(&mut self, opcode: Opcode, payload: Bytes) {
        let header = Header::unmasked(opcode, payload.len() as u64);
        self.append_with(MAX_HEADER_BYTES, |own| header.encode(own));
        self.push(Chunk::Lent(payload));
    }

    /// Queue a frame that is shared with others.
    pub fn push_shared(&mut self, bytes: Bytes) {
        self.push(Chunk::Shared(bytes));
    }

    fn push(&mut self, chunk: Chunk) {
        self.len += chunk.bytes().len();
        self.held += chunk.held();
        if self.first.is_none() {
            self.first = Some(chunk);
        } else {
            if self.rest.capacity() == 0 {
                self.rest.reserve(CHUNKS);
            }
            self.rest.push_back(chunk);
        }
    }

    /// Put bytes in front of everything; nothing may have been sent of what waits.
    pub fn push_front(&mut self, bytes: Vec<u8>) {
        debug_assert_eq!(self.sent, 0);
        let chunk = Chunk::Own(bytes);
        self.len += chunk.bytes().len();
        self.held += chunk.held();
        if let Some(second) = self.first.replace(chunk) {
            self.rest.push_front(second);
        }
    }

    /// Drop everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Send as much as the socket takes; return how many bytes that was.
    ///
    /// A full socket is not an error: bytes are then left.
    pub fn write(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut total = 0;
        while !self.is_empty() {
            match self.write_once(socket) {
                Ok((count, offered)) => {
                    self.consume(count);
                    total += count;
                    if count < offered {
                        break;
                    }
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(total)
    }

    /// Return how many bytes were sent, and of how many.
    fn write_once(&self, socket: BorrowedFd<'_>) -> rustix::io::Result<(usize, usize)> {
        if self.rest.is_empty() {
            let slice = self.slices().next().unwrap_or_default();
            return Ok((send(socket, slice, FLAGS)?, slice.len()));
        }
        if self.len <= GATHERED_BYTES {
            let mut room = [0; GATHERED_BYTES];
            let bytes = self.copy_to(&mut room);
            return Ok((send(socket, bytes, FLAGS)?, bytes.len()));
        }
        let mut room = [IoSlice::new(&[]); MAX_SLICES];
        let slices = gather(self.slices(), &mut room);
        let offered = slices.iter().map(|slice| slice.len()).sum();
        Ok((send_slices(socket, slices)?, offered))
    }

    /// Move as much as `writer` takes at once there; return how many bytes that was.
    pub fn write_to(&mut self, writer: &mut impl Write) -> io::Result<usize> {
        let mut room = [IoSlice::new(&[]); MAX_SLICES];
        let count = writer.write_vectored(gather(self.slices(), &mut room))?;
        self.consume(count);
        Ok(count)
    }

    /// What waits, without what the first chunk has already sent; as much as one call takes.
    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let first = self.first.as_ref().and_then(|first| first.bytes().get(self.sent..));
        first.into_iter().chain(self.rest.iter().map(Chunk::bytes)).take(MAX_SLICES)
    }

    /// What waits, copied into `room`, as far as whole chunks have room there.
    pub fn copy_to<'r>(&self, room: &'r mut [u8]) -> &'r [u8] {
        let mut used = 0;
        for slice in self.slices() {
            let Some(place) = room.get_mut(used..used + slice.len()) else { break };
            place.copy_from_slice(slice);
            used += slice.len();
        }
        room.get(..used).unwrap_or_default()
    }

    /// Drop the first `count` bytes, which were sent.
    pub fn consume(&mut self, mut count: usize) {
        self.len -= count;
        while let Some(first) = &self.first {
            let rest = first.bytes().len() - self.sent;
            if count < rest {
                self.sent += count;
                return;
            }
            count -= rest;
            self.sent = 0;
            self.held -= first.held();
            self.first = self.rest.pop_front();
        }
        // Empty: what the list took is given back, if there was one.
        if self.rest.capacity() > 0 {
            self.rest = VecDeque::new();
        }
    }
}

/// Send slices with one call; a peer that is gone is an error.
pub fn send_slices(socket: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
    sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), FLAGS)
}

/// `slices` in the form that the system wants, as many as there is room for.
fn gather<'r, 's>(
    slices: impl Iterator<Item = &'s [u8]>,
    room: &'r mut [IoSlice<'s>; MAX_SLICES],
) -> &'r [IoSlice<'s>] {
    let mut used = 0;
    for (slot, slice) in room.iter_mut().zip(slices) {
        *slot = IoSlice::new(slice);
        used += 1;
    }
    room.get(..used).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn append(outbox: &mut Outbox, bytes: &[u8]) {
        outbox.append_with(bytes.len(), |own| own.extend_from_slice(bytes));
    }

    fn drain(outbox: &mut Outbox, expected: &[u8]) {
        let (here, mut there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let mut received = vec![0; expected.len()];
        let mut at = 0;
        while at < expected.len() {
            outbox.write(here.as_fd()).unwrap();
            let end = received.len().min(at + 50_000);
            at += there.read(&mut received[at..end]).unwrap();
        }
        assert!(received == expected);
        assert!(outbox.is_empty());
        assert_eq!(outbox.held(), 0);
        assert_eq!(outbox.rest.capacity(), 0, "an empty outbox owns nothing");
    }

    #[test]
    fn frames_leave_in_the_order_they_were_queued() {
        let mut outbox = Outbox::default();
        append(&mut outbox, b"one ");
        append(&mut outbox, b"two ");
        outbox.push_shared(Bytes::from_static(b"three "));
        append(&mut outbox, b"four");
        outbox.push_front(b"zero ".to_vec());
        assert_eq!(outbox.len(), 23);
        drain(&mut outbox, b"zero one two three four");
    }

    #[test]
    fn what_is_held_is_counted_but_for_what_is_shared() {
        let mut outbox = Outbox::default();
        outbox.push_shared(vec![b'x'; 100_000].into());
        assert_eq!((outbox.len(), outbox.held()), (100_000, CHUNK_COST_BYTES));
        outbox.push_shared_message(Opcode::Text, vec![b'x'; 50_000].into());
        outbox.push_message(Opcode::Text, &[b'x'; 3000]);
        assert!(outbox.held() > 53_000 + 4 * CHUNK_COST_BYTES);
        assert!(outbox.held() < 53_100 + 4 * CHUNK_COST_BYTES + CHUNK_START_BYTES);
        outbox.clear();
        assert_eq!(outbox.held(), 0);
    }

    #[test]
    fn a_full_socket_takes_the_rest_later_and_loses_nothing() {
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for n in 0..400_u32 {
            let frame = n.to_le_bytes().repeat(usize::try_from(n * 7 % 1500).unwrap() + 1);
            expected.extend_from_slice(&frame);
            if n % 3 == 0 {
                outbox.push_shared(frame.into());
            } else {
                append(&mut outbox, &frame);
            }
        }
        drain(&mut outbox, &expected);
    }

    #[test]
    fn a_closed_peer_is_an_error() {
        let (here, there) = UnixStream::pair().unwrap();
        drop(there);
        let mut outbox = Outbox::default();
        append(&mut outbox, b"x");
        assert_eq!(outbox.write(here.as_fd()).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
