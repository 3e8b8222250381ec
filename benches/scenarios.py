"""The loads that `load.py` puts on servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Application = Literal["echo", "channel"]


@dataclass(frozen=True)
class Scenario:
    """A load: the application it needs, the generator's arguments, and what it is that is counted."""

    name: str
    application: Application
    arguments: str
    unit: str = "message"
    connections: int = 50
    quick: bool = False


def echo(
    connections: int, in_flight: int, size: str, kind: str, *, quick: bool = False
) -> Scenario:
    payload_bytes = {"64 B": 64, "64 KiB": 65536, "1 MiB": 1 << 20}[size]
    return Scenario(
        f"echo {size} {kind}, {connections} x {in_flight}",
        "echo",
        f"echo --connections {connections} --in-flight {in_flight}"
        f" --payload-bytes {payload_bytes} --kind {kind}",
        quick=quick,
    )


def channel(connections: int, in_flight: int, *, quick: bool = False) -> Scenario:
    return Scenario(
        f"channel, {connections} x {in_flight}",
        "channel",
        f"channel --connections {connections} --in-flight {in_flight}",
        quick=quick,
    )


def fanout(subscribers: int, in_flight: int, *, quick: bool = False) -> Scenario:
    return Scenario(
        f"fan-out to {subscribers:,} x {in_flight}",
        "channel",
        f"fanout --subscribers {subscribers} --in-flight {in_flight}",
        unit="delivery",
        connections=subscribers,
        quick=quick,
    )


def hold(connections: int, *, quick: bool = False) -> Scenario:
    return Scenario(
        f"hold {connections:,}",
        "channel",
        f"hold --connections {connections}",
        unit="handshake",
        connections=connections,
        quick=quick,
    )


SCENARIOS = [
    echo(50, 1, "64 B", "binary", quick=True),
    echo(50, 1, "64 B", "text"),
    echo(50, 32, "64 B", "binary", quick=True),
    echo(50, 32, "64 B", "text"),
    echo(10, 1, "64 KiB", "binary"),
    echo(4, 1, "1 MiB", "binary"),
    channel(50, 1),
    channel(50, 32, quick=True),
    fanout(1000, 1),
    fanout(1000, 16, quick=True),
    hold(2_000, quick=True),
    hold(10_000),
]
