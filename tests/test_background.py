"""A log that nobody reads holds up nobody."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading

import pytest

from rakit_ws import background
from rakit_ws.background import MAX_WAITING, Background, Descriptor
from rakit_ws.config import Config
from rakit_ws.log import LOGGER_NAME, configure, log
from raw_client import RawClient


def record(message):
    return logging.LogRecord("t", logging.INFO, "f", 1, message, None, None)


class Target:
    """What is written to: it may be made to wait, or to fail."""

    def __init__(self):
        self.lines = []
        self.may_write = threading.Event()
        self.may_write.set()
        self.waits = threading.Event()
        self.fault = None
        self.is_closed = threading.Event()

    def write(self, lines):
        self.waits.set()
        self.may_write.wait()
        if self.fault:
            raise self.fault
        self.lines += lines.split("\n")


@pytest.fixture
def target():
    return Target()


@pytest.fixture
def handler(target):
    handler = Background(
        target.write, target.is_closed.set, lambda count: record(f"dropped {count}")
    )
    yield handler
    target.may_write.set()
    handler.close()


def stop_target(handler, target):
    """Let the thread wait inside of a write."""
    target.may_write.clear()
    target.waits.clear()
    handler.emit(record("first"))
    assert target.waits.wait(10)


def test_lines_are_written_in_their_order_and_all_of_them_before_the_end(handler, target):
    for number in range(3000):
        handler.emit(record(str(number)))
    handler.close()
    assert target.lines == [str(number) for number in range(3000)]
    assert target.is_closed.wait(10)


def test_flush_waits_for_what_is_there(handler, target):
    handler.emit(record("a"))
    handler.flush()
    assert target.lines == ["a"]


@pytest.mark.parametrize("over", [0, 1, 5])
def test_what_finds_no_room_is_dropped_and_the_log_tells_how_much(handler, target, over):
    stop_target(handler, target)
    for number in range(MAX_WAITING + over):
        handler.emit(record(str(number)))
    target.may_write.set()
    handler.flush()
    told = [line for line in target.lines if line.startswith("dropped")]
    assert told == ([f"dropped {over}"] if over else [])
    kept = [line for line in target.lines if line not in told]
    assert kept == ["first", *map(str, range(MAX_WAITING))]


def test_what_cannot_be_written_is_told_of_when_writing_works_again(handler, target):
    target.fault = OSError("no space")
    for number in range(3):
        handler.emit(record(str(number)))
        handler.flush()
    target.fault = None
    handler.emit(record("again"))
    handler.flush()
    assert target.lines == ["again", "dropped 3"]


def test_neither_flush_nor_close_waits_for_ever(handler, target, monkeypatch):
    monkeypatch.setattr(background, "FLUSH_TIMEOUT_S", 0.01)
    stop_target(handler, target)
    handler.flush()
    handler.close()
    handler.close()
    assert target.lines == []


def test_descriptor_is_written_whole_though_it_does_not_block(tmp_path):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    sent = "é" * 200_000
    thread = threading.Thread(target=Descriptor(writing, "ascii").write, args=(sent,))
    thread.start()
    with os.fdopen(reading, "rb") as pipe:
        received = pipe.read(len(sent) * 4 + 1)
    thread.join()
    os.close(writing)
    assert received.decode() == "\\xe9" * 200_000 + "\n"


def test_line_is_written_at_once_where_there_is_room_and_else_in_its_turn():
    reading, writing = os.pipe()
    output = Descriptor(writing, "utf-8")
    handler = Background(
        output.write, lambda: None, lambda count: record(str(count)), output.write_now
    )
    handler.emit(record("now"))
    os.set_blocking(reading, False)
    assert os.read(reading, 100) == b"now\n"  # no thread had to run for it
    os.set_blocking(reading, True)
    expected = [f"{number} ".ljust(100, "x") for number in range(2000)]
    for line in expected:
        handler.emit(record(line))  # a pipe holds a third of it
    handler.emit(record("long " + "y" * 5000))
    closing = threading.Thread(target=lambda: (handler.flush(), handler.close(), os.close(writing)))
    closing.start()
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().decode().splitlines()
    closing.join()
    assert lines == [*expected, "long " + "y" * 5000]


def test_pipe_whose_reader_is_gone_is_no_fault_of_the_server():
    reading, writing = os.pipe()
    output = Descriptor(writing, "utf-8")
    handler = Background(
        output.write, lambda: None, lambda count: record(str(count)), output.write_now
    )
    os.close(reading)
    for number in range(10):
        handler.emit(record(str(number)))
    handler.close()
    os.close(writing)


@pytest.fixture
def logger():
    logger = logging.getLogger(LOGGER_NAME)
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    for handler in set(logger.handlers) - set(before[0]):
        logger.removeHandler(handler)
        handler.close()
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])
    log.refresh()


@pytest.mark.parametrize("form", ["text", "json"])
def test_file_is_written_by_the_thread_and_reopened_when_rotated(tmp_path, logger, form):
    path = tmp_path / "log"
    config = Config(logging_output="file", log_file=str(path), log_format=form)
    configure(config, in_background=True)
    (handler,) = logger.handlers
    assert isinstance(handler, Background)
    log.info("one", id=1)
    handler.flush()
    path.rename(tmp_path / "old")
    log.info("two", id=2)
    handler.flush()
    (line,) = path.read_text().splitlines()
    if form == "json":
        assert json.loads(line)["event"] == "two"
    else:
        assert line.endswith("INFO two id=2")


# --- a server whose standard output nobody reads


async def test_server_works_on_and_stops_though_nobody_reads_its_output(tmp_path):
    config = tmp_path / "settings.toml"
    config.write_text(
        'host = "unix:'
        + str(tmp_path / "s")
        + '"\nlog_level = "debug"\n[presence]\nenabled = false\n'
    )
    process = subprocess.Popen(  # noqa: ASYNC220 - it goes on without being waited for
        [sys.executable, "-m", "rakit_ws", "run", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout.readline()  # it listens; nothing else is read
        client = await RawClient.open(f"unix:{tmp_path / 's'}")
        try:
            await client.handshake()
            await client.receive()
            # At debug each is a line of about 100 bytes, and a pipe holds 64 KiB.
            for number in range(3000):
                await client.ask({"ping": 1}, number)
        finally:
            await client.aclose()
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
