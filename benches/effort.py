"""How long to measure, and the arguments that say so."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Effort:
    """So many rounds, and the seconds of each before and while it is measured."""

    rounds: int
    warmup_s: float
    seconds: float

    def __str__(self) -> str:
        rounds = "1 round" if self.rounds == 1 else f"{self.rounds} rounds"
        return f"{rounds} of {self.seconds:g} s"

    def but(self, arguments: argparse.Namespace) -> Effort:
        """Return this effort with what the arguments say instead."""
        return replace(
            self,
            rounds=arguments.rounds or self.rounds,
            seconds=arguments.seconds or self.seconds,
        )


FULL = Effort(rounds=3, warmup_s=1.0, seconds=3.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a run be shorter or longer than usual."""
    parser.add_argument("--rounds", type=rounds, metavar="N", help="a full run has 3")
    parser.add_argument(
        "--seconds", type=seconds, metavar="S", help="measured seconds of a round; a full run has 3"
    )


def rounds(text: str) -> int:
    """Read a number of rounds."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1")
    return int(text)


def seconds(text: str) -> float:
    """Read the length of a round; the generator takes an hour at most."""
    try:
        length_s = float(text)
    except ValueError:
        length_s = 0.0
    if not 0.0 < length_s <= 3600.0:
        raise argparse.ArgumentTypeError(f"{text} is no time from above 0 to 3600 s")
    return length_s
