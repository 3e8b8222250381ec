"""The processes of the browser tests: none outlives a test that gave up on it."""

from __future__ import annotations

import os
import signal

import pytest

pytest_plugins = ["browser"]

SAYS_NOTHING = "import time; time.sleep(600)"
ENDS = "print('no address here')"
SAYS_WHERE = "import time; print('listening on ws://127.0.0.1:1', flush=True); time.sleep(600)"


@pytest.fixture
def begin():
    """Return how to start a program, and the ids of those that were started."""
    from browser import Process  # A plugin, which pytest wants to import itself.

    pids = []

    class Noted(Process):
        def _read(self, urls):
            pids.append(self._process.pid)
            super()._read(urls)

    return lambda code, **options: Noted("-c", code, urls=1, **options), pids


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_server_that_never_says_where_it_listens_is_killed(begin):
    start, pids = begin
    with pytest.raises(pytest.fail.Exception, match="never said where it listens"):
        start(SAYS_NOTHING, patience_s=0.05)
    assert [is_there(pid) for pid in pids] == [False]


def test_server_that_ends_instead_is_not_waited_for(begin):
    start, pids = begin
    with pytest.raises(pytest.fail.Exception, match="no address here"):
        start(ENDS, patience_s=600)
    assert [is_there(pid) for pid in pids] == [False]


def test_server_that_says_where_it_listens_runs_until_it_is_ended(begin):
    start, pids = begin
    process = start(SAYS_WHERE)
    assert process.address == "127.0.0.1:1"
    assert process.end() == -signal.SIGTERM
    assert [is_there(pid) for pid in pids] == [False]
