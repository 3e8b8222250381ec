"""Applications that tests run in a process of their own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys


@contextlib.contextmanager
def app(directory, source, **environment):
    """Run an application in a process of its own; yield it and the address that it prints."""
    script = directory / "app.py"
    script.write_text(source)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        lines = iter(process.stdout.readline, "")
        matches = (re.fullmatch(r"(?:.* wss?://)?(127\.0\.0\.1:[0-9]+)\n", line) for line in lines)
        yield process, next(match[1] for match in matches if match)
    finally:
        process.kill()
        process.communicate()
