"""What systemd is told: sd_notify(3), sd_watchdog_enabled(3). A socket of the test stands for it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import textwrap
import time

import pytest

from application import app
from rakit_ws.log import log
from rakit_ws.systemd import STATUS_INTERVAL_S, Systemd
from raw_client import RawClient

TIMEOUT_S = 20
ABSTRACT_NAMES = itertools.count()


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, address):
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.settimeout(TIMEOUT_S)

    def next(self):
        return self.socket.recv(4096).decode().split("\n")

    def next_but_watchdog(self):
        while (lines := self.next()) == ["WATCHDOG=1"]:
            pass
        return lines

    def waiting(self):
        """Take what has come so far."""
        lines = []
        self.socket.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                lines += self.socket.recv(4096).decode().split("\n")
        self.socket.settimeout(TIMEOUT_S)
        return lines


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        address = f"@rakit-ws-test-{os.getpid()}-{next(ABSTRACT_NAMES)}"
    manager = Manager(address)
    yield manager
    manager.socket.close()


@pytest.fixture
def systemd_of(manager):
    made = []

    def make(**environ):
        made.append(Systemd({"NOTIFY_SOCKET": manager.address, **environ}))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_states_are_told_as_they_come(manager, systemd_of):
    systemd = systemd_of()
    systemd.ready("1 client")
    assert manager.next() == ["READY=1", "STATUS=1 client"]
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    with systemd.reloading():
        first, second = manager.next()
        assert first == "RELOADING=1"
        assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= before + 60_000_000
        assert manager.waiting() == []
    assert manager.next() == ["READY=1"]
    systemd.stopping("bye")
    assert manager.next() == ["STOPPING=1", "STATUS=bye"]


def test_reload_that_fails_ends_too(manager, systemd_of):
    systemd = systemd_of()
    systemd.ready("")
    with pytest.raises(ValueError, match="wrong"), systemd.reloading():
        raise ValueError("wrong")
    assert manager.waiting()[-1] == "READY=1"


def test_service_that_does_not_work_yet_is_not_made_ready_by_a_reload(manager, systemd_of):
    with systemd_of().reloading():
        pass
    assert manager.waiting() == []


def test_sign_of_life_is_given_at_half_of_the_time(manager, systemd_of):
    systemd = systemd_of(WATCHDOG_USEC="4000000", WATCHDOG_PID=str(os.getpid()))
    assert systemd.watchdog_s == 4
    for now_s, expected in [(100, True), (101.9, False), (102, True), (103.9, False), (104, True)]:
        systemd.beat(now_s, str)
        assert manager.waiting() == ["WATCHDOG=1"] * expected


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
def test_no_sign_of_life_where_none_is_wanted_of_this_process(manager, systemd_of, environ):
    systemd = systemd_of(**environ)
    assert systemd.watchdog_s is None
    systemd.beat(1000, str)
    assert manager.waiting() == []


def test_status_is_told_when_it_changes_but_not_all_the_time(manager, systemd_of):
    systemd = systemd_of()
    systemd.beat(1000, lambda: "not ready")
    assert manager.waiting() == []
    systemd.ready("0")
    manager.next()
    for now_s, status, expected in [
        (1000, "0", []),
        (1000 + STATUS_INTERVAL_S - 0.1, "1", []),
        (1000 + STATUS_INTERVAL_S, "1", ["STATUS=1"]),
        (1000 + 2 * STATUS_INTERVAL_S, "1", []),
    ]:
        systemd.beat(now_s, lambda status=status: status)
        assert manager.waiting() == expected


def test_manager_that_is_gone_or_does_not_read_harms_nobody(manager, systemd_of, caplog):
    log.refresh()  # its bounds begin anew
    systemd = systemd_of(WATCHDOG_USEC="2")
    for now_s in range(10_000):  # more than its queue holds
        systemd.beat(now_s, str)
    manager.socket.close()
    systemd.beat(20_000, str)
    systemd.stopping("")
    # About once a second, however often it fails.
    assert "systemd not told what=WATCHDOG=1" in caplog.text.replace('"', "")
    assert caplog.text.count("systemd not told") < 10


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative/path"])
def test_without_a_socket_that_can_be_nothing_is_told(address):
    systemd = Systemd({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
    assert systemd.watchdog_s is None
    systemd.ready("")
    systemd.beat(1, str)
    with systemd.reloading():
        pass
    systemd.stopping("")
    systemd.close()


# --- a server in a process of its own

APP = """
import os
import sys

from rakit_ws import Server

server = Server(port=0, close_timeout=1)


@server.on("start")
async def start(server):
    print(server.addresses[0], flush=True)
    open(os.environ["GATE"]).close()


@server.command("block")
def block(client):
    print("blocked", flush=True)
    open(os.environ["GATE"]).close()


@server.command("crash")
def crash(client):
    os.close(server._running.engine.fileno())


raise SystemExit(server.run())
"""


@pytest.fixture
def service(tmp_path, manager, monkeypatch):
    os.mkfifo(tmp_path / "gate")
    for key, value in {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "300000",
        "GATE": str(tmp_path / "gate"),
    }.items():
        monkeypatch.setenv(key, value)
    with app(tmp_path, textwrap.dedent(APP)) as (process, address):
        yield process, address, tmp_path / "gate"


async def test_service_is_ready_behind_its_start_hooks_and_lives_while_its_loop_does(
    service, manager
):
    process, address, gate = service
    assert not any(line.startswith("READY") for line in manager.waiting())
    gate.write_text("")
    ready = manager.next_but_watchdog()
    assert ready == ["READY=1", f"STATUS=0 clients on ws://{address}"]
    for _ in range(3):
        assert manager.next() == ["WATCHDOG=1"]

    client = await RawClient.open(address)
    await client.handshake()
    await client.send({"command": "block"})
    assert "blocked\n" in iter(process.stdout.readline, "")
    manager.waiting()
    time.sleep(0.6)  # noqa: ASYNC251 - in which a loop that works gives four
    assert manager.waiting() == []
    gate.write_text("")
    assert manager.next() == ["WATCHDOG=1"]

    process.send_signal(signal.SIGHUP)
    assert manager.next_but_watchdog()[0] == "RELOADING=1"
    assert manager.next_but_watchdog() == ["READY=1"]

    process.send_signal(signal.SIGTERM)
    assert manager.next_but_watchdog() == ["STOPPING=1", "STATUS=stopping"]
    await client.aclose()
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0


async def test_service_that_crashes_says_so_and_gives_no_sign_of_life(service, manager):
    process, address, gate = service
    gate.write_text("")
    client = await RawClient.open(address)
    await client.handshake()
    await client.send({"command": "crash"})
    while not (lines := manager.next_but_watchdog())[0].startswith("STOPPING"):
        pass
    assert lines[1].startswith("STATUS=crashed: OSError")
    await client.aclose()
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert manager.waiting() == []
    assert process.returncode == 1
    assert "ERROR crashed" in output
