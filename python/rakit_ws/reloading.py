"""What another configuration changes in a server that runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rakit_ws.config import options, value_of
from rakit_ws.layers import built
from rakit_ws.options import literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rakit_ws.config import Config
    from rakit_ws.options import Option


@dataclass(frozen=True)
class Reload:
    """A configuration to go on with, and what is new in it, as texts by key: `before -> after`."""

    config: Config
    changed: Mapping[str, str]
    postponed: Mapping[str, str]
    """What only a restart can change: `config` has it as it was."""


def planned(running: Config, wanted: Config) -> Reload:
    """Compare what is in force with what is wanted."""
    changed: dict[str, str] = {}
    postponed: dict[str, str] = {}
    values = {}
    for option in options():
        before, after = value_of(running, option.key), value_of(wanted, option.key)
        values[option.key] = after if option.reloadable else before
        if before != after:
            news = changed if option.reloadable else postponed
            news[option.key] = f"{_shown(option, before)} -> {_shown(option, after)}"
    return Reload(built(values), changed, postponed)


def _shown(option: Option, value: object) -> str:
    return "(hidden)" if option.secret and value else literal(value)
