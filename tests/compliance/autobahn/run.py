"""
Run the Autobahn TestSuite's fuzzing client against `examples/echo.py`, and print what it says.

    python tests/compliance/autobahn/run.py                 every case: 517
    python tests/compliance/autobahn/run.py 6.4.* 9.3.1
    python tests/compliance/autobahn/run.py --report DIR    keeps the suite's own pages

The suite needs CPython 2.7: the one that AUTOBAHN_PYTHON names, or that is found. Without one
this says so and ends with 0. It ends with 1 if any case is worse than OK or INFORMATIONAL, and
with 2 if the suite could not be installed or run. The suite is installed once, into a virtual
environment below XDG_CACHE_HOME (default ~/.cache).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
ECHO = HERE.parents[2] / "examples" / "echo.py"
REQUIREMENTS = HERE / "requirements.txt"
VIRTUALENV = "virtualenv==20.15.1"
# Twisted is built from source, and its setup.py imports this one.
BUILT_WITH = ["incremental==16.10.1", "six==1.16.0"]

# Groups that can run beside each other; 12 and 13, compression, take nearly all of the time.
GROUPS = [f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 9, 10)]
COMPRESSION = [f"12.{group}.*" for group in range(1, 6)] + [
    f"13.{group}.*" for group in range(1, 8)
]
ALL_CASES = 517

GOOD = ("OK", "INFORMATIONAL")
VERDICTS = (*GOOD, "NON-STRICT", "FAILED", "UNIMPLEMENTED", "UNCLEAN", "WRONG CODE")

RUN_SUITE = "import sys; sys.argv[0] = 'wstest'; from autobahntestsuite.wstest import run; run()"

console = Console(highlight=False)


class SuiteError(Exception):
    """The suite could not be installed or run."""


def main() -> int:
    arguments = parse_arguments()
    python = find_python()
    if python is None:
        console.print("skipped: no CPython 2.7 here (AUTOBAHN_PYTHON may name one)")
        return 0
    try:
        suite = installed(python)
        with contextlib.ExitStack() as stack:
            reports = Path(
                arguments.report or stack.enter_context(tempfile.TemporaryDirectory())
            ).absolute()
            url = arguments.url or stack.enter_context(echo_server())
            results = run_cases(suite, url, arguments.cases, reports, arguments.jobs)
    except SuiteError as error:
        console.print(f"autobahn: {error}")
        return 2
    complete = arguments.cases != GROUPS + COMPRESSION or len(results) == ALL_CASES
    if not complete:
        console.print(f"only {len(results)} of {ALL_CASES} cases were run")
    return 0 if summarize(results) and complete else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The Autobahn TestSuite against examples/echo.py.")
    parser.add_argument("cases", nargs="*", help="6.4.* or 9.3.1, for example; default: all")
    parser.add_argument("--url", help="another server instead of examples/echo.py")
    parser.add_argument("--report", help="where the suite's own reports are kept")
    parser.add_argument("--jobs", type=int, default=2, help="groups at the same time (default 2)")
    arguments = parser.parse_args()
    arguments.cases = arguments.cases or GROUPS + COMPRESSION
    return arguments


# --- The suite


def find_python() -> str | None:
    """Return the path of a CPython 2.7 that has TLS and zlib."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [
        os.environ.get("AUTOBAHN_PYTHON"),
        shutil.which("python2.7"),
        *map(str, sorted(pyenv.glob("versions/2.7.*/bin/python2.7"), reverse=True)),
    ]
    probe = "import ssl, zlib, platform; assert platform.python_version().startswith('2.7.')"
    for candidate in filter(None, candidates):
        # A shim of pyenv may be on the path for a version that is not in use.
        with contextlib.suppress(OSError):
            found = subprocess.run([candidate, "-c", probe], capture_output=True, check=False)
            if found.returncode == 0:
                return candidate
    return None


