"""process.py: what `run` sets in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from rakit_ws import process

NONE = resource.RLIM_INFINITY


@pytest.fixture
def limits(monkeypatch):
    """Stand in for the system's limits; return how to set them, and what macOS would take."""
    state = {"limits": (256, 4096), "most": NONE}

    def setrlimit(_, limits):
        if state["most"] != NONE and limits[0] > state["most"]:
            raise ValueError("current limit exceeds maximum limit")
        state["limits"] = limits

    monkeypatch.setattr(resource, "getrlimit", lambda _: state["limits"])
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    return state


@pytest.mark.parametrize(
    ("before", "most", "after"),
    [
        ((256, 4096), NONE, (4096, 4096)),
        ((4096, 4096), NONE, (4096, 4096)),
        ((256, NONE), NONE, (1 << 20, NONE)),
        ((256, NONE), 10_240, (10_240, NONE)),
        ((20_000, NONE), 10_240, (20_000, NONE)),
        ((NONE, NONE), NONE, (NONE, NONE)),
        ((256, 4096), 100, (256, 4096)),
    ],
)
def test_descriptor_limit_is_raised_as_far_as_the_system_takes_it(limits, before, most, after):
    limits.update(limits=before, most=most)
    process.raise_descriptor_limit()
    assert limits["limits"] == after


def test_no_limit_is_many_descriptors_and_not_minus_one(limits):
    assert process.descriptors_allowed() == 256
    limits["limits"] = (NONE, NONE)
    assert process.descriptors_allowed() == 1 << 20


SERVERS = {
    "run": """
import gc, os, signal
from rakit_ws import Server
server = Server(port=0, log_level="error")
server.on("stop")(lambda _server: print(gc.get_freeze_count()))
server.on("start")(lambda server: server.call_soon_threadsafe(os.kill, os.getpid(), signal.SIGTERM))
server.run()
""",
    "embedded": """
import asyncio, gc
from rakit_ws import Server
async def main():
    async with Server(port=0, log_level="error"):
        print(gc.get_freeze_count())
asyncio.run(main())
""",
}


@pytest.mark.parametrize(("kind", "least", "most"), [("run", 5000, 10**6), ("embedded", 0, 0)])
def test_only_a_server_with_the_process_to_itself_sets_objects_aside(kind, least, most):
    done = subprocess.run(
        [sys.executable, "-c", SERVERS[kind]],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert least <= int(done.stdout) <= most
