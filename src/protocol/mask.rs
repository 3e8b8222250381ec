//! Masking (RFC 6455 §5.3): XOR with a key of four bytes.

use std::mem::MaybeUninit;

/// XOR `data` with `key`, whose first byte belongs to the payload's byte `offset`.
///
/// Masking and unmasking are the same. `offset` lets a payload be unmasked in pieces; only its
/// remainder modulo 4 counts.
#[allow(clippy::cast_possible_truncation)] // Modulo 4 it fits.
pub fn apply(data: &mut [u8], key: [u8; 4], offset: u64) {
    let key = rotated(key, (offset % 4) as u32);
    // Blocks of 32 bytes become vector instructions; see `mask` in benches/protocol.rs.
    let wide = wide(key);
    let mut blocks = data.chunks_exact_mut(32);
    for block in &mut blocks {
        for (byte, key) in block.iter_mut().zip(wide) {
            *byte ^= key;
        }
    }
    for (byte, key) in blocks.into_remainder().iter_mut().zip(wide) {
        *byte ^= key;
    }
}

/// Put `source`, masked with `key`, into `target`: one pass over the memory, and nothing is cleared
/// that is written anyway.
///
/// Fills all of `target` where the two have one length. Tested through Python's `apply_mask`: here,
/// without `unsafe`, nobody may look at what was written.
pub fn copy(source: &[u8], key: [u8; 4], target: &mut [MaybeUninit<u8>]) {
    let wide = wide(key);
    let mut from = source.chunks_exact(32);
    let mut to = target.chunks_exact_mut(32);
    for (from, to) in from.by_ref().zip(to.by_ref()) {
        for ((byte, key), to) in from.iter().zip(wide).zip(to) {
            to.write(byte ^ key);
        }
    }
    for ((byte, key), to) in from.remainder().iter().zip(wide).zip(to.into_remainder()) {
        to.write(byte ^ key);
    }
}

/// The key as seen from a payload's byte `by`.
const fn rotated(key: [u8; 4], by: u32) -> [u8; 4] {
    u32::from_le_bytes(key).rotate_right(8 * by).to_le_bytes()
}

fn wide(key: [u8; 4]) -> [u8; 32] {
    let mut wide = [0; 32];
    for (byte, key) in wide.iter_mut().zip(key.iter().cycle()) {
        *byte = *key;
    }
    wide
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_definition(data: &[u8], key: [u8; 4], offset: usize) -> Vec<u8> {
        data.iter().enumerate().map(|(i, byte)| byte ^ key[(i + offset) % 4]).collect()
    }

    #[test]
    fn every_length_and_offset_agrees_with_the_definition() {
        let data: Vec<u8> = (0..200_u8).collect();
        let key = [0x37, 0xFA, 0x21, 0x3D];
        for len in 0..data.len() {
            for offset in 0..5 {
                let mut masked = data[..len].to_vec();
                apply(&mut masked, key, offset as u64);
                assert_eq!(masked, by_definition(&data[..len], key, offset), "{len} {offset}");
            }
        }
    }

    #[test]
    fn masking_twice_restores_the_payload() {
        let mut data = b"Hello".to_vec();
        apply(&mut data, [1, 2, 3, 4], 3);
        apply(&mut data, [1, 2, 3, 4], 3);
        assert_eq!(data, b"Hello");
    }
}
