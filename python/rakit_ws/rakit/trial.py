"""Whether what the source `rakit` needs is there: tried once, for a person."""

from __future__ import annotations

import os
import secrets
import string
from typing import TYPE_CHECKING, NamedTuple

from rakit_ws.errors import SourceDownError
from rakit_ws.rakit.source import RakitSource

if TYPE_CHECKING:
    from pathlib import Path

    from rakit_ws.config import Config
    from rakit_ws.user_options import Rakit


class Outcome(NamedTuple):
    """How one attempt ended."""

    what: str
    said: str
    is_good: bool


async def try_out(config: Config) -> list[Outcome]:
    """
    Look up a session that nobody has, and a user whom nobody is.

    Raises:
        ConfigError: what is configured can't be a source at all.

    """
    settings = config.rakit
    source = RakitSource(settings, timeout_s=config.auth.timeout)
    try:
        return [await _sessions(source, settings), await _users(source, settings)]
    finally:
        await source.aclose()


async def _sessions(source: RakitSource, settings: Rakit) -> Outcome:
    what = f"sessions ({settings.session_driver})"
    try:
        await source.look_up_session(_some_id())
        _must_be_readable(source.session_path)
    except SourceDownError as fault:
        return Outcome(what, str(fault), is_good=False)
    said = "in the request itself" if settings.session_driver == "cookie" else "can be looked up"
    return Outcome(what, said, is_good=True)


def _some_id() -> str:
    letters = string.ascii_letters + string.digits
    return "".join(secrets.choice(letters) for _ in range(40))


def _must_be_readable(folder: Path | None) -> None:
    """Raise SourceDownError for a folder whose files this user may not read."""
    if folder is None:
        return
    if not os.access(folder, os.X_OK):
        raise SourceDownError(f"{folder} is not to be entered by this user")
    for path in folder.glob("*.session.php"):
        if not os.access(path, os.R_OK):
            raise SourceDownError(f"{path} is not to be read by this user")
        return  # they are all made alike


async def _users(source: RakitSource, settings: Rakit) -> Outcome:
    table = settings.database_prefix + settings.users_table
    what = f"users (table {table})"
    try:
        columns = await source.look_up_columns()
    except SourceDownError as fault:
        return Outcome(what, str(fault), is_good=False)
    wanted = (settings.name_column, settings.email_column)
    missing = [name for name in wanted if name and name not in columns]
    if missing:
        return Outcome(what, f"no column {', '.join(missing)}", is_good=False)
    return Outcome(what, "can be looked up", is_good=True)
