//! Messages that are put together where they are sent.

/// Where the memory of a message is given back once it was sent.
const KEPT_BYTES: usize = 64 * 1024;

/// Puts messages together, one at a time, in memory that is kept.
#[derive(Debug, Default)]
pub struct Splicer {
    kept: Vec<u8>,
}

impl Splicer {
    /// These parts, one behind the other; to be [given back](Self::take_back).
    pub fn splice(&mut self, parts: &[&[u8]]) -> Vec<u8> {
        let mut message = std::mem::take(&mut self.kept);
        message.reserve_exact(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            message.extend_from_slice(part);
        }
        message
    }

    /// Keep the memory of a message for the next one.
    pub fn take_back(&mut self, mut message: Vec<u8>) {
        if message.capacity() <= KEPT_BYTES {
            message.clear();
            self.kept = message;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_its_parts_and_large_ones_are_not_kept() {
        let mut splicer = Splicer::default();
        for _ in 0..2 {
            let message = splicer.splice(&[b"one ", b"", b"two"]);
            assert_eq!(message, b"one two");
            splicer.take_back(message);
            assert!(splicer.kept.capacity() > 0);
        }
        let kept = splicer.splice(&[&vec![0; KEPT_BYTES / 2], &vec![0; KEPT_BYTES / 2]]);
        splicer.take_back(kept);
        assert_eq!(splicer.kept.capacity(), KEPT_BYTES);
        let large = splicer.splice(&[&vec![0; KEPT_BYTES + 1]]);
        splicer.take_back(large);
        assert_eq!(splicer.kept.capacity(), 0);
    }
}
