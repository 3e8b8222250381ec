//! UTF-8 validation of text that arrives in pieces (RFC 6455 §5.6, §8.1).

use super::close::Failure;

/// Whether a whole text is valid.
pub fn is_valid(text: &[u8]) -> bool {
    simdutf8::basic::from_utf8(text).is_ok()
}

/// What is kept between the pieces of one text: at most three bytes of a character's beginning.
///
/// Invalid text is refused at the byte that proves it: an incomplete character is only waited for
/// while some continuation would make it valid.
#[derive(Debug, Default, Clone)]
pub struct Utf8Stream {
    pending: [u8; 4],
    pending_len: usize,
}

impl Utf8Stream {
    /// Take the next piece; fail with 1007 as soon as the text cannot become valid any more.
    pub fn receive(&mut self, piece: &[u8]) -> Result<(), Failure> {
        let rest = self.complete_pending(piece)?;
        match simdutf8::compat::from_utf8(rest) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(Failure::invalid_utf8()),
            Err(error) => {
                self.keep(rest.get(error.valid_up_to()..).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// The text ends here; fail with 1007 if it ends inside a character. Ready for the next text.
    pub fn finish(&mut self) -> Result<(), Failure> {
        match std::mem::take(&mut self.pending_len) {
            0 => Ok(()),
            _ => Err(Failure::invalid_utf8()),
        }
    }

    /// Give bytes of `piece` to the character that was cut; return the bytes behind it.
    fn complete_pending<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], Failure> {
        let mut rest = piece;
        while self.pending_len > 0 {
            let Some((&byte, behind)) = rest.split_first() else { break };
            rest = behind;
            let end = self.pending_len;
            if let Some(slot) = self.pending.get_mut(end) {
                *slot = byte;
                self.pending_len += 1;
            }
            match std::str::from_utf8(self.pending.get(..=end).unwrap_or_default()) {
                Ok(_) => self.pending_len = 0,
                Err(error) if error.error_len().is_some() => return Err(Failure::invalid_utf8()),
                Err(_) => {}
            }
        }
        Ok(rest)
    }

    fn keep(&mut self, start: &[u8]) {
        for (slot, byte) in self.pending.iter_mut().zip(start) {
            *slot = *byte;
        }
        self.pending_len = start.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validate_in_pieces(text: &[u8], size: usize) -> Result<(), Failure> {
        let mut stream = Utf8Stream::default();
        for piece in text.chunks(size.max(1)) {
            stream.receive(piece)?;
        }
        stream.finish()
    }

    #[test]
    fn valid_text_is_valid_however_it_is_cut() {
        let text = "κόσμε – selamat pagi 🌅 \u{10FFFF}".as_bytes();
        for size in 1..text.len() {
            assert_eq!(validate_in_pieces(text, size), Ok(()), "{size}");
        }
    }

    #[test]
    fn invalid_text_is_refused_at_the_byte_that_proves_it() {
        for (valid, proof) in [
            (&b"\xce\xba\xed"[..], 0xA0_u8), // a surrogate
            (b"\xf4", 0x90),                 // over U+10FFFF
            (b"\xe0", 0x80),                 // not the shortest form
            (b"ok", 0xC0),
            (b"ok", 0xF5),
            (b"\xe2\x82", b'x'),
        ] {
            let mut stream = Utf8Stream::default();
            assert_eq!(stream.receive(valid), Ok(()), "{valid:x?}");
            assert_eq!(stream.receive(&[proof]), Err(Failure::invalid_utf8()), "{valid:x?}");
        }
    }

    #[test]
    fn text_that_ends_inside_a_character_is_refused_at_its_end() {
        for text in [&b"\xe2\x82"[..], b"ok\xf0\x9f\x8c"] {
            assert_eq!(validate_in_pieces(text, 1), Err(Failure::invalid_utf8()));
            assert_eq!(validate_in_pieces(text, 100), Err(Failure::invalid_utf8()));
        }
    }

    #[test]
    fn finishing_makes_ready_for_the_next_text() {
        let mut stream = Utf8Stream::default();
        stream.receive(b"\xe2").unwrap();
        assert!(stream.finish().is_err());
        assert_eq!(stream.receive(b"plain"), Ok(()));
        assert_eq!(stream.finish(), Ok(()));
    }
}
