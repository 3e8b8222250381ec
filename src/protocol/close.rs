//! Status codes and reasons of the closing handshake (RFC 6455 §7.4), and why a connection fails.

use super::encoder;
use super::frame::{MAX_CONTROL_PAYLOAD, Opcode};

/// Longest reason: what a control frame holds behind the two bytes of the code.
pub const MAX_REASON_BYTES: usize = MAX_CONTROL_PAYLOAD - 2;

/// A status code (RFC 6455 §7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The endpoint goes away: the server stops.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A Close without a code was received. Never on the wire.
    pub const NO_STATUS: Self = Self(1005);
    /// TCP ended without a Close. Never on the wire.
    pub const ABNORMAL: Self = Self(1006);
    /// Text that is not UTF-8, compressed data that is corrupt.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// A limit of this server that the peer has gone on breaking.
    pub const POLICY: Self = Self(1008);
    /// A message over the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// The queue of a slow reader passed its bound ("try again later").
    pub const SLOW_READER: Self = Self(1013);
    /// Nothing arrived within the ping timeout.
    pub const PING_TIMEOUT: Self = Self(4008);

    /// The code, if an endpoint may put it into a Close frame (RFC 6455 §7.4.1, §7.4.2).
    ///
    /// 1000 to 1003, 1007 to 1014 (registered with IANA) and 3000 to 4999.
    pub const fn on_wire(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Why the connection fails (RFC 6455 §7.1.7): what the Close frame to the peer will say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", code.get())]
pub struct Failure {
    /// The status code to send.
    pub code: CloseCode,
    /// A short reason without internals.
    pub reason: &'static str,
}

impl Failure {
    /// A breach of the protocol: 1002.
    pub const fn protocol(reason: &'static str) -> Self {
        Self { code: CloseCode::PROTOCOL_ERROR, reason }
    }

    /// Text that is not UTF-8: 1007.
    pub const fn invalid_utf8() -> Self {
        Self { code: CloseCode::INVALID_PAYLOAD, reason: "text is not UTF-8" }
    }

    /// Compressed data that is no DEFLATE stream: 1007, data that is not of its message's type
    /// (RFC 6455 §7.4.1); RFC 7692 names no code.
    pub const fn invalid_data() -> Self {
        Self { code: CloseCode::INVALID_PAYLOAD, reason: "compressed data is corrupt" }
    }

    /// A message of more frames than the limit: 1008.
    pub const fn too_many_fragments() -> Self {
        Self { code: CloseCode::POLICY, reason: "too many fragments" }
    }

    /// More control frames than the limit: 1008.
    pub const fn too_many_control_frames() -> Self {
        Self { code: CloseCode::POLICY, reason: "too many control frames" }
    }

    /// Messages that go on behind the error that says they are too many: 1008.
    pub const fn too_many_messages() -> Self {
        Self { code: CloseCode::POLICY, reason: "too many messages" }
    }

    /// A message over the limit: 1009.
    pub const fn too_big() -> Self {
        Self { code: CloseCode::TOO_BIG, reason: "message too big" }
    }
}

/// Read the payload of a Close frame (RFC 6455 §5.5.1).
///
/// An empty one is 1005 with no reason. Fails with 1002 for a single byte or a code that must not
/// be sent, with 1007 for a reason that is not UTF-8.
pub fn parse(payload: &[u8]) -> Result<(CloseCode, &str), Failure> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok((CloseCode::NO_STATUS, "")),
            _ => Err(Failure::protocol("close payload of one byte")),
        };
    };
    let Some(code) = CloseCode::on_wire(u16::from_be_bytes(*code)) else {
        return Err(Failure::protocol("invalid close code"));
    };
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Failure::invalid_utf8())?;
    Ok((code, reason))
}

/// The Close frame with this code and reason, unmasked.
///
/// A code that is never on the wire (1005) gives a Close without payload. The reason is cut to
/// 123 bytes at a character's edge.
pub fn frame(code: CloseCode, reason: &str) -> Vec<u8> {
    let Some(code) = CloseCode::on_wire(code.get()) else {
        return encoder::frame(Opcode::Close, &[]);
    };
    let mut payload = code.get().to_be_bytes().to_vec();
    let end = (0..=MAX_REASON_BYTES).rev().find(|&at| reason.is_char_boundary(at)).unwrap_or(0);
    payload.extend_from_slice(reason.get(..end).unwrap_or(reason).as_bytes());
    encoder::frame(Opcode::Close, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_payload_means_no_status() {
        assert_eq!(parse(&[]), Ok((CloseCode::NO_STATUS, "")));
    }

    #[test]
    fn one_byte_and_codes_that_must_not_be_sent_are_protocol_errors() {
        assert_eq!(parse(&[3]).unwrap_err().code, CloseCode::PROTOCOL_ERROR);
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535_u16] {
            assert_eq!(parse(&code.to_be_bytes()).unwrap_err().code, CloseCode::PROTOCOL_ERROR);
        }
        for code in [1000, 1003, 1007, 1014, 3000, 4999_u16] {
            assert!(parse(&code.to_be_bytes()).is_ok());
        }
    }

    #[test]
    fn a_reason_that_is_not_utf8_is_1007() {
        assert_eq!(parse(b"\x03\xe8\xff").unwrap_err().code, CloseCode::INVALID_PAYLOAD);
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let frame = frame(CloseCode::NORMAL, &"é".repeat(100));
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(parse(&frame[2..]).is_ok());
    }

    #[test]
    fn what_is_never_on_the_wire_gives_an_empty_close() {
        assert_eq!(frame(CloseCode::NO_STATUS, "ignored"), [0x88, 0]);
    }
}
