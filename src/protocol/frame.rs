//! The header of a frame (RFC 6455 §5.2), read and written.

use super::close::Failure;

/// Longest header: two bytes, a 64-bit length, a masking key.
pub const MAX_HEADER_BYTES: usize = 14;

/// Longest payload of a control frame (RFC 6455 §5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// What a frame is (RFC 6455 §11.8). The reserved opcodes have no value here: they are a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of the message that is under way.
    Continuation = 0x0,
    /// The first or only frame of a text message.
    Text = 0x1,
    /// The first or only frame of a binary message.
    Binary = 0x2,
    /// The closing handshake.
    Close = 0x8,
    /// Are you there?
    Ping = 0x9,
    /// I am.
    Pong = 0xA,
}

impl Opcode {
    /// The opcode with these four bits, unless they are reserved.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    /// Whether it is a control frame (RFC 6455 §5.5): never fragmented, at most 125 bytes.
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// The three reserved bits of a header, in place (0x40, 0x20, 0x10).
///
/// An extension that was negotiated permits some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rsv(u8);

impl Rsv {
    /// No bit set.
    pub const NONE: Self = Self(0);

    /// RSV1: the message is compressed (RFC 7692 §6).
    pub const COMPRESSED: Self = Self(0x40);

    /// The reserved bits of a header's first byte.
    pub const fn of(first: u8) -> Self {
        Self(first & 0x70)
    }

    /// Whether each bit set here is set in `permitted` too.
    pub const fn within(self, permitted: Self) -> bool {
        self.0 & !permitted.0 == 0
    }
}

/// What the first two bytes of a frame say. Enough to refuse most of what can be wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Whether this is the last fragment of its message.
    pub fin: bool,
    /// The reserved bits.
    pub rsv: Rsv,
    /// What the frame is.
    pub opcode: Opcode,
    /// Whether a masking key follows the length.
    pub masked: bool,
    length: u8,
}

impl Prefix {
    /// Read the first two bytes of a frame.
    ///
    /// Fails with 1002 for a reserved opcode, and for a control frame that is fragmented or
    /// longer than 125 bytes (RFC 6455 §5.5).
    pub fn parse(first: u8, second: u8) -> Result<Self, Failure> {
        let Some(opcode) = Opcode::from_bits(first & 0x0F) else {
            return Err(Failure::protocol("reserved opcode"));
        };
        let fin = first & 0x80 != 0;
        let length = second & 0x7F;
        if opcode.is_control() {
            if !fin {
                return Err(Failure::protocol("fragmented control frame"));
            }
            if usize::from(length) > MAX_CONTROL_PAYLOAD {
                return Err(Failure::protocol("control frame over 125 bytes"));
            }
        }
        Ok(Self { fin, rsv: Rsv::of(first), opcode, masked: second & 0x80 != 0, length })
    }

    /// Read the payload's length from `input`, which begins with the frame.
    ///
    /// Returns it with the number of header bytes before the masking key; `None` while bytes are
    /// missing. Fails with 1002 where the length is not in its shortest form or over 2⁶³ − 1.
    pub fn payload_len(self, input: &[u8]) -> Result<Option<(u64, usize)>, Failure> {
        match self.length {
            126 => {
                let Some(bytes) = input.get(2..4).and_then(|b| b.try_into().ok()) else {
                    return Ok(None);
                };
                shortest(u64::from(u16::from_be_bytes(bytes)), 126).map(|len| Some((len, 4)))
            }
            127 => {
                let Some(bytes) = input.get(2..10).and_then(|b| b.try_into().ok()) else {
                    return Ok(None);
                };
                shortest(u64::from_be_bytes(bytes), 0x1_0000).map(|len| Some((len, 10)))
            }
            short => Ok(Some((u64::from(short), 2))),
        }
    }
}

