"""What a Rakit application says of itself: `key.php` and `application/config/`."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rakit_ws.application.literals import Literals
from rakit_ws.application.php import KEY, Php, php_called
from rakit_ws.application.values import Unknown
from rakit_ws.errors import ConfigError

if TYPE_CHECKING:
    from rakit_ws.application.values import Bootstrap, Value

FILES = ("application", "session", "auth", "database", "cache", "websocket")
CONFIG = "application/config"
LOCAL = "local"


@dataclass(frozen=True)
class Application:
    """The configuration of an application, with the overrides of its environment."""

    means: str
    """What has read it."""
    environment: str
    """As a folder of `application/config`; "" for none."""
    reason: str
    """Why it is that one."""
    paths: dict[str, str]
    key: Value
    key_file: str
    files: dict[str, Value]
    """By the name of a file; a file that is not there is an empty dict."""
    origins: dict[tuple[str, str], str]
    """The file that a key of the first level was found in."""

    def value(self, name: str, *keys: str, default: Value = None) -> Value:
        """Return what stands under `keys` in a file; Unknown as soon as something on the way is."""
        found = self.files[name]
        for key in keys:
            if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            elif isinstance(found, Unknown):
                return found
            elif isinstance(found, dict):
                found = found.get(key)
            else:
                found = None
        return default if found is None else found

    def where(self, name: str, key: str) -> str:
        """Return the file that has a key of the first level, for people."""
        return self.origins.get((name, key), f"{CONFIG}/{name}.php")


def is_application(folder: Path) -> bool:
    """Whether a folder has the configuration of an application in it."""
    return (folder / CONFIG).is_dir()


def read(folder: Path, *, environment: str, php: str) -> Application:
    """
    Read an application's configuration: by PHP, or by what is written out where there is none.

    `environment` overrides what would be found out; `php` is the program, "" for none.

    Raises:
        ConfigError: neither is there, or PHP fails; what it is, and the file with its line.

    """
    folder = folder.resolve()
    reader = _reader(folder, php)
    names = [name for name in FILES if (folder / CONFIG / f"{name}.php").is_file()]
    key, *values = reader.values([KEY, *(f"{CONFIG}/{name}.php" for name in names)])
    files: dict[str, Value] = {name: {} for name in FILES}
    origins: dict[tuple[str, str], str] = {}
    _lay_over(files, origins, dict(zip(names, values, strict=True)), CONFIG)
    chosen, reason = _environment(folder, environment, files["application"], reader.bootstrap)
    if chosen:
        place = f"{CONFIG}/{chosen}"
        names = [name for name in FILES if (folder / place / f"{name}.php").is_file()]
        values = reader.values([f"{place}/{name}.php" for name in names]) if names else []
        _lay_over(files, origins, dict(zip(names, values, strict=True)), place)
    bootstrap = reader.bootstrap
    return Application(
        means=f"PHP {reader.version}" if reader.version else "its literals, without PHP",
        environment=chosen,
        reason=reason,
        paths=bootstrap.paths,
        key=key,
        key_file=os.path.relpath(bootstrap.paths["rakit_key"], folder),
        files=files,
        origins=origins,
    )


def _reader(folder: Path, php: str) -> Php | Literals:
    program = php_called(php)
    return Literals(folder) if program is None else Php(program, folder)


def _lay_over(
    files: dict[str, Value],
    origins: dict[tuple[str, str], str],
    found: dict[str, Value],
    place: str,
) -> None:
    """Merge as the framework does: a key of the first level replaces the one before."""
    for name, value in found.items():
        if isinstance(value, dict) and isinstance(files[name], dict):
            files[name] = {**files[name], **value}
            origins.update({(name, key): f"{place}/{name}.php" for key in value})
        elif isinstance(value, Unknown):
            files[name] = value
        elif value != []:
            files[name] = Unknown(f"{place}/{name}.php:1", "returns no array with keys")


def _environment(
    folder: Path, wanted: str, application: Value, bootstrap: Bootstrap
) -> tuple[str, str]:
    """Choose the environment, as the framework would for a request; tell why."""
    if wanted:
        return wanted, "rakit.environment"
    if variable := os.environ.get("RAKIT_ENV"):
        return variable, "the variable RAKIT_ENV"
    url = application.get("url") if isinstance(application, dict) else None
    for name, patterns in bootstrap.environments.items():
        for pattern in patterns:
            if isinstance(url, str) and url and _fits(pattern, url):
                return name, f"{pattern} of paths.php fits application.url"
            if pattern == socket.gethostname():
                return name, "paths.php names this machine"
    if not url and any((folder / CONFIG / LOCAL).glob("*.php")):
        return LOCAL, f"{CONFIG}/{LOCAL} has files, and application.url is empty"
    return "", "nothing names one"


def _fits(pattern: str, url: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), url.rstrip("/")) is not None


def application_in(folder: str, *, environment: str, php: str) -> Application:
    """
    Read the application in a folder that must be one.

    Raises:
        ConfigError: it is none, or can't be read.

    """
    if not is_application(Path(folder)):
        raise ConfigError(f"rakit.path: {folder}: no {CONFIG} in it, so it is no Rakit application")
    return read(Path(folder), environment=environment, php=php)
