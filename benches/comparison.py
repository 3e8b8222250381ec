"""All that a run of `compare.py` has measured, as it is kept in `results.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import decode
from effort import Effort
from load import Result

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILE = "results.json"
MEASURED = ("effort", "decoder", "rows", "curves", "latency")


@dataclass
class Comparison:
    """All that was measured, and what is needed to read it later."""

    command: str
    began: str
    commit: str
    machine: dict[str, object]
    versions: dict[str, dict[str, str]]
    effort: Effort
    # False while it is under way, and for good where it was stopped.
    finished: bool = False
    not_measured: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    decoder: dict[str, list[decode.Result]] = field(default_factory=dict)
    # The results of each row, of each point of a curve, of each load; rakit_ws first.
    rows: dict[str, list[Result]] = field(default_factory=dict)
    curves: dict[str, dict[int, list[Result]]] = field(default_factory=dict)
    latency: dict[str, dict[float, Result]] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """All figures; every round of each, those of servers that failed later included."""
        curves = {
            key: {str(size): whole(results) for size, results in points.items()}
            for key, points in self.curves.items()
        }
        latency = {
            name: {str(load): result.as_json([]) for load, result in loads.items()}
            for name, loads in self.latency.items()
        }
        return {
            **{key: value for key, value in vars(self).items() if key not in MEASURED},
            "effort": asdict(self.effort),
            "decoder": {
                case: [asdict(each) for each in results] for case, results in self.decoder.items()
            },
            "rows": {name: whole(results) for name, results in self.rows.items()},
            "curves": curves,
            "latency": latency,
        }

    @classmethod
    def from_json(cls, figures: dict[str, Any]) -> Comparison:
        """Return what `as_json` was called on."""
        plain = {key: value for key, value in figures.items() if key not in MEASURED}
        return cls(
            **plain,
            effort=Effort(**figures["effort"]),
            decoder={
                case: [decode.Result.from_json(each) for each in results]
                for case, results in figures["decoder"].items()
            },
            rows={name: read(results) for name, results in figures["rows"].items()},
            curves={
                key: {int(size): read(results) for size, results in points.items()}
                for key, points in figures["curves"].items()
            },
            latency={
                name: {float(load): Result.from_json(each) for load, each in loads.items()}
                for name, loads in figures["latency"].items()
            },
        )

    def keep(self, directory: Path) -> None:
        """Write all figures so far; the file is whole at any time."""
        directory.mkdir(parents=True, exist_ok=True)
        unfinished = directory / f"{FILE}.part"
        unfinished.write_text(json.dumps(self.as_json(), indent=1) + "\n", "utf-8")
        unfinished.replace(directory / FILE)

    @classmethod
    def kept(cls, directory: Path) -> Comparison:
        """
        Read what `keep` has written.

        Raises:
            OSError: there is no such file.
        """
        return cls.from_json(json.loads((directory / FILE).read_text("utf-8")))

    def is_of_the_same(self, other: Comparison) -> bool:
        """Whether both measure the same programs in the same way, so that one can go on."""
        return all(
            getattr(self, name) == getattr(other, name) for name in ("commit", "versions", "effort")
        )


def whole(results: Sequence[Result]) -> list[dict[str, object]]:
    """Return all; ratios are to those that did not fail, and no other has any."""
    sound = [result for result in results if not result.fault]
    return [result.as_json([] if result.fault else sound) for result in results]


def read(results: list[dict[str, Any]]) -> list[Result]:
    return [Result.from_json(each) for each in results]
