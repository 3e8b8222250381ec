"""What stands in a file of PHP that returns an array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

MAX_FILE_BYTES = 1024 * 1024


class Unknown(NamedTuple):
    """A value that could not be found out: where it stands, and what is in the way."""

    where: str
    """`application/config/session.php:12`."""
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Bootstrap:
    """What `paths.php` says: where things are, and which addresses make which environment."""

    paths: dict[str, str]
    environments: dict[str, list[str]]


Value = Any
"""None, bool, int, float, str, list, dict with keys as strings, or Unknown; nested."""
