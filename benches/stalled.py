"""
One subscriber that never reads, among 499 that do: what it does to their latency.

    python benches/stalled.py
    python benches/stalled.py -r 9 -s 8

A publisher keeps a message in flight to all, or sends so many a second; the load is that of
`load.py` (mode fanout). Rounds with and without the one that stalls take turns, each with a fresh
server. It is to be closed with 1013 while the others are measured: a round in which it is not says
nothing, and ends the run. Asked is that their p99 stays within 10 %. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import statistics
import sys
import time
from typing import TYPE_CHECKING

from rich.progress import Progress

import machine
from effort import Effort
from load import Bench, Round, console, figures, generator
from scenarios import Scenario, fanout
from servers import RAKIT_WS, RunError, running

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANNEL = "fanout"
# So little that the server notices soon.
RECEIVE_BUFFER_BYTES = 4096
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# A Close from the server with 1013, and its reason.
SLOW_READER = b"\x88\x12\x03\xf5reads too slowly"
PATIENCE_S = 3.0


class Stalled:
    """A subscriber that has read nothing since its subscription was acknowledged."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(REQUEST)
        self._read_to(b"\r\n\r\n")
        subscription = {"event": "subscribe", "channel": CHANNEL, "id": "it"}
        self._socket.sendall(frame(json.dumps(subscription).encode()))
        self._read_to(b'"id":"it"')

    def was_closed(self) -> bool:
        """Read what has come; tell whether the server has closed it for reading too slowly."""
        end = b""
        with contextlib.closing(self._socket):
            try:
                while not end.endswith(SLOW_READER):
                    received = self._socket.recv(1 << 20)
                    if not received:
                        return False
                    end = (end + received)[-len(SLOW_READER) :]
            except ConnectionResetError:
                return True  # It was, and its time to answer that is over, too.
            except TimeoutError:
                return False
        return True

    def _read_to(self, mark: bytes) -> None:
        received = b""
        while mark not in received:
            piece = self._socket.recv(4096)
            if not piece:
                raise RunError(f"refused: {received!r}")
            received += piece


def frame(payload: bytes) -> bytes:
    """Make a text frame, masked with zeros; at most 125 bytes."""
    return bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload


def measure(bench: Bench, scenario: Scenario, *, with_stalled: bool) -> Round:
    """Put the load on a fresh server, with one that stalls or without."""
    with running(RAKIT_WS, scenario.application) as (pid, port):
        time.sleep(0.2)
        stalled = Stalled(port) if with_stalled else None
        done = figures(scenario, *bench.load(scenario, RAKIT_WS, pid, port, lambda _: None))
        if stalled is not None and not stalled.was_closed():
            raise RunError("the one that stalls was not closed: more --seconds or --bytes")
        return done


def rounds(bench: Bench, scenario: Scenario, progress: Progress) -> Iterator[tuple[Round, Round]]:
    """Measure without and with, in turns; nobody is always the first."""
    task = progress.add_task(scenario.name, total=2 * bench.effort.rounds)

    def measured(*, with_stalled: bool) -> Round:
        done = measure(bench, scenario, with_stalled=with_stalled)
        progress.advance(task)
        return done

    for number in range(bench.effort.rounds):
        if number % 2:
            disturbed = measured(with_stalled=True)
            yield measured(with_stalled=False), disturbed
        else:
            undisturbed = measured(with_stalled=False)
            yield undisturbed, measured(with_stalled=True)


def show(pairs: list[tuple[Round, Round]]) -> None:
    """Print medians, and the ratio with its extremes."""
    print("| latency of the others, µs | without | with one that stalls | ratio (extremes) |")
    print("|---|---|---|---|")
    for name, figure in (("p50", "p50_us"), ("p99", "p99_us"), ("p99.9", "p999_us")):
        values = [(getattr(one, figure), getattr(other, figure)) for one, other in pairs]
        without, disturbed = (statistics.median(each) for each in zip(*values, strict=True))
        ratios = [after / before for before, after in values]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
        print(f"| {name} | {without:,.0f} | {disturbed:,.0f} | {ratio} |")


def main() -> int:
    """Print a table."""
    machine.require_linux()
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("-s", "--seconds", type=float, default=6.0, help="of a round, measured")
    parser.add_argument("-n", "--subscribers", type=int, default=499, help="that read")
    parser.add_argument("-b", "--bytes", type=int, default=16_384, help="of each message's text")
    parser.add_argument("-i", "--in-flight", type=int, default=1, help="messages under way")
    parser.add_argument("-p", "--per-second", type=float, help="messages due, in an open loop")
    arguments = parser.parse_args()
    machine.raise_descriptor_limit()
    load = fanout(arguments.subscribers, arguments.in_flight, text_bytes=arguments.bytes)
    if arguments.per_second:
        load = load.at_rate(arguments.per_second)
    # The warm-up ends before anybody could be behind.
    bench = Bench(generator(), Effort(arguments.rounds, 0.1, arguments.seconds))
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        try:
            pairs = list(rounds(bench, load, progress))
        except RunError as error:
            raise SystemExit(f"FAILED: {error}") from None
    show(pairs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
