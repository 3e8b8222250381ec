"""
No regressions: instructions of fixed work, counted by callgrind, beside the committed figures.

    make bench-guard [ARGS=--update]

Time is noise on a shared machine; instructions are not. Each work runs with N and with 2 N
repetitions: the difference is N times the work alone. Counted are the instructions of this process,
not those of the kernel. A figure may leave the committed one (`guard.json`) by 3 % in either
direction; a better one is to be committed, so that it cannot be lost again unnoticed.

Instructions depend on the compiler, on Python's build, and on which vector instructions the CPU has.
`guard.json` says which ones its figures were made with. Where they are others, a difference says
little, so 25 % are allowed there, and the run says so. `--update` writes this run's figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

BENCHES = Path(__file__).resolve().parent
FIGURES = BENCHES / "guard.json"
TOLERANCE = 0.03
TOLERANCE_ELSEWHERE = 0.25
# A profile of its own (Cargo.toml): what is set for `release` from outside does not count.
BUILD = [
    *("cargo", "build", "--profile", "guard", "--no-default-features"),
    *("--features", "guard", "--bin", "guard"),
]

PYTHON = [sys.executable, str(BENCHES / "guard" / "route.py")]

Part = Literal["rust", "python"]


@dataclass(frozen=True)
class Work:
    """What is counted: so many repetitions, and what one of them consists of."""

    name: str
    part: Part
    times: int
    unit: str
    units_each: int = 1
    needs_io_uring: bool = False


WORKS = [
    Work("decode-text-64", "rust", 2000, "message"),
    Work("decode-binary-64", "rust", 2000, "message"),
    Work("decode-binary-64k", "rust", 50, "message"),
    Work("encode-64", "rust", 2000, "message"),
    Work("handshake", "rust", 200, "handshake"),
    Work("receive-and-send", "rust", 50, "message", units_each=10),
    Work("fan-out", "rust", 50, "delivery", units_each=100),
    Work("fan-out-io_uring", "rust", 50, "delivery", units_each=100, needs_io_uring=True),
    Work("route", "python", 2000, "message"),
    Work("hook", "python", 2000, "message"),
]


# Counting -----------------------------------------------------------------------------------------


def count(command: list[str]) -> int:
    """Return how many instructions a command executes."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not collected:
        raise SystemExit(f"`{' '.join(command)}` failed under valgrind:\n{done.stderr[-3000:]}")
    return int(collected[1])


def instructions(work: Work, program: Path) -> float:
    """Return the instructions of one unit of a work."""
    words = [str(program)] if work.part == "rust" else PYTHON
    once, twice = (count([*words, work.name, str(times)]) for times in (work.times, 2 * work.times))
    return (twice - once) / (work.times * work.units_each)


def build() -> Path:
    built = subprocess.run(
        [*BUILD, "--message-format", "json-render-diagnostics"],
        cwd=BENCHES.parent,
        stdout=subprocess.PIPE,
        check=False,
    )
    if built.returncode:
        raise SystemExit(f"`{' '.join(BUILD)}` failed")
    messages = map(json.loads, built.stdout.splitlines())
    return next(Path(path) for message in messages if (path := message.get("executable")))


def countable(program: Path) -> list[Work]:
    """Return the works that can be counted here; print what cannot."""
    # Under valgrind, as it is counted: that may refuse what the system does not.
    command = ["valgrind", "--tool=none", "--quiet", str(program), "has-io_uring", "1"]
    if printed(*command) == "true":
        return WORKS
    print("NOTE: the system has no io_uring, or refuses it: what needs it is not counted")
    return [work for work in WORKS if not work.needs_io_uring]


def environment() -> dict[Part, dict[str, str]]:
    """Return what the figures of each part depend on."""
    vector = vector_instructions()
    libc = " ".join(platform.libc_ver())
    return {
        "rust": {"rustc": printed("rustc", "-V"), "libc": libc, "vector": vector},
        "python": {
            "python": f"{platform.python_version()} {platform.python_compiler()}",
            "msgspec": metadata.version("msgspec"),
            "libc": libc,
            "vector": vector,
        },
    }


def printed(*command: str) -> str:
    """Return what a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def vector_instructions() -> str:
    """Name the widest vectors that programs may find; valgrind knows none beyond AVX2."""
    cpuinfo = Path("/proc/cpuinfo").read_text("utf-8")
    found = "AVX2" if re.search(r"\bavx2\b", cpuinfo) else "none beyond the baseline"
    return f"{platform.machine()}, {found}"


# Judging ------------------------------------------------------------------------------------------


def judge(figures: dict[str, float], committed: dict[str, float], same: dict[Part, bool]) -> bool:
    """Print the figures of all that was counted; return whether each is what is committed."""
    sound = True
    print(f"{'work':20} {'instructions':>12} {'committed':>12} {'change':>8}")
    for work in WORKS:
        if work.name not in figures:
            continue
        figure, known = figures[work.name], committed.get(work.name)
        if known is None:
            sound = False
            print(f"{work.name:20} {figure:12,.1f} {'none':>12}           NOT COMMITTED: --update")
            continue
        verdict = leaves(figure, known, TOLERANCE if same[work.part] else TOLERANCE_ELSEWHERE)
        sound = sound and not verdict
        change = figure / known - 1
        print(f"{work.name:20} {figure:12,.1f} {known:12,.1f} {change:+8.1%}  {verdict}".rstrip())
    for name in sorted(committed.keys() - {work.name for work in WORKS}):
        sound = False
        print(f"{name}: committed, but there is no such work: --update")
    return sound


def leaves(figure: float, known: float, tolerance: float) -> str:
    """Say in which direction a figure is too far from the committed one; empty if it is not."""
    if abs(figure - known) <= tolerance * known:
        return ""
    return "MORE: a regression" if figure > known else "LESS: commit it (--update)"


def compare_environments(
    here: dict[Part, dict[str, str]], there: dict[Part, dict[str, str]]
) -> dict[Part, bool]:
    """Tell which parts were counted with the same tools; print what differs."""
    for part, tools in here.items():
        for tool, version in tools.items():
            known = there.get(part, {}).get(tool, "unknown")
            if version != known:
                print(
                    f"NOTE: the figures of {part} were made with {tool} {known}, here it is"
                    f" {version}: {TOLERANCE_ELSEWHERE:.0%} are allowed instead of {TOLERANCE:.0%}"
                )
    return {part: here[part] == there.get(part) for part in here}


def main() -> int:
    parser = argparse.ArgumentParser(description="Count instructions of fixed work.")
    parser.add_argument("--update", action="store_true", help="make these the committed figures")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is missing (apt-get install valgrind)")
    program = build()
    works = countable(program)
    if arguments.update and works != WORKS:
        raise SystemExit("--update is for a system where everything can be counted")
    figures = {work.name: round(instructions(work, program), 1) for work in works}
    here = environment()
    if arguments.update:
        units = {work.name: work.unit for work in WORKS}
        kept = {"unit": units, "environment": here, "instructions": figures}
        FIGURES.write_text(json.dumps(kept, indent=2) + "\n", "utf-8")
    committed = json.loads(FIGURES.read_text("utf-8")) if FIGURES.exists() else {}
    same = compare_environments(here, committed.get("environment", {}))
    return 0 if judge(figures, committed.get("instructions", {}), same) else 1


if __name__ == "__main__":
    sys.exit(main())