def installed(python: str) -> Path:
    """Return the interpreter of an environment that has the suite; make it if there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    environment = cache / "rakit-ws" / f"autobahn-{digest}"
    interpreter = environment / "bin" / "python"
    if not interpreter.exists():
        console.print(f"installing the suite into {environment}")
        environment.parent.mkdir(parents=True, exist_ok=True)
        # Moved into place whole, so that one that was interrupted is never taken for done.
        with tempfile.TemporaryDirectory(dir=environment.parent) as scratch:
            made = make_environment(python, Path(scratch))
            made.rename(environment)
    return interpreter


def make_environment(python: str, scratch: Path) -> Path:
    tool, made = scratch / "tool", scratch / "environment"
    pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    call([python, *pip, "--target", str(tool), VIRTUALENV])
    call(
        [python, "-m", "virtualenv", "--quiet", "--no-periodic-update", str(made)],
        PYTHONPATH=str(tool),
    )
    interpreter = str(made / "bin" / "python")
    call([interpreter, *pip, "--no-deps", *BUILT_WITH])
    call([interpreter, *pip, "--no-deps", "--no-build-isolation", "-r", str(REQUIREMENTS)])
    call([interpreter, "-c", "import autobahntestsuite.fuzzing"])
    return made


def call(command: list[str], **environment: str) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SuiteError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}")


# --- The run


@contextlib.contextmanager
def echo_server() -> collections.abc.Iterator[str]:
    """Run the example on a free port; yield its URL."""
    command = [sys.executable, str(ECHO), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        listening = re.search(r"listening on (\S+:\d+)", server.stdout.readline())
        if listening is None:
            raise SuiteError("examples/echo.py did not start")
        yield f"ws://{listening[1]}"
    finally:
        server.send_signal(signal.SIGTERM)
        if server.wait(30):
            console.print(f"examples/echo.py ended with {server.returncode}")


def run_cases(
    suite: Path, url: str, cases: list[str], reports: Path, jobs: int
) -> dict[str, dict[str, object]]:
    """Run each group of cases in a process of its own; return each case's result."""
    results: dict[str, dict[str, object]] = {}
    with ThreadPoolExecutor(jobs) as pool:
        runs = [pool.submit(run_group, suite, url, group, reports) for group in cases]
        for group, run in zip(cases, runs, strict=True):
            found, seconds = run.result()
            bad = sum(not is_good(result) for result in found.values())
            console.print(
                f"{group:8} {len(found):4} cases  {seconds:6.1f} s" + f"  {bad} bad" * bool(bad)
            )
            results |= found
    return results


def run_group(
    suite: Path, url: str, group: str, reports: Path
) -> tuple[dict[str, dict[str, object]], float]:
    output = reports / group.replace("*", "all")
    output.mkdir(parents=True, exist_ok=True)
    specification = output / "specification.json"
    specification.write_text(
        json.dumps(
            {
                "outdir": str(output),
                "servers": [{"agent": "rakit_ws", "url": url}],
                "cases": [group],
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    began = time.monotonic()
    call([str(suite), "-c", RUN_SUITE, "--mode", "fuzzingclient", "--spec", str(specification)])
    index = output / "index.json"
    if not index.exists():
        raise SuiteError(f"the suite left no results for {group}")
    # It writes its own text in Latin-1 where a server's reason has such a character.
    results = json.loads(index.read_text("latin-1"))
    return results.get("rakit_ws", {}), time.monotonic() - began


# --- What it says


def is_good(result: dict[str, object]) -> bool:
    return result["behavior"] in GOOD and result["behaviorClose"] in GOOD


def summarize(results: dict[str, dict[str, object]]) -> bool:
    """Print how many cases had which verdict; tell whether all are good."""
    bad = {number: result for number, result in results.items() if not is_good(result)}
    counts = collections.Counter(verdict(result) for result in results.values())
    table = Table("verdict", "cases")
    for name in (*VERDICTS, *sorted(set(counts) - set(VERDICTS))):
        table.add_row(name, str(counts[name]))
    console.print(table)
    for number in sorted(bad, key=lambda number: [int(part) for part in number.split(".")]):
        result = bad[number]
        console.print(
            f"{number}: {result['behavior']}, close {result['behaviorClose']} "
            f"(code {result['remoteCloseCode']})"
        )
    console.print(f"{len(results)} cases, {len(bad)} of them bad")
    return bool(results) and not bad


def verdict(result: dict[str, object]) -> str:
    """The worse of the case's two verdicts: what happened, and how it was closed."""
    behavior, closing = str(result["behavior"]), str(result["behaviorClose"])
    return behavior if closing in GOOD else closing


if __name__ == "__main__":
    raise SystemExit(main())
