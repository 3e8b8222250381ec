"""`max_memory`: what peers can make a server hold, all together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from conftest import until
from rakit_ws.process import memory_allowed
from raw_client import BINARY, RawClient, frame

MIB = 1 << 20
LIMIT = 48 * MIB
# What `max_memory` does not count: Python's objects for each connection and message, the 4 MiB of
# messages that are being handled, what the allocator keeps, the code itself.
SLACK = 32 * MIB

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@contextlib.asynccontextmanager
async def running(**settings):
    """Run a server as a process of its own; yield its process id and address."""
    environment = {f"RAKIT_WS_{key.upper()}": str(value) for key, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rakit_ws", "run", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
    )
    try:
        while b"listening" not in (line := await process.stdout.readline()):
            assert line
        draining = asyncio.ensure_future(process.stdout.read())
        yield process.pid, line.decode().split("address=ws://")[1].split()[0]
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await draining


def resident(pid, what):
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith(what)]
    return int(line.split()[1]) * 1024


@linux_only
async def test_process_stays_within_max_memory_whatever_its_clients_do():
    settings = {"max_memory": LIMIT, "close_timeout": 60, "presence_enabled": "false"}
    async with running(**settings) as (pid, address), contextlib.AsyncExitStack() as stack:

        async def connected(**options):
            client = await RawClient.open(address, **options)
            stack.push_async_callback(client.aclose)
            await client.handshake()
            return client, (await client.receive())["client_id"]

        before = resident(pid, "VmRSS:")
        modest, modest_id = await connected()
        stalled = [await connected(receive_buffer=4096) for _ in range(100)]
        # 100 MB in queues of clients that do not read ...
        for n in range(8):
            for _, client_id in stalled:
                await modest.send({"to": client_id, "message": f"{n} " + "x" * 128_000})
        # ... and 210 MB in messages that never end.
        unfinished = frame(BINARY, bytes(700_000))[:-1]
        senders = [await connected() for _ in range(200)]
        late = asyncio.gather(*(offered(client, unfinished) for client, _ in senders))
        # Who does nothing of this is served meanwhile.
        for n in range(20):
            await modest.send({"to": modest_id, "message": n})
            while (await modest.receive()).get("message") != n:
                pass
        await late
        peak = resident(pid, "VmHWM:") - before
        assert 16 * MIB < peak <= LIMIT + SLACK, f"{peak / MIB:.0f} MiB"


async def offered(client, sent):
    """Send what the server takes: it may end the connection, or not read for a while."""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(client.send(sent), 3)


async def test_shortage_is_logged_and_counted_and_over_when_the_memory_is_given_back(
    serve, connect, caplog
):
    caplog.set_level("INFO", "rakit_ws")
    server = await serve(max_memory=1_000_000, max_buffer_size=2_000_000)
    engine = server._running.engine
    client = await connect(server)
    other = await connect(server)
    await client.send(frame(BINARY, bytes(1_900_000))[:-1])
    assert (await client.receive_close())[0] == 1013
    await other.fence()
    await until(lambda: engine.memory_held < 10_000)
    assert server.counters["closed_for_memory"] == 1
    await until(lambda: "memory is ample" in " ".join(caplog.messages))
    text = "\n".join(caplog.messages)
    assert text.count("memory is short held=") == 1
    assert 'code=1013 reason="the server is short of memory"' in text


async def test_default_is_half_of_what_the_process_may_use(serve, caplog):
    caplog.set_level("INFO", "rakit_ws")
    await serve()
    (line,) = [line for line in caplog.messages if line.startswith("limits")]
    assert f"max_memory={memory_allowed() // 2}" in line


# --- what the process may use


def tree(root, files):
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


def test_limit_of_a_control_group_or_of_one_above_it_counts(tmp_path):
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/memory.max": f"{64 * MIB}\n",
        "sys/fs/cgroup/memory.max": f"{128 * MIB}\n",
    }
    assert memory_allowed(tree(tmp_path, files)) == 64 * MIB


def test_limit_of_a_control_group_of_version_1_counts(tmp_path):
    files = {
        "proc/self/cgroup": "9:cpu,cpuacct:/x\n4:memory:/docker/1f\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{32 * MIB}\n",
    }
    assert memory_allowed(tree(tmp_path, files)) == 32 * MIB


@pytest.mark.parametrize("content", ["", "0::/\n", "0::/gone\n", "1:name=systemd:/x\n"])
def test_without_limits_it_is_the_memory_of_the_machine(tmp_path, content):
    expected = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory_allowed(tree(tmp_path, {"proc/self/cgroup": content})) <= expected
    assert memory_allowed(tmp_path / "nothing") > 0
