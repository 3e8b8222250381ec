//! Frames on their way out (RFC 6455 §5.2).

use super::frame::{Header, MAX_HEADER_BYTES, Opcode, Rsv};
use super::mask;

/// A whole message as one unmasked frame, as a server sends it. Copies the payload once.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAX_HEADER_BYTES + payload.len());
    append_frame(&mut out, opcode, payload);
    out
}

/// Append a whole message as one unmasked frame to `out`.
pub fn append_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    Header::unmasked(opcode, payload.len() as u64).encode(out);
    out.extend_from_slice(payload);
}

/// Append a whole compressed message as one unmasked frame to `out` (RFC 7692 §6.1).
pub fn append_compressed(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    Header::compressed(opcode, payload.len() as u64).encode(out);
    out.extend_from_slice(payload);
}

/// A frame with everything chosen: a fragment, or masked as a client must send it (§5.3).
pub fn any_frame(fin: bool, opcode: Opcode, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAX_HEADER_BYTES + payload.len());
    let payload_len = payload.len() as u64;
    Header { fin, rsv: Rsv::NONE, opcode, mask, payload_len }.encode(&mut out);
    let start = out.len();
    out.extend_from_slice(payload);
    if let (Some(key), Some(body)) = (mask, out.get_mut(start..)) {
        mask::apply(body, key, 0);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    // The examples of RFC 6455 §5.7.
    #[test]
    fn examples_of_section_5_7_are_encoded_byte_for_byte() {
        let key = Some([0x37, 0xFA, 0x21, 0x3D]);
        assert_eq!(frame(Opcode::Text, b"Hello"), b"\x81\x05Hello");
        assert_eq!(
            any_frame(true, Opcode::Text, key, b"Hello"),
            [0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58]
        );
        assert_eq!(any_frame(false, Opcode::Text, None, b"Hel"), b"\x01\x03Hel");
        assert_eq!(any_frame(true, Opcode::Continuation, None, b"lo"), b"\x80\x02lo");
        let mut compressed = Vec::new();
        append_compressed(&mut compressed, Opcode::Text, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
        assert_eq!(compressed, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", "RFC 7692 7.2.3.1");
        assert_eq!(frame(Opcode::Ping, b"Hello"), b"\x89\x05Hello");
        assert_eq!(frame(Opcode::Binary, &[0; 256])[..4], [0x82, 0x7E, 0x01, 0x00]);
        assert_eq!(
            frame(Opcode::Binary, &vec![0; 65536])[..10],
            [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }
}
