//! Compressing whole messages (RFC 7692 §7.2.1).

use std::fmt;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Status};

use super::TAIL;

/// The smallest window that the compressor has.
const LEAST_WINDOW_BITS: u8 = 9;

/// A compressor with its window and tables: some hundred kilobytes, see docs/compression.md.
pub struct Deflater {
    deflate: Deflate,
    config: DeflateConfig,
    takes_over: bool,
    held: usize,
}

impl Deflater {
    /// A compressor with a window of 2^`window_bits` bytes (8 to 15), at `level` 1 (fast) to 9.
    ///
    /// `memory_level` 1 to 9 is the size of its tables. With `takes_over` a message may refer to
    /// the one before, so that each must reach the same peer, in this order.
    pub fn new(window_bits: u8, level: u8, memory_level: u8, takes_over: bool) -> Self {
        // A window of 256 bytes is made by one of 512: a match never begins farther back than the
        // window less 262 bytes (zlib's MAX_DIST), so 250, which is within the smaller one.
        let window_bits = window_bits.clamp(LEAST_WINDOW_BITS, super::MAX_WINDOW_BITS);
        let config = DeflateConfig {
            window_bits: -i32::from(window_bits),
            level: i32::from(level.clamp(1, 9)),
            mem_level: i32::from(memory_level.clamp(1, 9)),
            ..DeflateConfig::default()
        };
        // Window and chains, the hash table (of a fixed size in zlib-rs), output and symbols.
        let held = (1 << (window_bits + 2)) + 128 * 1024 + (7 << (memory_level.clamp(1, 9) + 6));
        Self { deflate: Deflate::new_with_config(config), config, takes_over, held }
    }

    /// About how many bytes it holds.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Compress a message into the front of `out`; return how many bytes that are.
    ///
    /// `None` where they would not be fewer than the message has: it is to be sent as it is. With
    /// context takeover they may be some more, since later messages gain by it. `out` is made large
    /// enough, and what it holds beyond means nothing.
    pub fn compress(&mut self, message: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        if !self.takes_over {
            self.deflate.reset();
        }
        let most = bound(message.len());
        if out.len() < most {
            out.resize(most, 0);
        }
        let room = out.get_mut(..most)?;
        let before = (self.deflate.total_in(), self.deflate.total_out());
        let result = self.deflate.compress(message, room, DeflateFlush::SyncFlush);
        let taken = self.deflate.total_in() - before.0;
        let written = usize::try_from(self.deflate.total_out() - before.1).ok()?;
        // A flush that has filled all its room may have more to say.
        if result != Ok(Status::Ok) || taken != message.len() as u64 || written >= most {
            // Not reset: zlib-rs 0.6.8 does not forget what had no room. The peer will not see
            // what this has put into the window.
            self.deflate = Deflate::new_with_config(self.config);
            return None;
        }
        let compressed = written.checked_sub(TAIL.len())?;
        (self.takes_over || compressed < message.len()).then_some(compressed)
    }
}

/// More than any message of `len` bytes becomes: nine bits for a byte, which is what the quick level
/// makes of the worst, headers of blocks, and the flush.
const fn bound(len: usize) -> usize {
    len + len / 8 + len / 64 + 64
}

impl fmt::Debug for Deflater {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Deflater")
            .field("takes_over", &self.takes_over)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compressed(deflater: &mut Deflater, message: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let len = deflater.compress(message, &mut out)?;
        out.truncate(len);
        Some(out)
    }

    fn inflated(message: &[u8]) -> Vec<u8> {
        let mut inflate = zlib_rs::Inflate::new(false, 15);
        let mut output = vec![0; 100_000];
        let input = [message, &TAIL].concat();
        inflate.decompress(&input, &mut output, zlib_rs::InflateFlush::SyncFlush).unwrap();
        output.truncate(usize::try_from(inflate.total_out()).unwrap());
        output
    }

    #[test]
    fn what_does_not_get_smaller_is_left_as_it_is() {
        let mut deflater = Deflater::new(15, 6, 8, false);
        assert_eq!(compressed(&mut deflater, b""), None);
        assert_eq!(compressed(&mut deflater, b"Hello"), None);
        let noise: Vec<u8> =
            (0..2000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        assert_eq!(compressed(&mut deflater, &noise[..40]), None);
        assert!(compressed(&mut deflater, &[b'a'; 100]).unwrap().len() < 10);
    }

    #[test]
    fn without_takeover_equal_messages_give_equal_bytes() {
        let mut deflater = Deflater::new(15, 6, 8, false);
        let message = br#"{"type":"channel","channel":"chat","data":{"channel":"chat"}}"#;
        let first = compressed(&mut deflater, message).unwrap();
        assert_eq!(compressed(&mut deflater, message).unwrap(), first);
        assert_eq!(inflated(&first), message);
    }

    #[test]
    fn with_takeover_a_repeated_message_is_tiny_and_noise_little_larger() {
        let mut deflater = Deflater::new(15, 6, 8, true);
        let message = b"0123456789 and so on, whatever else is in here";
        let first = compressed(&mut deflater, message);
        assert!(first.is_some());
        assert!(compressed(&mut deflater, message).unwrap().len() < 12);
        let noise: Vec<u8> = (0..5000_u32)
            .map(|n| n.wrapping_mul(n).wrapping_mul(2_654_435_761).to_be_bytes()[1])
            .collect();
        let with_headers = compressed(&mut deflater, &noise).map(|bytes| bytes.len());
        assert!(with_headers.is_some_and(|len| len <= noise.len() + 16), "{with_headers:?}");
    }

    /// zlib-rs 0.6.8 forgets, when it is reset, where in its buffer the output began that had no
    /// room: a few such messages, and it panics.
    #[test]
    fn messages_that_are_not_worth_it_leave_nothing_behind() {
        let noise: Vec<u8> = (0..100_000_u32)
            .map(|n| n.wrapping_mul(n).wrapping_mul(2_654_435_761).to_be_bytes()[1])
            .collect();
        for level in 1..=9 {
            for takes_over in [false, true] {
                let mut deflater = Deflater::new(15, level, 8, takes_over);
                for size in (1..33).map(|n| n * 3001) {
                    if let Some(bytes) = compressed(&mut deflater, &noise[..size]) {
                        assert!(bytes.len() < bound(size));
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_setting_gives_back_the_message_in_fewer_bytes(
            bits in 8..=15_u8,
            level in 1..=9_u8,
            memory_level in 1..=9_u8,
            seed in prop::collection::vec(any::<u8>(), 1..700),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let mut message = seed.clone();
            for index in order {
                message.extend_from_slice(&seed[index.index(seed.len())..]);
            }
            let mut deflater = Deflater::new(bits, level, memory_level, false);
            if let Some(bytes) = compressed(&mut deflater, &message) {
                prop_assert!(bytes.len() < message.len());
                prop_assert_eq!(inflated(&bytes), message);
            }
        }
    }
}
