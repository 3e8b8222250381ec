"""
The command line: `rakit-ws run`, `check`, `version`, also as `python -m rakit_ws`.

A mistake of the user ends with one line on standard error: exit code 2 for the configuration
and the command line, 1 for an address that can't be had. Only an exception raised inside the
user's own module shows its traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from dataclasses import replace
from importlib.metadata import version as distribution_version
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rakit_ws import layers
from rakit_ws.config import options, value_of
from rakit_ws.errors import ConfigError, ListenError, UsageError
from rakit_ws.options import literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rakit_ws.config import Config
    from rakit_ws.layers import Effective
    from rakit_ws.options import Option
    from rakit_ws.server import Server

PROGRAM = "rakit-ws"

# Flags are texts: the configuration reads and refuses them as it does the environment.
HostFlag = Annotated[
    str | None,
    typer.Option("--host", show_default=False, help='Address, name or "unix:/path" to listen on.'),
]
PortFlag = Annotated[
    str | None,
    typer.Option(
        "--port", metavar="PORT", show_default=False, help="TCP port; 0 picks a free one."
    ),
]
FileFlag = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        show_default=False,
        help="TOML file; without it rakit_ws.toml of the working directory, if there is one.",
    ),
]
AppFlag = Annotated[
    str | None,
    typer.Option(
        "--app",
        metavar="MODULE:SERVER",
        show_default=False,
        help="Your Server, with its hooks.",
    ),
]
LogLevelFlag = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        show_default=False,
        help="debug, info, warning or error.",
    ),
]
CompressionFlag = Annotated[
    bool | None,
    typer.Option(
        "--compression/--no-compression",
        show_default=False,
        help="permessage-deflate, for clients that offer it.",
    ),
]
ShardsFlag = Annotated[
    str | None,
    typer.Option(
        "--shards",
        metavar="COUNT",
        show_default=False,
        help="Parts of the connections, a thread for each; 1 has none, 0 goes by the cores.",
    ),
]
CertificateFlag = Annotated[
    str | None,
    typer.Option(
        "--tls-certificate",
        metavar="FILE",
        show_default=False,
        help="PEM file of the certificate and its chain: speak TLS.",
    ),
]
KeyFlag = Annotated[
    str | None,
    typer.Option(
        "--tls-key", metavar="FILE", show_default=False, help="PEM file of its private key."
    ),
]

RakitFlag = Annotated[
    str | None,
    typer.Option(
        "--rakit",
        metavar="PATH",
        show_default=False,
        help="Folder of a Rakit application, whose configuration and users are taken.",
    ),
]

commands = typer.Typer(
    help="The WebSocket server of the Rakit framework.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out the command line (without the program's name); return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code: int | None = commands(
            args=list(arguments) or ["--help"], prog_name=PROGRAM, standalone_mode=False
        )
    except (ConfigError, UsageError) as mistake:
        return _complain(str(mistake), code=2)
    except ListenError as fault:
        return _complain(str(fault), code=1)
    except typer.Abort:
        return 130
    except Exception as fault:
        # Typer has the base class of its own complaints in another place in each release.
        if not hasattr(fault, "format_message"):
            raise
        return _complain(fault.format_message(), code=2)
    return code or 0


def _complain(message: str, *, code: int) -> int:
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
    return code


@commands.command()
def run(
    *,
    host: HostFlag = None,
    port: PortFlag = None,
    config: FileFlag = None,
    app: AppFlag = None,
    log_level: LogLevelFlag = None,
    compression: CompressionFlag = None,
    shards: ShardsFlag = None,
    tls_certificate: CertificateFlag = None,
    tls_key: KeyFlag = None,
    rakit: RakitFlag = None,
) -> int:
    """Run the server until SIGINT or SIGTERM."""
    from rakit_ws.server import Server  # here, so that `check` and `version` stay light

    server = _app(app) if app else Server()
    flags = _flags(
        host,
        port,
        log_level,
        compression=compression,
        shards=shards,
        certificate=tls_certificate,
        key=tls_key,
        rakit=rakit,
    )

    def source() -> Config:
        return _effective(server.settings, config, flags).config

    server.configure(source(), source=source)
    if not _logs_where_it_listens(server.config):
        server.on("start")(_say_where_it_listens)
    return server.run()


def _logs_where_it_listens(config: Config) -> bool:
    """Tell whether the log says so on standard output: once is enough, and it may be JSON."""
    is_shown = config.logging_enabled and config.log_level in ("debug", "info")
    return is_shown and config.logging_output == "stdout"


def _say_where_it_listens(server: Server) -> None:
    from rakit_ws.running import with_scheme  # as above

    for address in server.addresses:
        shown = with_scheme(address, is_secure=server.config.tls.is_on)
        print(f"rakit_ws {_version()} listening on {shown}", flush=True)


@commands.command()
def check(
    *,
    host: HostFlag = None,
    port: PortFlag = None,
    config: FileFlag = None,
    app: AppFlag = None,
    log_level: LogLevelFlag = None,
    compression: CompressionFlag = None,
    shards: ShardsFlag = None,
    tls_certificate: CertificateFlag = None,
    tls_key: KeyFlag = None,
    rakit: RakitFlag = None,
) -> int:
    """
    Validate the configuration; print what is in force, and who set it.

    With --rakit also try the application's sessions and its database.
    """
    settings = _app(app).settings if app else {}
    flags = _flags(
        host,
        port,
        log_level,
        compression=compression,
        shards=shards,
        certificate=tls_certificate,
        key=tls_key,
        rakit=rakit,
    )
    effective = _effective(settings, config, flags)
    _check_tls(effective.config)
    if sys.stdout.isatty():
        _print_table(effective)
    else:
        print("\n".join(_toml_lines(effective)))
    for warning in effective.config.warnings():
        print(f"warning: {warning}", file=sys.stderr)
    _check_sources(effective.config)
    return 0 if rakit is None else _try_application(effective)


def _check_sources(config: Config) -> None:
    """Make the sources of users as `run` would; ConfigError says what is wrong with them."""
    named = tuple(name for name in config.auth.sources if name != "function")  # is in the app
    if not named:
        return
    import asyncio

    from rakit_ws.auth.chain import sources_of  # only this needs it

    async def make() -> None:
        for source in sources_of(replace(config, auth=replace(config.auth, sources=named)), None):
            await source.aclose()

    asyncio.run(make())


def _try_application(effective: Effective) -> int:
    """Look a session and a user up as `run` would; say how that went, and return the exit code."""
    import asyncio

    from rakit_ws.rakit.trial import try_out  # only this needs it

    application = effective.application
    if application is not None:
        environment = application.environment or "none"
        print(f"\n# {effective.config.rakit.path}: read by {application.means}")
        print(f"# environment: {environment} ({application.reason})")
    if "rakit" not in effective.config.auth.sources:
        print("# auth.sources does not name rakit: nothing is tried")
        return 0
    outcomes = asyncio.run(try_out(effective.config))
    for outcome in outcomes:
        stream = sys.stdout if outcome.is_good else sys.stderr
        print(f"# {outcome.what}: {outcome.said}", file=stream)
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


def _check_tls(config: Config) -> None:
    """Read certificate and key as `run` would; ConfigError says what is wrong with them."""
    if config.tls.is_on:
        from rakit_ws.certificate import read_identity  # only TLS needs it

        read_identity(config.tls)


@commands.command()
def version() -> None:
    """Print the version."""
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"rakit_ws {_version()} (Python {python})")


def _version() -> str:
    return distribution_version("rakit-ws")


def _flags(
    host: str | None,
    port: str | None,
    log_level: str | None,
    *,
    compression: bool | None,
    shards: str | None,
    certificate: str | None,
    key: str | None,
    rakit: str | None,
) -> dict[str, str | None]:
    """Give the flags as texts by the key that each sets; None where it was not given."""
    enabled = None if compression is None else literal(compression)
    return {
        "host": host,
        "port": port,
        "log_level": log_level,
        "compression.enabled": enabled,
        "shards": shards,
        "tls.certificate": certificate,
        "tls.key": key,
        "rakit.path": rakit,
    }


def _effective(
    settings: Mapping[str, object], file: str | None, flags: Mapping[str, str | None]
) -> Effective:
    return layers.resolve(
        base=settings,
        file=layers.default_file() if file is None else Path(file),
        environ=os.environ,
        flags=flags,
    )


# --- What `check` prints --------------------------------------------------------------------


def _toml_lines(effective: Effective) -> Iterator[str]:
    """Yield the effective configuration as TOML, sources as comments, secrets hidden."""
    table = ""
    for option in options():
        prefix, _, name = option.key.rpartition(".")
        if prefix != table:
            table = prefix
            yield f"\n[{table}]"
        line = f"{name} = {_shown(option, effective)}"
        source = effective.sources.get(option.key)
        yield f"{line}  # {source}" if source else line


def _print_table(effective: Effective) -> None:
    from rich.console import Console  # only a terminal needs it
    from rich.table import Table
    from rich.text import Text

    table = Table("Key", "Value", "Set by")
    for option in options():
        source = effective.sources.get(option.key)
        # As Text: a list in brackets is no markup.
        cells = (option.key, _shown(option, effective), source or "")
        table.add_row(*map(Text, cells), style="bold" if source else "dim")
    Console().print(table)


def _shown(option: Option, effective: Effective) -> str:
    value = value_of(effective.config, option.key)
    return literal("(set, hidden)" if option.secret and value else value)


# --- The user's server ----------------------------------------------------------------------


def _app(reference: str) -> Server:
    """
    Import the server that MODULE:SERVER names, the working directory being on the path.

    An exception raised inside the module is the app's own: its traceback is printed.

    Raises:
        UsageError: no such module or attribute, or not a Server.
        typer.Exit: code 1, the module raised.

    """
    from rakit_ws.server import Server  # see run()

    module_name, _, attribute = reference.partition(":")
    if not all(
        name.isidentifier() for path in (module_name, attribute) for name in path.split(".")
    ):
        raise UsageError(f"--app: {literal(reference)} is wrong; allowed: MODULE:SERVER")
    module = _imported(module_name)
    try:
        server = attrgetter(attribute)(module)
    except AttributeError:
        raise UsageError(f"--app: module {module_name} has no {literal(attribute)}") from None
    if not isinstance(server, Server):
        raise UsageError(
            f"--app: {reference} is of type {type(server).__name__}; allowed: a rakit_ws.Server"
        )
    return server


def _imported(name: str) -> object:
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as fault:
        # The module itself or its package is missing: otherwise it is an import of its own.
        if fault.name and (name == fault.name or name.startswith(f"{fault.name}.")):
            raise UsageError(f"--app: there is no module {literal(name)}") from None
        traceback.print_exc()
    except Exception:  # whatever the app raises is shown
        traceback.print_exc()
    raise typer.Exit(1)