fn shortest(len: u64, least: u64) -> Result<u64, Failure> {
    if len < least {
        return Err(Failure::protocol("length not in its shortest form"));
    }
    if len > u64::MAX >> 1 {
        return Err(Failure::protocol("length over 63 bits"));
    }
    Ok(len)
}

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether this is the last fragment of its message.
    pub fin: bool,
    /// The reserved bits.
    pub rsv: Rsv,
    /// What the frame is.
    pub opcode: Opcode,
    /// The masking key, where the payload is masked.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload that follow.
    pub payload_len: u64,
}

impl Header {
    /// The header of a frame that a server sends: final and unmasked.
    pub const fn unmasked(opcode: Opcode, payload_len: u64) -> Self {
        Self { fin: true, rsv: Rsv::NONE, opcode, mask: None, payload_len }
    }

    /// The header of a compressed message that a server sends.
    pub const fn compressed(opcode: Opcode, payload_len: u64) -> Self {
        Self { fin: true, rsv: Rsv::COMPRESSED, opcode, mask: None, payload_len }
    }

    /// Append the header to `out`, its length in the shortest form.
    #[allow(clippy::cast_possible_truncation)] // Each arm has just met the bound of its cast.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        out.push(self.opcode as u8 | self.rsv.0 | if self.fin { 0x80 } else { 0 });
        match self.payload_len {
            len @ 0..=125 => out.push(masked | len as u8),
            len @ 126..=0xFFFF => {
                out.push(masked + 126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                out.push(masked + 127);
                out.extend_from_slice(&len.to_be_bytes());
            }
        }
        if let Some(key) = self.mask {
            out.extend_from_slice(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload_len(bytes: &[u8]) -> Result<Option<(u64, usize)>, Failure> {
        Prefix::parse(bytes[0], bytes[1]).unwrap().payload_len(bytes)
    }

    #[test]
    fn each_length_form_is_read_at_its_boundaries() {
        assert_eq!(payload_len(&[0x82, 0]), Ok(Some((0, 2))));
        assert_eq!(payload_len(&[0x82, 125]), Ok(Some((125, 2))));
        assert_eq!(payload_len(&[0x82, 126, 0, 126]), Ok(Some((126, 4))));
        assert_eq!(payload_len(&[0x82, 126, 0xFF, 0xFF]), Ok(Some((0xFFFF, 4))));
        assert_eq!(payload_len(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]), Ok(Some((0x1_0000, 10))));
    }

    #[test]
    fn a_length_that_is_not_the_shortest_or_over_63_bits_is_a_protocol_error() {
        for bytes in [
            &[0x82, 126, 0, 125][..],
            &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
            &[0x82, 127, 0x80, 0, 0, 0, 0, 1, 0, 0],
        ] {
            assert_eq!(payload_len(bytes).unwrap_err().code.get(), 1002, "{bytes:x?}");
        }
    }

    #[test]
    fn every_prefix_of_a_length_waits_for_more() {
        assert_eq!(payload_len(&[0x82, 126, 1]), Ok(None));
        assert_eq!(payload_len(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0]), Ok(None));
    }

    #[test]
    fn reserved_opcodes_and_bad_control_frames_are_refused_at_the_second_byte() {
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert!(Prefix::parse(0x80 | opcode, 0x80).is_err());
        }
        assert!(Prefix::parse(0x09, 0x80).is_err(), "fragmented ping");
        assert!(Prefix::parse(0x89, 0x80 | 0x7E).is_err(), "long ping");
        assert!(Prefix::parse(0x89, 0x80 | 0x7D).is_ok());
    }

    #[test]
    fn a_header_is_encoded_in_its_shortest_form() {
        for (len, expected) in [(125, 2), (126, 4), (0xFFFF, 4), (0x1_0000, 10)] {
            let mut out = Vec::new();
            Header::unmasked(Opcode::Binary, len).encode(&mut out);
            assert_eq!(out.len(), expected);
            assert_eq!(payload_len(&out), Ok(Some((len, expected))));
        }
    }
}
