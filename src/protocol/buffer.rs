//! Where the payload of a message grows that did not arrive in one piece.

/// How far a buffer may be ahead of what has arrived while that is little, whatever the header
/// claims; later it may double.
const HEADROOM_BYTES: usize = 4 * 1024;

/// A payload under way. The engine lets its caller choose the memory: bytes that Python can take
/// over without a copy are made by `python`, plain ones are a [`GrowingBuffer`].
///
/// The first [`len`](Self::len) bytes have arrived; behind them is room, already initialised.
pub trait MessageBuffer: Default {
    /// How many bytes have arrived.
    fn len(&self) -> usize;

    /// Whether none has.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes are allocated.
    fn capacity(&self) -> usize;

    /// Make room for at least so many bytes more and return all the room there is.
    ///
    /// `expected` is what the message will hold in the end as far as is known; at most that is
    /// returned. What is allocated never passes [`capacity_for`]: a header that claims a megabyte
    /// costs nothing, and what follows it at most twice what has arrived, plus 4 KiB.
    fn room(&mut self, at_least: usize, expected: usize) -> &mut [u8];

    /// Declare the first `count` bytes of the room arrived.
    fn advance(&mut self, count: usize);

    /// Copy `bytes` behind what has arrived.
    fn append(&mut self, bytes: &[u8], expected: usize) {
        if bytes.is_empty() {
            return;
        }
        if let Some(target) = self.room(bytes.len(), expected).get_mut(..bytes.len()) {
            target.copy_from_slice(bytes);
        }
        self.advance(bytes.len());
    }
}

/// The capacity a buffer should have when `len` bytes have arrived of `expected`: twice what is
/// there or 4 KiB more, and beyond what is expected only as far as it has arrived.
pub fn capacity_for(len: usize, expected: usize) -> usize {
    expected.min((2 * len).max(len + HEADROOM_BYTES)).max(len)
}

/// A [`MessageBuffer`] in a `Vec`.
#[derive(Debug, Default)]
pub struct GrowingBuffer {
    bytes: Vec<u8>,
    len: usize,
}

impl GrowingBuffer {
    /// What has arrived, without the room behind it.
    pub fn into_vec(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
    }
}

impl MessageBuffer for GrowingBuffer {
    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn room(&mut self, at_least: usize, expected: usize) -> &mut [u8] {
        if self.bytes.len() < self.len + at_least {
            let capacity = capacity_for(self.len + at_least, expected);
            self.bytes.reserve_exact(capacity - self.len);
            self.bytes.resize(capacity, 0);
        }
        let end = self.bytes.len().min(expected.max(self.len + at_least));
        self.bytes.get_mut(self.len..end).unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        self.len += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_comes_out() {
        let mut buffer = GrowingBuffer::default();
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        for piece in bytes.chunks(777) {
            buffer.append(piece, bytes.len());
        }
        assert_eq!(buffer.len(), bytes.len());
        assert_eq!(buffer.into_vec(), bytes);
    }

    #[test]
    fn a_claim_alone_allocates_no_more_than_the_headroom() {
        let mut buffer = GrowingBuffer::default();
        buffer.append(b"x", 1 << 30);
        assert!(buffer.bytes.capacity() <= 2 * HEADROOM_BYTES);
    }

    #[test]
    fn room_never_reaches_beyond_what_is_expected() {
        let mut buffer = GrowingBuffer::default();
        assert_eq!(buffer.room(1, 10).len(), 10);
        buffer.advance(4);
        assert_eq!(buffer.room(1, 10).len(), 6);
    }
}
