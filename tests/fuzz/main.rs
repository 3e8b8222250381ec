//! The fuzz targets' properties, for some seconds and always the same.
//!
//! `make fuzz` gives the same properties to cargo-fuzz, which learns from coverage. Here, inputs
//! are mutated from the shared vectors by a generator with a fixed seed. `FUZZ_SEED` and
//! `FUZZ_RUNS` choose others.
#![allow(missing_docs)]
// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod corpus;
mod mutator;
mod properties;

use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;

use mutator::Mutator;

const SEED: u64 = 6455;
const RUNS: u64 = 20_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect(name))
}

/// Hold a property against every entry of a corpus, and against mutations of them: fewer where
/// each costs more.
fn fuzz(corpus: &[Vec<u8>], property: fn(&[u8]), cost: u64) {
    assert!(corpus.len() >= 10, "a corpus of {}", corpus.len());
    let (seed, runs) = (setting("FUZZ_SEED", SEED), setting("FUZZ_RUNS", RUNS) / cost);
    println!("FUZZ_SEED={seed} FUZZ_RUNS={runs}");
    let mut mutator = Mutator::new(seed, corpus);
    let mutated = std::iter::repeat_with(|| mutator.next());
    for input in corpus.iter().cloned().chain(mutated.take(usize::try_from(runs).unwrap())) {
        if let Err(fault) = panic::catch_unwind(AssertUnwindSafe(|| property(&input))) {
            let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/fuzz-failure");
            std::fs::write(path, &input).unwrap();
            println!("the input of {} bytes that failed: {path}", input.len());
            panic::resume_unwind(fault);
        }
    }
}

#[test]
#[ignore = "for `make fuzz`: writes what cargo-fuzz begins with"]
fn seeds() {
    let root = PathBuf::from(std::env::var("FUZZ_CORPUS").expect("FUZZ_CORPUS"));
    for (target, corpus) in [
        ("header", corpus::frames()),
        ("decoder", corpus::frames()),
        ("handshake", corpus::requests()),
        ("inflate", corpus::compressed()),
        ("proxy", corpus::proxied()),
    ] {
        let folder = root.join(target);
        std::fs::create_dir_all(&folder).unwrap();
        for (index, input) in corpus.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{index}")), input).unwrap();
        }
    }
}

#[test]
fn header() {
    fuzz(&corpus::frames(), properties::header::check, 1);
}

#[test]
fn decoder() {
    fuzz(&corpus::frames(), properties::decoder::check, 1);
}

#[test]
fn handshake() {
    fuzz(&corpus::requests(), properties::handshake::check, 1);
}

#[test]
fn inflate() {
    fuzz(&corpus::compressed(), properties::inflate::check, 5);
}

#[test]
fn proxy() {
    fuzz(&corpus::proxied(), properties::proxy::check, 1);
}
