"""Files of an application's configuration, evaluated by PHP itself."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rakit_ws.application.values import Bootstrap, Unknown
from rakit_ws.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rakit_ws.application.values import Value

TIMEOUT_S = 5.0
KEY = "key.php"
"""As a name of a file: wherever paths.php says that it is."""

_SCRIPT = Path(__file__).with_name("evaluate.php")
# What starts programs or talks to somebody; reading files and the environment is what a
# configuration may do.
_FORBIDDEN = (
    "exec,passthru,shell_exec,system,proc_open,popen,pcntl_exec,pcntl_fork,dl,mail,"
    "fsockopen,pfsockopen,stream_socket_client,curl_exec,curl_multi_exec"
)
_SETTINGS = (
    "auto_prepend_file=",
    "auto_append_file=",
    "memory_limit=64M",
    "max_execution_time=5",
    "display_errors=0",
    "log_errors=0",
    "allow_url_fopen=0",
    "opcache.enable_cli=0",
    "xdebug.mode=off",
    f"disable_functions={_FORBIDDEN}",
)


class Php:
    """
    Evaluates files of the application in `folder`; nothing else of it is run.

    `program` is the path of PHP. Each run is a process of its own, with limits on time, memory
    and what it may call.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self.version = ""
        self.bootstrap = Bootstrap({}, {})

    def values(self, files: Sequence[str]) -> list[Value]:
        """
        Return what each file returns; Unknown for one that can't be evaluated.

        Files are named from the application's folder on. Also reads `paths.php` into `bootstrap`.

        Raises:
            ConfigError: PHP can't be run, takes too long, or ends in a file; or paths.php can't be evaluated.

        """
        said = self._run(files)
        if fault := said.get("paths_fault"):
            raise ConfigError(str(self._unknown(fault, "paths.php")))
        self.version = said["version"]
        environments = self._value(said.get("environments") or {"value": None}, "paths.php")
        self.bootstrap = Bootstrap(said["paths"], patterns_in(environments))
        results = said["files"]
        if len(results) < len(files):
            raise ConfigError(
                f"{files[len(results)]}: PHP ended while it evaluated this file: exit, or more than "
                "64 MB"
            )
        return [self._value(each, name) for name, each in zip(files, results, strict=True)]

    def _run(self, files: Sequence[str]) -> dict[str, Any]:
        marker = secrets.token_hex(16)
        paths = "paths.php" if (self._folder / "paths.php").is_file() else ""
        named = [str(self._folder / paths) if paths else ""]
        named += [name if name == KEY else str(self._folder / name) for name in files]
        settings = [word for setting in _SETTINGS for word in ("-d", setting)]
        try:
            ended = subprocess.run(  # noqa: S603 - the program that the configuration names
                [self._program, *settings, str(_SCRIPT), marker, str(self._folder), *named],
                cwd=self._folder,
                env={key: value for key, value in os.environ.items() if not _is_ours(key)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ConfigError(self._complaint(f"no answer within {TIMEOUT_S:g} s")) from None
        except OSError as fault:
            raise ConfigError(self._complaint(str(fault.strerror))) from None
        answer = ended.stdout.rpartition(f"\n{marker}\n".encode())[2]
        try:
            said = msgspec.json.decode(answer, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            raise ConfigError(self._complaint(f"exit code {ended.returncode}, no answer")) from None
        if "paths" not in said and "paths_fault" not in said:
            raise ConfigError(self._complaint(said.get("fault", "it ended in paths.php")))
        return said

    def _complaint(self, reason: str) -> str:
        return (
            f"rakit.php: {self._program} can't evaluate the configuration in {self._folder}: "
            f'{reason}; set rakit.php = "" to read it without PHP'
        )

    def _value(self, said: dict[str, Any], name: str) -> Value:
        if "array" in said:
            items = {key: self._value(item, name) for key, item in said["array"].items()}
            return list(items.values()) if said["list"] else items
        if "value" in said:
            return said["value"]
        return self._unknown(said, name)

    def _unknown(self, said: dict[str, Any], name: str) -> Unknown:
        where, line = said.get("file", ""), said.get("line", 1)
        base = f"{self._folder}{os.sep}"
        return Unknown(
            f"{where.removeprefix(base) or name}:{line}", said.get("fault") or said["unknown"]
        )


def _is_ours(variable: str) -> bool:
    return variable.startswith("RAKIT_WS_")


def php_called(name: str) -> str | None:
    """Return the path of the program; None if there is none, or if the name is empty."""
    return shutil.which(name) if name else None


def patterns_in(environments: Value) -> dict[str, list[str]]:
    """Return the patterns of addresses of each environment; what is none is left out."""
    if not isinstance(environments, dict):
        return {}
    return {
        name: [each for each in patterns if isinstance(each, str)]
        for name, patterns in environments.items()
        if isinstance(patterns, list)
    }
