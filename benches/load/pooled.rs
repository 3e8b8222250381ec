//! Memory for messages that arrive in pieces, used again and again.

use std::cell::RefCell;

use rakit_ws_core::protocol::MessageBuffer;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A message buffer whose memory comes from those that were dropped before: after the warm-up a
/// large message costs no allocation and no page fault.
#[derive(Debug, Default)]
pub struct Pooled {
    bytes: Vec<u8>,
    len: usize,
}

impl Pooled {
    /// What has arrived.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl MessageBuffer for Pooled {
    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn room(&mut self, at_least: usize, expected: usize) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        // The length stays where it once was: no byte is cleared twice.
        let end = expected.max(self.len + at_least);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.len..end]
    }

    fn advance(&mut self, count: usize) {
        self.len += count;
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            SPARE.with_borrow_mut(|spare| spare.push(std::mem::take(&mut self.bytes)));
        }
    }
}
