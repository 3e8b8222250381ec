//! What the protocol costs by itself: no socket, no Python.
//!
//! ```text
//! cargo bench --no-default-features --bench protocol [-- NAME]
//! ```
//!
//! Beside each figure stands one that cannot be beaten (`memcpy` of the same bytes) or one that must
//! be (a loop over bytes). The input of `decode` is copied outside of what is timed, because it is
//! unmasked in place.
// `criterion_group!` makes a public function without a word; `at % 4` is within a key.
#![allow(missing_docs, clippy::indexing_slicing)]

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use rakit_ws_core::protocol::frame::Prefix;
use rakit_ws_core::protocol::utf8::{self, Utf8Stream};
use rakit_ws_core::protocol::{
    Decoder, GrowingBuffer, Header, Kind, Limits, Opcode, Role, encoder, mask,
};

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const SIZES: [(&str, usize); 4] =
    [("64 B", 64), ("1 KiB", 1 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)];

/// A read of the engine: so many bytes of frames lie behind one another.
const READ_BYTES: usize = 64 << 10;

/// Unmasking in place, and copying the same bytes.
fn masking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mask");
    for (label, size) in SIZES {
        let mut data = vec![0x5A; size];
        let mut target = vec![0; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("mask::apply", label), |bencher| {
            bencher.iter(|| mask::apply(black_box(&mut data), black_box(KEY), 0));
        });
        group.bench_function(BenchmarkId::new("byte loop", label), |bencher| {
            bencher.iter(|| byte_loop(black_box(&mut data), black_box(KEY)));
        });
        group.bench_function(BenchmarkId::new("memcpy", label), |bencher| {
            bencher.iter(|| black_box(&mut target).copy_from_slice(black_box(&data)));
        });
    }
    group.finish();
}

/// The definition of RFC 6455 §5.3 as it stands there.
fn byte_loop(data: &mut [u8], key: [u8; 4]) {
    for (at, byte) in data.iter_mut().enumerate() {
        *byte ^= key[at % 4];
    }
}

/// The header alone, in its three lengths.
fn header(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("header");
    for (label, payload_len) in [("7 bits", 64), ("16 bits", 1 << 10), ("64 bits", 64 << 10)] {
        let header = Header { mask: Some(KEY), ..Header::unmasked(Opcode::Text, payload_len) };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        group.bench_function(BenchmarkId::new("decode", label), |bencher| {
            bencher.iter(|| {
                let &[first, second, ..] = black_box(bytes.as_slice()) else { return Ok(None) };
                Prefix::parse(first, second)?.payload_len(&bytes)
            });
        });
        group.bench_function(BenchmarkId::new("encode", label), |bencher| {
            let mut out = Vec::with_capacity(16);
            bencher.iter(|| {
                out.clear();
                black_box(&header).encode(black_box(&mut out));
            });
        });
    }
    group.finish();
}

/// Masked frames to messages: header, limits, unmasking, UTF-8.
fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for kind in [Kind::Binary, Kind::Text] {
        for (label, size) in SIZES {
            let frame = encoder::any_frame(true, kind.opcode(), Some(KEY), &vec![b'a'; size]);
            let count = (READ_BYTES / frame.len()).max(1);
            let stream = frame.repeat(count);
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(BenchmarkId::new(format!("{kind:?}"), label), |bencher| {
                bencher.iter_batched_ref(
                    || stream.clone(),
                    |stream| messages(stream),
                    BatchSize::LargeInput,
                );
            });
        }
    }
    in_pieces(&mut group);
    group.finish();
}

/// A frame that arrives in four reads: the way through the assembler.
fn in_pieces(group: &mut BenchmarkGroup<'_, WallTime>) {
    let frame = encoder::any_frame(true, Opcode::Text, Some(KEY), &vec![b'a'; 4 * READ_BYTES]);
    group.throughput(Throughput::Elements(1));
    group.bench_function("Text/256 KiB in 64 KiB reads", |bencher| {
        bencher.iter_batched_ref(
            || frame.clone(),
            |frame| frame.chunks_mut(READ_BYTES).fold(decoder(), take_all),
            BatchSize::LargeInput,
        );
    });
}

fn messages(stream: &mut [u8]) -> Decoder<GrowingBuffer> {
    take_all(decoder(), stream)
}

fn decoder() -> Decoder<GrowingBuffer> {
    Decoder::new(Role::Server)
}

fn take_all(mut decoder: Decoder<GrowingBuffer>, mut input: &mut [u8]) -> Decoder<GrowingBuffer> {
    let limits = Limits { max_message_bytes: 4 << 20, ..Limits::default() };
    while let Ok(Some(event)) = decoder.next(&mut input, &limits) {
        black_box(&event);
    }
    decoder
}

/// Text that is whole, and text in pieces; of ASCII and of three bytes a character.
fn validation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("utf8");
    for (script, character) in [("ASCII", "a"), ("kana", "あ")] {
        for (label, size) in [("64 B", 64), ("64 KiB", 64 << 10)] {
            let text = character.repeat(size / character.len()).into_bytes();
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_function(BenchmarkId::new(format!("whole {script}"), label), |bencher| {
                bencher.iter(|| utf8::is_valid(black_box(&text)));
            });
            group.bench_function(BenchmarkId::new(format!("pieces {script}"), label), |bencher| {
                bencher.iter(|| validate_in_pieces(black_box(&text)));
            });
        }
    }
    group.finish();
}

/// In pieces of 4,000 bytes, which is no multiple of three: characters are cut.
fn validate_in_pieces(text: &[u8]) -> bool {
    let mut stream = Utf8Stream::default();
    text.chunks(4000).all(|piece| stream.receive(piece).is_ok()) && stream.finish().is_ok()
}

/// A message to a frame of the server's, and copying the same payload.
fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (label, size) in SIZES {
        let payload = vec![b'a'; size];
        let mut out = Vec::with_capacity(size + 16);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("append_frame", label), |bencher| {
            bencher.iter(|| {
                out.clear();
                encoder::append_frame(black_box(&mut out), Opcode::Text, black_box(&payload));
            });
        });
        group.bench_function(BenchmarkId::new("memcpy", label), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&mut out).extend_from_slice(black_box(&payload));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, masking, header, decode, validation, encode);
criterion_main!(benches);
