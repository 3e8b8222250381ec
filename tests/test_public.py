"""What the package promises to those who import it."""

from __future__ import annotations

import importlib.metadata
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import rakit_ws

PUBLIC = [
    "Client",
    "Close",
    "CloseCode",
    "Config",
    "ConfigError",
    "CrashedError",
    "Delivered",
    "ErrorCode",
    "Failed",
    "FrameDecoder",
    "ListenError",
    "Message",
    "Opcode",
    "Ping",
    "Pong",
    "RakitWsError",
    "Refused",
    "Request",
    "Server",
    "SourceDownError",
    "UsageError",
    "User",
    "__version__",
    "apply_mask",
    "encode_frame",
]


def python(code):
    """Run code in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )


def test_public_names_are_pinned():
    assert sorted(rakit_ws.__all__) == PUBLIC
    assert all(hasattr(rakit_ws, name) for name in PUBLIC)


def test_nothing_public_is_missing_from_the_list():
    names = {
        name
        for name, value in vars(rakit_ws).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert names <= set(PUBLIC)


@pytest.mark.parametrize("name", [name for name in PUBLIC if not name.startswith("__")])
def test_every_public_name_is_documented_and_says_where_it_lives(name):
    value = getattr(rakit_ws, name)
    assert inspect.getdoc(value)
    assert value.__module__.startswith("rakit_ws")


def test_version_is_that_of_the_distribution():
    assert rakit_ws.__version__ == importlib.metadata.version("rakit-ws")


def test_exceptions_have_one_base():
    for name in ["ConfigError", "CrashedError", "ListenError", "Refused", "UsageError"]:
        assert issubclass(getattr(rakit_ws, name), rakit_ws.RakitWsError)
    assert issubclass(rakit_ws.RakitWsError, Exception)


def test_close_codes_are_those_of_the_protocol():
    assert {code.name: int(code) for code in rakit_ws.CloseCode} == {
        "NORMAL": 1000,
        "GOING_AWAY": 1001,
        "PROTOCOL_ERROR": 1002,
        "UNSUPPORTED": 1003,
        "NO_STATUS": 1005,
        "ABNORMAL": 1006,
        "INVALID_PAYLOAD": 1007,
        "POLICY": 1008,
        "TOO_BIG": 1009,
        "INTERNAL": 1011,
        "SLOW_READER": 1013,
        "DISCONNECTED": 4000,
        "SESSION_ENDED": 4001,
        "PING_TIMEOUT": 4008,
    }


def test_error_codes_are_those_of_the_protocol():
    assert sorted(code.value for code in rakit_ws.ErrorCode) == [
        "bad_request",
        "forbidden",
        "internal",
        "rate_limited",
        "too_many_channels",
        "unknown_client",
        "unknown_command",
        "unknown_event",
        "unsupported_binary",
    ]
    assert f"{rakit_ws.ErrorCode.FORBIDDEN}" == "forbidden"


def test_types_are_for_users_too():
    package = Path(rakit_ws.__file__).parent
    assert (package / "py.typed").is_file()
    assert (package / "_core.pyi").is_file()


@pytest.mark.parametrize("platform", ["win32", "cygwin", "emscripten", "freebsd14"])
def test_import_is_refused_on_another_platform(platform):
    done = python(f"import sys; sys.platform = {platform!r}; import rakit_ws")
    assert done.returncode == 1
    last_line = done.stderr.splitlines()[-1]
    assert last_line.startswith("ImportError: ")
    assert platform in last_line
    assert "Linux" in last_line
    assert "macOS" in last_line


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_import_is_not_refused_where_it_runs(platform):
    done = python(f"import sys; sys.platform = {platform!r}; import rakit_ws")
    assert (done.returncode, done.stderr) == (0, "")


def test_running_imports_no_other_websocket_library():
    done = python(
        """
import asyncio, sys
from rakit_ws import Server

async def main():
    async with Server(port=0):
        pass

asyncio.run(main())
import rakit_ws.cli
others = {"websockets", "websocket", "aiohttp", "wsproto", "picows", "autobahn", "tornado"}
print(sorted(others.intersection(name.partition(".")[0] for name in sys.modules)))
"""
    )
    assert done.stdout.splitlines()[-1] == "[]", done


def test_dependencies_name_no_other_websocket_library():
    requirements = importlib.metadata.requires("rakit-ws")
    always = [each for each in requirements if "extra ==" not in each]
    assert always
    assert not [each for each in always if "socket" in each.lower() or "aiohttp" in each.lower()]


def test_importing_has_no_side_effects():
    done = python(
        "import rakit_ws, threading, logging\n"
        "assert threading.active_count() == 1\n"
        "assert not logging.getLogger('rakit_ws').handlers\n"
        "assert not logging.getLogger().handlers"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
