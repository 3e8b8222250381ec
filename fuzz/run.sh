#!/usr/bin/env bash
# Run each fuzz target, or those named, for FUZZ_SECONDS (default 60): `make fuzz`.
#
# Needs a nightly toolchain and cargo-fuzz (`cargo install cargo-fuzz`), and says so where they are
# missing. Ends with 1 at the first input that breaks a property; it is kept in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
  echo "skipped: cargo-fuzz or a nightly toolchain is missing (make test holds the same properties, for seconds)"
  exit 0
fi
# What the deterministic run begins with is a good beginning here too.
FUZZ_CORPUS=$PWD/fuzz/corpus cargo test --quiet --no-default-features --test fuzz -- --ignored seeds
cd fuzz
[ $# -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
for target in "${@:-${targets[@]}}"; do
  echo "==== $target"
  cargo +nightly fuzz run "$target" -- \
    -max_total_time="${FUZZ_SECONDS:-60}" -max_len=20000 -print_final_stats=1 -verbosity=0
done
