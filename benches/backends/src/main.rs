//! Compress or inflate one message again and again with one implementation: for instruction counts.
//!
//! ```text
//! cargo build --release
//! for n in 100 1100; do
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!         target/release/backends deflate zlib-rs 1 1024 $n 2>&1 | grep refs
//! done                                     # a thousandth of the difference is for one message
//! ```
//!
//! Arguments: `deflate` or `inflate`; `zlib-rs`, `zlib-ng`, `zlib`, `miniz` or `libdeflate`; level;
//! bytes of the message; how often. The compressor is reset between messages, as without context
//! takeover. It prints how many bytes the message has compressed.
#![allow(clippy::unwrap_used)]

use std::mem::{MaybeUninit, size_of};

const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [direction, backend, level, size, times] = &arguments[..] else { panic!("see the source") };
    let (level, times) = (level.parse().unwrap(), times.parse().unwrap());
    let message = json(size.parse().unwrap());
    let mut deflated = vec![0; message.len() + 64];
    let len = deflate("zlib-rs", 6, &message, &mut deflated, 1);
    let compressed = [&deflated[..len], &TAIL].concat();
    let len = match direction.as_str() {
        "deflate" => deflate(backend, level, &message, &mut deflated, times),
        _ => {
            let mut out = vec![0; message.len() + 64];
            let len = inflate(backend, &compressed, &mut out, times);
            assert!(out[..len] == message);
            compressed.len() - TAIL.len()
        }
    };
    println!("{} -> {len} bytes", message.len());
}

/// What an application publishes: an object with keys that repeat, names, numbers.
fn json(size: usize) -> Vec<u8> {
    let mut text = String::from(r#"{"type":"channel","channel":"orders","data":["#);
    let mut n = 12_345_u64;
    while text.len() < size {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (id, price, name) =
            (n >> 40, n >> 52, ["Siti", "Budi", "Dewi", "Agus"][(n >> 33) as usize % 4]);
        text += &format!(
            r#"{{"id":{id},"customer":"{name}","price":{price},"paid":{}}},"#,
            n >> 63 == 0
        );
    }
    text.truncate(size);
    text.into_bytes()
}

fn deflate(backend: &str, level: i32, message: &[u8], out: &mut [u8], times: usize) -> usize {
    let mut len = 0;
    match backend {
        "zlib-rs" => {
            let mut it = zlib_rs::Deflate::new(level, false, 15);
            for _ in 0..times {
                it.reset();
                it.compress(message, out, zlib_rs::DeflateFlush::SyncFlush).unwrap();
                len = it.total_out() as usize - TAIL.len();
            }
        }
        "miniz" => {
            use miniz_oxide::deflate::core::{
                CompressorOxide, TDEFLFlush, compress, create_comp_flags_from_zip_params,
            };
            let mut it = CompressorOxide::new(create_comp_flags_from_zip_params(level, 0, 0));
            for _ in 0..times {
                it.reset();
                let (_, _, written) = compress(&mut it, message, out, TDEFLFlush::Sync);
                len = written - TAIL.len();
            }
        }
        "libdeflate" => {
            let mut it =
                libdeflater::Compressor::new(libdeflater::CompressionLvl::new(level).unwrap());
            for _ in 0..times {
                // A final block, and the byte that must follow one (RFC 7692 7.2.3.4).
                len = it.deflate_compress(message, out).unwrap() + 1;
            }
        }
        "zlib-ng" => unsafe {
            use libz_ng_sys::*;
            let mut it = MaybeUninit::<z_stream>::zeroed();
            let it = it.as_mut_ptr();
            deflateInit2_(it, level, 8, -15, 8, 0, zlibVersion(), size_of::<z_stream>() as i32);
            for _ in 0..times {
                deflateReset(it);
                ((*it).next_in, (*it).avail_in) =
                    (message.as_ptr().cast_mut(), message.len() as u32);
                ((*it).next_out, (*it).avail_out) = (out.as_mut_ptr(), out.len() as u32);
                libz_ng_sys::deflate(it, Z_SYNC_FLUSH);
                len = (*it).total_out as usize - TAIL.len();
            }
        },
        "zlib" => unsafe {
            use libz_sys::*;
            let mut it = MaybeUninit::<z_stream>::zeroed();
            let it = it.as_mut_ptr();
            deflateInit2_(it, level, 8, -15, 8, 0, zlibVersion(), size_of::<z_stream>() as i32);
            for _ in 0..times {
                deflateReset(it);
                ((*it).next_in, (*it).avail_in) =
                    (message.as_ptr().cast_mut(), message.len() as u32);
                ((*it).next_out, (*it).avail_out) = (out.as_mut_ptr(), out.len() as u32);
                libz_sys::deflate(it, Z_SYNC_FLUSH);
                len = (*it).total_out as usize - TAIL.len();
            }
        },
        other => panic!("{other}"),
    }
    len
}

fn inflate(backend: &str, input: &[u8], out: &mut [u8], times: usize) -> usize {
    let mut len = 0;
    match backend {
        "zlib-rs" => {
            let mut it = zlib_rs::Inflate::new(false, 15);
            for _ in 0..times {
                it.reset(false);
                it.decompress(input, out, zlib_rs::InflateFlush::SyncFlush).unwrap();
                len = it.total_out() as usize;
            }
        }
        "miniz" => {
            use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
            let mut it = DecompressorOxide::new();
            for _ in 0..times {
                it.init();
                let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF
                    | inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
                len = decompress(&mut it, input, out, 0, flags).2;
            }
        }
        "libdeflate" => panic!("it inflates nothing but whole streams with a final block"),
        "zlib-ng" => unsafe {
            use libz_ng_sys::*;
            let mut it = MaybeUninit::<z_stream>::zeroed();
            let it = it.as_mut_ptr();
            inflateInit2_(it, -15, zlibVersion(), size_of::<z_stream>() as i32);
            for _ in 0..times {
                inflateReset(it);
                ((*it).next_in, (*it).avail_in) = (input.as_ptr().cast_mut(), input.len() as u32);
                ((*it).next_out, (*it).avail_out) = (out.as_mut_ptr(), out.len() as u32);
                libz_ng_sys::inflate(it, Z_SYNC_FLUSH);
                len = (*it).total_out as usize;
            }
        },
        "zlib" => unsafe {
            use libz_sys::*;
            let mut it = MaybeUninit::<z_stream>::zeroed();
            let it = it.as_mut_ptr();
            inflateInit2_(it, -15, zlibVersion(), size_of::<z_stream>() as i32);
            for _ in 0..times {
                inflateReset(it);
                ((*it).next_in, (*it).avail_in) = (input.as_ptr().cast_mut(), input.len() as u32);
                ((*it).next_out, (*it).avail_out) = (out.as_mut_ptr(), out.len() as u32);
                libz_sys::inflate(it, Z_SYNC_FLUSH);
                len = (*it).total_out as usize;
            }
        },
        other => panic!("{other}"),
    }
    len
}
