"""The loads that `load.py` and `compare.py` put on servers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

# `growth` is `channel` with nothing that depends on how many are there: no presence, no low limits.
Application = Literal["echo", "channel", "growth", "deflate"]


@dataclass(frozen=True)
class Scenario:
    """A load: the application it needs, the generator's arguments, and what it is that is counted."""

    name: str
    application: Application
    arguments: str
    unit: str = "message"
    connections: int = 50
    quick: bool = False

    def beside(self, idle: int, channels: int = 0) -> Scenario:
        """Return the same load beside so many idle connections, which hear channels."""
        heard = f" that hear {channels:,} channels" if channels else ""
        return replace(
            self,
            name=f"{self.name} beside {idle:,} idle{heard}",
            arguments=f"{self.arguments} --idle {idle} --idle-channels {channels}",
            connections=self.connections + idle,
        )

    def without_presence(self) -> Scenario:
        """Return the same load for a server that tells nobody who is there."""
        return replace(self, name=f"{self.name} without presence", application="growth")

    def at_rate(self, per_s: float) -> Scenario:
        """Return the same load as an open loop, whatever comes back."""
        return replace(
            self,
            name=f"{self.name} at {per_s:,.0f}/s",
            arguments=f"{self.arguments} --rate {per_s:.3f}",
        )


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


def large(text_bytes: int) -> str:
    """Name the size of a JSON message that is not the usual one."""
    return f" {text_bytes // 1024} KiB" if text_bytes >= 1024 else ""


def channel(
    connections: int,
    in_flight: int,
    *,
    channels: int = 0,
    text_bytes: int = 32,
    quick: bool = False,
) -> Scenario:
    many = f" on {channels:,} channels" if channels else ""
    return Scenario(
        f"channel{large(text_bytes)}, {connections} x {in_flight}{many}",
        "channel",
        f"channel --connections {connections} --in-flight {in_flight}"
        f" --channels {channels or 1} --text-bytes {text_bytes}",
        connections=connections,
        quick=quick,
    )


def fanout(
    subscribers: int, in_flight: int, *, text_bytes: int = 32, quick: bool = False
) -> Scenario:
    return Scenario(
        f"fan-out{large(text_bytes)} to {subscribers:,} x {in_flight}",
        "channel",
        f"fanout --subscribers {subscribers} --in-flight {in_flight} --text-bytes {text_bytes}",
        unit="delivery",
        connections=subscribers + 1,
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


def burst(connections: int) -> Scenario:
    """Return a load after which all rest: each has published 1 KiB over and over."""
    return Scenario(
        f"hold {connections:,} after a burst",
        "channel",
        f"channel --connections {connections} --in-flight 1 --text-bytes 1024 --rest 2",
        connections=connections,
    )


def deflated(scenario: Scenario) -> Scenario:
    """Return a load in which both sides compress, without context takeover."""
    return replace(
        scenario,
        name=f"{scenario.name}, permessage-deflate",
        application="deflate",
        arguments=f"{scenario.arguments} --deflate",
    )


def churn(connections: int) -> Scenario:
    return Scenario(
        f"come and go, {connections} at a time",
        "channel",
        f"churn --connections {connections}",
        unit="connection",
        connections=connections,
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
