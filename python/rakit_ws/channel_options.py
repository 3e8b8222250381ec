"""Who may do what in which channels: the list `channels` of the configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from rakit_ws.options import Kind, NotAllowedError, is_line

AUDIENCES = ("everyone", "users", "operators", "grant", "nobody")
MAX_PATTERN_BYTES = 255


class Pattern:
    """Names of channels: `*` stands for any characters, or none; all else for itself."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._first, *rest = text.split("*")
        self._is_exact = not rest
        self._last = rest.pop() if rest else ""
        self._between = rest

    def covers(self, name: str) -> bool:
        """Tell whether it stands for this name. Linear in both."""
        if self._is_exact:
            return name == self.text
        at, end = len(self._first), len(name) - len(self._last)
        if at > end or not (name.startswith(self._first) and name.endswith(self._last)):
            return False
        for part in self._between:
            at = name.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True


@dataclass(frozen=True)
class ChannelRule:
    """
    Who may subscribe to channels, publish in them, and see who hears them.

    What is not given is as `subscribe`, and that is `everyone`; without presence, `members` that is
    not given is `nobody`.
    """

    pattern: str
    subscribe: str = "everyone"
    publish: str = ""
    members: str = ""

    def audience(self, action: str) -> str:
        """Tell who may; `action` is `subscribe`, `publish` or `members`."""
        return getattr(self, action) or self.subscribe


def channel_rules() -> Kind:
    """Take a list of tables; in the environment it is JSON."""

    def check(value: object) -> tuple[ChannelRule, ...]:
        if not isinstance(value, (list, tuple)):
            raise NotAllowedError(value)
        return tuple(map(_rule, value))

    words = ", ".join(AUDIENCES)
    return Kind(
        "a list of tables (JSON in the environment) with `pattern`, a channel's name with `*` for "
        f"any characters, and some of `subscribe`, `publish`, `members`: {words}",
        json.loads,
        check,
    )


def _rule(value: object) -> ChannelRule:
    if isinstance(value, ChannelRule):
        return value
    if not isinstance(value, Mapping):
        raise NotAllowedError(value)
    audiences = {key: value[key] for key in ("subscribe", "publish", "members") if key in value}
    pattern = value.get("pattern")
    is_sound = (
        isinstance(pattern, str)
        and is_line(pattern)
        and len(pattern.encode("utf-8", "replace")) <= MAX_PATTERN_BYTES
        and len(audiences) + 1 == len(value)
        and all(each in AUDIENCES for each in audiences.values())
    )
    if not is_sound or not isinstance(pattern, str):
        raise NotAllowedError(value)
    return ChannelRule(pattern, **audiences)
