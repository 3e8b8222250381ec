//! A header is read as its picture in RFC 6455 §5.2 says, and writing undoes reading.

use rakit_ws_core::protocol::frame::{Header, Prefix, Rsv};

use super::reference::{self, Known};

/// Skips the settings that the decoder's target has, so that both can share a corpus.
pub fn check(data: &[u8]) {
    let input = data.get(3..).unwrap_or_default();
    let &[first, second, ..] = input else { return };
    let ours = Prefix::parse(first, second).and_then(|prefix| {
        let length = prefix.payload_len(input)?;
        Ok(length.map(|(length, key_at)| (prefix, length, key_at)))
    });
    match (ours, reference::header(input)) {
        (Err(_), Known::Bad) | (Ok(None), Known::Unknown) => {}
        (Ok(Some((prefix, length, key_at))), Known::Header(theirs)) => {
            assert_eq!(prefix.fin, theirs.fin);
            assert_eq!(prefix.rsv, Rsv::of(theirs.reserved << 4));
            assert_eq!(prefix.opcode as u8, theirs.opcode);
            assert_eq!(prefix.masked, theirs.masked);
            assert_eq!((length, key_at), (theirs.length, theirs.size));
            let mask = prefix.masked.then_some([1, 2, 3, 4]);
            let header = Header {
                fin: prefix.fin,
                rsv: prefix.rsv,
                opcode: prefix.opcode,
                mask,
                payload_len: length,
            };
            let mut written = Vec::new();
            header.encode(&mut written);
            assert_eq!(written[0], input[0]);
            assert_eq!(written[1..key_at], input[1..key_at]);
            assert_eq!(written[key_at..], mask.map_or(vec![], |key| key.to_vec()));
        }
        (ours, theirs) => panic!("{ours:?} {theirs:?}"),
    }
}
