"""How many shards a server has, and that their threads come and go with it."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys
from pathlib import Path

import pytest

from conftest import quiet_server, shards_for, until
from rakit_ws import Config, Server
from rakit_ws._core import MOST_SHARDS, Engine, ShardedEngine
from rakit_ws.cli import main
from rakit_ws.engine import new_engine, shard_count
from rakit_ws.errors import ConfigError, UsageError
from rakit_ws.process import cores_allowed
from raw_client import within

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(autouse=True)
def nothing_left_to_collect():
    """Have the collector end the threads of servers that earlier tests have left to it."""
    gc.collect()


def shard_threads():
    """Return the names of those that are listed, as they are for a moment after their end."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            names.append((task / "comm").read_text().strip())
    return sorted(name for name in names if name.startswith("shard-"))


# --- how many


@pytest.mark.parametrize(
    ("cores", "shards"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (64, 32), (128, 64), (129, 64)]
)
def test_there_is_one_up_to_two_cores_then_half_of_them(cores, shards):
    assert shards_for(cores) == shards


def tree(root, files):
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


@linux_only
@pytest.mark.parametrize(
    ("quota", "cores"),
    [("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("800000 100000", 8)],
)
def test_quota_of_a_control_group_or_of_one_above_it_counts(tmp_path, monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        "sys/fs/cgroup/a/cpu.max": f"{quota}\n",
        "sys/fs/cgroup/cpu.max": "1600000 100000\n",
    }
    assert cores_allowed(tree(tmp_path, files)) == cores


@linux_only
@pytest.mark.parametrize(("quota", "cores"), [("-1", 64), ("400000", 4)])
def test_quota_of_a_control_group_of_version_1_counts(tmp_path, monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    files = {
        "proc/self/cgroup": "9:cpu,cpuacct:/x\n4:memory:/x\n",
        "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": f"{quota}\n",
        "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
    }
    assert cores_allowed(tree(tmp_path, files)) == cores


def test_without_a_quota_the_cores_count_that_it_may_run_on(tmp_path):
    assert cores_allowed(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("shards", [-1, MOST_SHARDS + 1, 1.5, True, "2"])
def test_number_that_cannot_be_is_a_mistake_that_names_it(shards):
    with pytest.raises(ConfigError, match=f"shards: .*0 to {MOST_SHARDS}"):
        Config(shards=shards)


@pytest.mark.parametrize("shards", [0, -1, MOST_SHARDS + 1, 1 << 64])
def test_engine_takes_1_to_64(shards):
    with pytest.raises(UsageError, match=f"shards must be 1 to {MOST_SHARDS}, not {shards}"):
        ShardedEngine(shards)


@pytest.mark.parametrize("shards", [1, 2, MOST_SHARDS])
def test_one_is_inline_and_more_are_threads(shards):
    engine = new_engine(shards, max_connections=7)
    assert isinstance(engine, Engine if shards == 1 else ShardedEngine)
    assert shard_count(engine) == shards


def test_setting_that_the_engine_does_not_have_is_a_mistake_in_both():
    for shards in (1, 2):
        with pytest.raises(UsageError, match="no setting"):
            new_engine(shards, nonsense=1)


def test_flag_sets_it(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--shards", "3"]) == 0
    assert "shards = 3" in capsys.readouterr().out
    assert main(["check", "--shards", "65"]) == 2
    assert "shards" in capsys.readouterr().err


@pytest.mark.parametrize(("shards", "threads"), [(1, 0), (3, 3)])
async def test_log_says_how_many_there_are(serve, caplog, shards, threads):
    caplog.set_level("INFO", "rakit_ws")
    await serve(shards=shards)
    (line,) = [line for line in caplog.messages if line.startswith("shards ")]
    assert line == f"shards count={shards} threads={threads}"


async def test_descriptors_of_the_threads_are_left_to_them(serve, caplog):
    caplog.set_level("INFO", "rakit_ws")
    for shards in (1, 8):
        await serve(shards=shards)
    lines = [line for line in caplog.messages if line.startswith("limits ")]
    inline, threads = (int(re.search(r"max_connections=(\d+)", line)[1]) for line in lines)
    assert inline - threads == 5 * 8


# --- their threads


@linux_only
async def test_threads_live_as_long_as_the_server():
    before = shard_threads()
    async with quiet_server(shards=3) as server:
        assert len(server.addresses) == 1
        # Each names itself, as soon as it runs.
        expected = sorted([*before, "shard-0", "shard-1", "shard-2"])
        await until(lambda: shard_threads() == expected)
    await until(lambda: shard_threads() == before)


@linux_only
async def test_no_thread_is_left_where_the_address_is_taken():
    before = shard_threads()
    async with quiet_server(shards=2) as server:
        port = int(server.addresses[0].rpartition(":")[2])
        with pytest.raises(Exception, match="cannot listen"):
            async with Server(port=port, shards=2):
                pass
    await until(lambda: shard_threads() == before)


# --- clients of several shards


async def test_clients_of_all_shards_hear_each_other(serve, connect):
    server = await serve(shards=3)
    clients = [await connect(server) for _ in range(6)]
    for client in clients:
        await client.ask({"event": "subscribe", "channel": "chat"})
    assert server.channels == {"chat": 6}
    for number, client in enumerate(clients):
        await client.send({"event": "message", "channel": "chat", "data": number})
        for each in clients:
            assert (await each.receive())["data"] == number
    await clients[0].send({"to": clients[1].id, "message": "to you"})
    assert (await clients[1].receive())["message"] == "to you"


async def test_counters_are_those_of_all_shards(connect):
    async with quiet_server(shards=2) as server:
        clients = [await connect(server) for _ in range(4)]
        assert server.counters["opened"] == 4
        for client in clients:
            await client.send({"message": "x"})
            for each in clients:
                await each.receive()
        assert server.counters["messages_received"] == 4
        assert server.counters["messages_sent"] == 16


async def test_large_payload_is_whole_on_its_way_through_the_threads(serve, connect):
    server = await serve(shards=2)
    client, other = await connect(server), await connect(server)
    text = "x" * 500_000
    await client.send({"to": other.id, "message": text})
    assert (await other.receive())["message"] == text


# --- a thread that fails


def pollers():
    """Return the descriptors of this process that are epoll instances."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if "eventpoll" in str(each.readlink()):
                found.add(int(each.name))
    return found


@linux_only
async def test_failure_of_a_thread_is_a_crash_of_the_server(connect, logged_errors):
    before = pollers()
    others = shard_threads()
    server = quiet_server(shards=2)
    crashes = []
    server.on("crash")(crashes.append)
    async with server:
        clients = [await connect(server) for _ in range(2)]
        nothing = os.open("/dev/null", os.O_RDONLY)
        for poller in pollers() - before:
            os.dup2(nothing, poller)  # nothing that can be waited for
        os.close(nothing)
        # Whichever shard it is in: its thread looks at its poller after this.
        server.broadcast("x")
        await within(server._running.stopped.wait())
    assert isinstance(crashes[0], OSError)
    assert str(crashes[0]).startswith("shard ")
    assert logged_errors()[0] == "crashed"
    await until(lambda: len(shard_threads()) <= len(others))
    for client in clients:
        await client.aclose()
