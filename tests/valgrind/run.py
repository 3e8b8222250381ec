"""
Run tests of the native module under valgrind; fail for errors that it has a part in.

    python tests/valgrind/run.py [pytest arguments]

CPython and its other modules have complaints of their own, about memory that they keep on purpose. So
what counts is an error with a frame of the native module in its stack: invalid reads and writes, jumps
that depend on uninitialized values, bad arguments of system calls, and memory that is definitely lost.
"""

from __future__ import annotations

import collections
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = "rakit_ws/_core"
# No other process, and little that waits: everything takes thirty times as long.
TESTS = [
    "tests/test_frame_decoder.py",
    "-k",
    "vector or mask or utf8 or close",
]
SHOWN_FRAMES = 12


def main() -> int:
    if shutil.which("valgrind") is None:
        print("skipped: valgrind is missing")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        code = run(report, sys.argv[1:] or TESTS)
        errors = [error for error in ET.parse(report).iter("error") if is_ours(error)]
    kinds = collections.Counter(error.findtext("kind") for error in errors)
    for error in errors:
        describe(error)
    print(
        f"valgrind: {dict(kinds) or 'no error'} with a frame of the native module; pytest: {code}"
    )
    return 1 if errors or code else 0


def run(report: Path, tests: list[str]) -> int:
    valgrind = ["valgrind", "--xml=yes", f"--xml-file={report}", "--num-callers=40"]
    leaks = ["--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]
    # A test's time limit is for a machine that is not simulated.
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "timeout=0"]
    # Of its own allocator valgrind knows nothing.
    environment = {**os.environ, "PYTHONMALLOC": "malloc"}
    return subprocess.run(
        [*valgrind, *leaks, *pytest, *tests], cwd=ROOT, env=environment, check=False
    ).returncode


def is_ours(error: ET.Element) -> bool:
    """Tell whether the native module has a part in it, other than by being loaded."""
    frames = list(error.iter("frame"))
    # What a module makes of its classes while it is imported stays for ever, by design.
    if any(frame.findtext("fn") == "PyModule_ExecDef" for frame in frames):
        return False
    return any(MODULE in (frame.findtext("obj") or "") for frame in frames)


def describe(error: ET.Element) -> None:
    what = error.findtext("what") or error.findtext("xwhat/text")
    print(f"{error.findtext('kind')}: {what}")
    for frame in list(error.iter("frame"))[:SHOWN_FRAMES]:
        place = Path(frame.findtext("obj") or "?").name
        print(f"    {frame.findtext('fn') or frame.findtext('ip')}  ({place})")


if __name__ == "__main__":
    raise SystemExit(main())
