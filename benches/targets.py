"""What `compare.py` measures, and what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from decode import Case
from scenarios import Scenario, burst, channel, churn, deflated, echo, fanout, hold

if TYPE_CHECKING:
    from collections.abc import Mapping

Figure = Literal["cpu_us", "kb_per_connection"]


@dataclass(frozen=True)
class Row:
    """A line of the table: at most so many times a peer's figure, or at most so much."""

    scenario: Scenario
    at_most: Mapping[str, float] = field(default_factory=dict)
    figure: Figure = "cpu_us"
    ceiling: float | None = None
    quick: bool = False


@dataclass(frozen=True)
class Curve:
    """The same work at growing sizes: the last point costs at most `at_most` times the first."""

    key: str
    name: str
    axis: str
    points: tuple[tuple[int, Scenario], ...]
    at_most: float
    quick: bool = False

    @property
    def title(self) -> str:
        """What costs, and what grows."""
        return f"{self.name}, by {self.axis}"


@dataclass(frozen=True)
class DecoderRow:
    """A line about decoding alone: at least so many times as fast as another implementation."""

    case: Case
    at_least: Mapping[str, float]


IDLE = 15_000
IDLE_KB = 2.0

ROWS = [
    Row(echo(50, 32, "64 B", "binary"), {"bun": 0.80, "picows": 0.05}, quick=True),
    Row(echo(50, 32, "64 B", "text"), {"bun": 0.80, "picows": 0.05}),
    Row(channel(50, 32), {"bun": 0.80, "picows": 0.10}, quick=True),
    Row(echo(50, 1, "64 B", "binary"), {"bun": 1.00, "picows": 0.85}),
    Row(channel(50, 1), {"bun": 1.00, "picows": 0.85}),
    Row(fanout(1000, 1), {"bun": 0.85}),
    Row(fanout(1000, 16), {"bun": 0.85}, quick=True),
    Row(echo(10, 1, "64 KiB", "binary"), {"bun": 0.55}),
    Row(echo(4, 1, "1 MiB", "binary"), {"bun": 0.60}),
    Row(hold(2000), {"bun": 1.3}, quick=True),
    Row(hold(IDLE), figure="kb_per_connection", ceiling=IDLE_KB),
    Row(burst(IDLE), figure="kb_per_connection", ceiling=IDLE_KB),
    Row(deflated(fanout(1000, 1, text_bytes=1024)), {"bun": 0.40}),
    Row(deflated(channel(50, 8, text_bytes=1024)), {"bun": 0.70}),
]

DECODER_ROWS = [
    DecoderRow(Case("binary", "64 B", 64), {"reference (Python)": 14, "websockets": 30}),
    DecoderRow(Case("text", "64 B", 64), {"reference (Python)": 14, "websockets": 30}),
    DecoderRow(Case("binary", "1 MiB", 1 << 20), {"websockets": 1.2}),
    DecoderRow(Case("mask", "1 MiB", 1 << 20), {"memcpy": 0.7}),
]

CURVES = [
    Curve(
        "subscribers",
        "a delivery, 16 publications under way",
        "subscribers of the channel",
        tuple((n, fanout(n, 16).without_presence()) for n in (100, 1_000, 10_000)),
        at_most=1.3,
        quick=True,
    ),
    Curve(
        "channels",
        "a message, 10 connections x 32",
        "channels, all of them in use",
        tuple(
            (n, channel(10, 32, channels=n).without_presence()) for n in (10, 100, 1_000, 10_000)
        ),
        at_most=1.2,
    ),
    Curve(
        "connections",
        "connecting, hearing a channel, leaving",
        "connections that are there",
        tuple((n, churn(16).beside(n).without_presence()) for n in (100, 1_000, 10_000)),
        at_most=1.2,
    ),
    Curve(
        "churn-channels",
        "connecting, hearing a channel, leaving",
        "channels that are there",
        tuple((n, churn(16).beside(100, n).without_presence()) for n in (100, 1_000, 10_000)),
        at_most=1.2,
    ),
    Curve(
        "idle",
        "a message, 50 connections x 1",
        "idle connections beside them",
        tuple((n, channel(50, 1).beside(n).without_presence()) for n in (50, 1_000, IDLE)),
        at_most=1.1,
    ),
]
# Curves take long, and say something of a server's own growth alone.
CURVE_PEERS = ("bun", "picows")

# One in flight: as in the open loop, messages come singly. With 32 at a time a server does several
# times as many, which no generator on one core could send one by one.
LATENCY = channel(50, 1)
LATENCY_PEERS = ("bun", "picows", "ws")
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
QUICK_LOADS = (0.1, 0.5, 0.9)
