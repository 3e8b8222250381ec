"""
Where values come from: the layers of the configuration, each over the one before.

Defaults, the configuration of the Rakit application in `rakit.path`, the app's own settings
(`Server(...)`), a TOML file, `RAKIT_WS_…` environment variables, command line flags.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec.toml

from rakit_ws.application.application import Application, application_in, is_application
from rakit_ws.application.settings import findings
from rakit_ws.application.values import Unknown
from rakit_ws.config import TABLES, Config, options, value_of
from rakit_ws.errors import ConfigError
from rakit_ws.options import VARIABLE_PREFIX, Option, literal

FILE_NAME = "rakit_ws.toml"

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Effective:
    """A configuration, and for each key that some layer set the name of that layer."""

    config: Config
    sources: Mapping[str, str]
    application: Application | None = None
    """The Rakit application that was read, if there was one."""


@dataclass(frozen=True)
class _Setting:
    key: str
    value: object
    source: str


def load(
    *,
    base: Mapping[str, Any] = _NOTHING,
    file: Path | None = None,
    environ: Mapping[str, str] = _NOTHING,
    flags: Mapping[str, str | None] = _NOTHING,
) -> Config:
    """Return the configuration of `resolve()`, without the sources."""
    return resolve(base=base, file=file, environ=environ, flags=flags).config


def resolve(
    *,
    base: Mapping[str, Any] = _NOTHING,
    file: Path | None = None,
    environ: Mapping[str, str] = _NOTHING,
    flags: Mapping[str, str | None] = _NOTHING,
) -> Effective:
    """
    Lay later layers over earlier ones; return the configuration, and who set what.

    Where `rakit.path` is the folder of an application, its configuration is the lowest of them
    (`application/`); that may run PHP. `base` has keys as in TOML, tables as mappings. `file` must exist (see `default_file()`).
    Of `environ` all that begins with RAKIT_WS_ counts. `flags` are texts by key; None is a
    flag that was not given.

    Raises:
        ConfigError: an unknown key or a wrong value in any layer, even where a later layer
            would win; the file can't be read or is not TOML; the application has a setting
            that can't be told, or is none that can be.

    """
    values = {declared.key: declared.default for declared in options()}
    sources: dict[str, str] = {}
    for layer in (
        _from_mapping(base, "Server(...)"),
        _from_file(file) if file else (),
        _from_environ(environ),
        _from_flags(flags),
    ):
        for setting in layer:
            values[setting.key] = setting.value
            sources[setting.key] = setting.source
    # A wrong path must not make guests of everybody without a word.
    is_demanded = flags.get("rakit.path") is not None or "auth.sources" not in sources
    application = _application(values, is_demanded=is_demanded)
    if application is not None:
        known = {key: values[key] for key in sources}
        for setting in _from_application(application, known):
            values[setting.key] = setting.value
            sources[setting.key] = setting.source
    return Effective(built(values), sources, application)


def _application(values: Mapping[str, object], *, is_demanded: bool) -> Application | None:
    folder = str(values["rakit.path"])
    if not folder or not (is_demanded or is_application(Path(folder))):
        return None
    environment, php = str(values["rakit.environment"]), str(values["rakit.php"])
    return application_in(folder, environment=environment, php=php)


def _from_application(application: Application, known: Mapping[str, object]) -> Iterator[_Setting]:
    for key, value, where in findings(application, known):
        if key in known:
            continue
        if isinstance(value, Unknown):
            raise ConfigError(f"{value}; set {key} here")
        yield _Setting(key, _known(key, where).checked(value, where), where)


def changed_settings(config: Config) -> dict[str, Any]:
    """Return what of `config` is not as by default, with keys as in TOML, tables as dicts."""
    changed: dict[str, Any] = {}
    for described in options():
        value = value_of(config, described.key)
        if value != described.default:
            table, _, name = described.key.rpartition(".")
            (changed.setdefault(table, {}) if table else changed)[name] = value
    return changed


def default_file() -> Path | None:
    """`rakit_ws.toml` of the working directory, if there is one."""
    path = Path(FILE_NAME)
    return path if path.exists() else None


def _from_mapping(settings: Mapping[str, Any], source: str) -> Iterator[_Setting]:
    for key, value in _flattened(settings, source):
        yield _Setting(key, _known(key, source).checked(value, source), source)


def _from_file(path: Path) -> Iterator[_Setting]:
    return _from_mapping(_toml(path), str(path))


def _from_environ(environ: Mapping[str, str]) -> Iterator[_Setting]:
    by_variable = {declared.variable: declared for declared in options()}
    for name in sorted(name for name in environ if name.startswith(VARIABLE_PREFIX)):
        declared = by_variable.get(name)
        if declared is None:
            raise ConfigError(
                f"{name}: unknown environment variable; the nearest known one is "
                f"{_nearest(name, by_variable)}"
            )
        yield _Setting(declared.key, declared.parsed(environ[name], name), name)


def _from_flags(flags: Mapping[str, str | None]) -> Iterator[_Setting]:
    for key, text in flags.items():
        if text is not None:
            source = "--" + key.removesuffix(".enabled").removesuffix(".path").replace(
                "_", "-"
            ).replace(".", "-")
            yield _Setting(key, _known(key, source).parsed(text, source), source)


def _flattened(settings: Mapping[str, Any], source: str) -> Iterator[tuple[str, object]]:
    for key, value in settings.items():
        if key not in TABLES:
            yield key, value
        elif isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", item) for inner, item in value.items())
        else:
            raise ConfigError(f"{source}: {key}: {literal(value)} is wrong; allowed: a table")


def _toml(path: Path) -> dict[str, Any]:
    try:
        return msgspec.toml.decode(path.read_text("utf-8-sig"), type=dict[str, Any])
    except OSError as fault:
        raise ConfigError(f"{path}: can't be read: {fault.strerror}") from None
    # Faults of syntax say their line. ValueError: not UTF-8, an integer of 5,000 digits.
    except (msgspec.DecodeError, ValueError) as fault:
        raise ConfigError(f"{path}: not TOML: {fault}") from None


def built(values: Mapping[str, object]) -> Config:
    """Make the configuration of a value for every dotted key."""
    arguments: dict[str, Any] = {key: value for key, value in values.items() if "." not in key}
    for name, table in TABLES.items():
        inner = {item.name: values[f"{name}.{item.name}"] for item in fields(table)}
        arguments[name] = table(**inner)
    return Config(**arguments)


def _known(key: str, source: str) -> Option:
    by_key = {declared.key: declared for declared in options()}
    if key not in by_key:
        nearest = _nearest(key, [*by_key, *TABLES])
        raise ConfigError(
            f"{source}: unknown key {literal(key)}; the nearest known one is {nearest}"
        )
    return by_key[key]


def _nearest(name: str, known: Iterable[str]) -> str:
    candidates = list(known)
    # In TOML a key below a table's header belongs to the table: `presence.port` means `port`.
    inner = name.rpartition(".")[2]
    if inner in candidates:
        return inner
    return difflib.get_close_matches(name, candidates, n=1, cutoff=0.0)[0]
