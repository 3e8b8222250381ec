"""cli.py: what each command prints and returns; `run` and `--app` in a process of their own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap

import msgspec.toml
import pytest

from rakit_ws.cli import main
from rakit_ws.config import Config, options, value_of
from rakit_ws.layers import load
from rakit_ws.options import literal

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("RAKIT_WS_")}
ADDRESS = re.compile(r"\blistening\b.*\bws://(?P<host>[\d.]+):(?P<port>\d+)\b")
TIMEOUT_S = 20


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """Work in an empty directory, without RAKIT_WS_ variables and with a path of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    for key in set(os.environ) - set(ENVIRONMENT):
        monkeypatch.delenv(key)
    return tmp_path


def complaint(capsys, *arguments, code=2):
    """Return the one line on standard error with which the command line ends."""
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rakit-ws: ")
    assert err.count("\n") == 1
    return err.removeprefix("rakit-ws: ").rstrip("\n")


def command(*arguments):
    """Run the command line in a process of its own until it ends."""
    return subprocess.run(
        [sys.executable, "-m", "rakit_ws", *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


@contextlib.contextmanager
def running(*arguments):
    """Yield a server process and the (host, port) that it says it listens on."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rakit_ws", "run", *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if match := ADDRESS.search(line):
                yield process, (match["host"], int(match["port"]))
                break
        else:
            pytest.fail(f"never said that it listens: {''.join(lines)}")
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_S)


def stopped(process, number):
    """Send a signal; return the exit code."""
    process.send_signal(number)
    process.communicate(timeout=TIMEOUT_S)
    return process.returncode


# --- Help, version


def test_without_a_command_help_is_shown(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("run", "check", "version"))


def test_version(capsys):
    assert main(["version"]) == 0
    assert re.fullmatch(
        r"rakit_ws \d+\.\d+\.\d+\S* \(Python 3\.\d+\.\d+\)\n", capsys.readouterr().out
    )


# --- check


def test_check_prints_the_defaults_as_toml(capsys):
    assert main(["check"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "#" not in out
    printed = msgspec.toml.decode(out)
    assert load(base=printed) == Config()
    assert printed["presence"]["fields"] == ["name", "email"]


@pytest.mark.parametrize(
    ("flag", "shown"),
    [("--compression", "enabled = true  # --compression"), ("--no-compression", "enabled = false")],
)
def test_compression_is_a_flag_over_the_file(capsys, directory, flag, shown):
    (directory / "rakit_ws.toml").write_text("[compression]\nenabled = true\nlevel = 3\n")
    assert main(["check", flag]) == 0
    table = capsys.readouterr().out.partition("[compression]\n")[2]
    assert table.startswith(shown)
    assert "level = 3  # rakit_ws.toml" in table


def test_check_names_the_source_of_every_value_that_was_set(capsys, directory, monkeypatch):
    (directory / "rakit_ws.toml").write_text("path = '/ws'\nport = 1\n[presence]\ninterval = 1\n")
    monkeypatch.setenv("RAKIT_WS_LOG_FORMAT", "json")
    assert main(["check", "--port", "7000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "#" in line] == [
        "port = 7000  # --port",
        'path = "/ws"  # rakit_ws.toml',
        'log_format = "json"  # RAKIT_WS_LOG_FORMAT',
        "interval = 1.0  # rakit_ws.toml",
    ]


def test_check_reads_the_file_that_is_named_instead_of_the_default_one(capsys, directory):
    (directory / "rakit_ws.toml").write_text("port = 1\n")
    (directory / "other.toml").write_text("path = '/other'\n")
    assert main(["check", "--config", "other.toml"]) == 0
    out = capsys.readouterr().out
    assert "port = 6001\n" in out
    assert 'path = "/other"  # other.toml\n' in out


@pytest.mark.parametrize("is_terminal", [False, True])
def test_check_hides_the_operator_token(capsys, monkeypatch, is_terminal):
    monkeypatch.setenv("RAKIT_WS_OPERATOR_TOKEN", "hush-hush-hush-hush")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    assert main(["check"]) == 0
    out, err = capsys.readouterr()
    assert "hush" not in out + err
    assert "(set, hidden)" in out


def test_check_prints_a_table_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("RAKIT_WS_OPERATORS", "[bold]7[/bold]")
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    assert "Set by" in out
    for option in options():
        assert option.key in out
        if option.key != "operators":
            assert literal(value_of(Config(), option.key)) in out
    assert '["[bold]7[/bold]"]' in out


def test_check_warns_on_standard_error(capsys, monkeypatch):
    monkeypatch.setenv("RAKIT_WS_PROTOCOL_REQUIRED", "yes")
    assert main(["check"]) == 0
    assert capsys.readouterr().err.startswith("warning: protocol_required without")


# --- A user's mistakes: one line, exit code 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["chek"], "No such command 'chek'"),
        (["check", "--prot", "1"], "No such option: --prot"),
        (["check", "--port"], "'--port' requires an argument"),
        (["check", "extra"], "unexpected extra argument"),
        (["check", "--port", "x"], '--port: port: "x" is wrong; allowed: an integer from 0 to'),
        (["check", "--port", "70000"], "--port: port: 70000 is wrong"),
        (["check", "--host", "[::1]"], '--host: host: "[::1]" is wrong'),
        (["check", "--log-level", "loud"], '--log-level: log_level: "loud" is wrong'),
        (["check", "--config", "none.toml"], "none.toml: can't be read: No such file"),
    ],
)
def test_mistakes_on_the_command_line(capsys, arguments, expected):
    assert expected in complaint(capsys, *arguments)


def test_mistakes_in_file_and_environment(capsys, directory, monkeypatch):
    file = directory / "rakit_ws.toml"
    file.write_text("prot = 1\n")
    assert complaint(capsys, "check") == (
        'rakit_ws.toml: unknown key "prot"; the nearest known one is port'
    )
    file.write_text("port = \n")
    assert "rakit_ws.toml: not TOML: Invalid value (at line 1" in complaint(capsys, "check")
    file.write_text("")
    monkeypatch.setenv("RAKIT_WS_PORTT", "1")
    assert "RAKIT_WS_PORTT: unknown environment variable" in complaint(capsys, "check")


# --- --app


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("chat", '--app: "chat" is wrong; allowed: MODULE:SERVER'),
        (":server", '--app: ":server" is wrong; allowed: MODULE:SERVER'),
        ("chat:", '--app: "chat:" is wrong; allowed: MODULE:SERVER'),
        ("nowhere:server", '--app: there is no module "nowhere"'),
        ("nowhere.chat:server", '--app: there is no module "nowhere.chat"'),
        (".chat:server", '--app: ".chat:server" is wrong; allowed: MODULE:SERVER'),
        ("chat.py:server", '--app: there is no module "chat.py"'),
        ("./chat.py:server", '--app: "./chat.py:server" is wrong; allowed: MODULE:SERVER'),
        ("chat:other", '--app: module chat has no "other"'),
        ("chat:number", "--app: chat:number is of type int; allowed: a rakit_ws.Server"),
    ],
)
@pytest.mark.parametrize("name", ["run", "check"])
def test_an_app_that_is_none(directory, name, reference, expected):
    (directory / "chat.py").write_text("number = 1\n")
    result = command(name, "--app", reference)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"rakit-ws: {expected}\n"


@pytest.mark.parametrize(
    "source",
    ["1 / 0", "import not_installed_anywhere", "def f(:", "import rakit_ws; rakit_ws.Server(prot=1)"],
)  # fmt: skip
def test_an_exception_inside_the_app_shows_its_traceback(directory, source):
    (directory / "chat.py").write_text(source)
    result = command("run", "--app", "chat:server")
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert "chat.py" in result.stderr


def test_settings_of_the_app_are_a_layer_below_the_file(directory):
    (directory / "chat.py").write_text(
        textwrap.dedent(
            """
            from rakit_ws import Server

            class Holder:
                server = Server(port=1, path="/app", presence={"interval": 2})
            """
        )
    )
    (directory / "rakit_ws.toml").write_text("port = 2\n")
    result = command("check", "--app", "chat:Holder.server")
    assert result.returncode == 0, result.stderr
    assert "port = 2  # rakit_ws.toml\n" in result.stdout
    assert 'path = "/app"  # Server(...)\n' in result.stdout
    assert "interval = 2.0  # Server(...)\n" in result.stdout


# --- run


def test_run_on_port_0_prints_the_address_that_it_got():
    with running("--port", "0") as (process, address):
        assert address[0] == "127.0.0.1"
        assert address[1] != 0
        socket.create_connection(address, timeout=TIMEOUT_S).close()
        assert process.poll() is None


@pytest.mark.parametrize(
    "setting",
    ["log_level = 'warning'", "logging_enabled = false", "logging_output = 'file'", ""],
)
def test_run_says_where_it_listens_on_one_line_whatever_is_logged(directory, setting):
    (directory / "rakit_ws.toml").write_text(setting)
    process = subprocess.Popen(
        [sys.executable, "-m", "rakit_ws", "run", "--port", "0"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    first = process.stdout.readline()
    assert ADDRESS.search(first)
    if setting:
        assert re.fullmatch(r"rakit_ws \S+ listening on ws://127\.0\.0\.1:\d+\n", first)
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=TIMEOUT_S)
    assert "listening" not in rest


def test_run_on_a_unix_socket_says_where(directory):
    process = subprocess.Popen(
        [sys.executable, "-m", "rakit_ws", "run", "--host", "unix:s", "--log-level", "error"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().endswith(" listening on unix:s\n")
    assert stopped(process, signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_with_exit_code_0(number):
    with running("--port", "0") as (process, _):
        assert stopped(process, number) == 0


def test_run_serves_the_app_with_its_hooks(directory):
    (directory / "chat.py").write_text(
        textwrap.dedent(
            """
            from pathlib import Path
            from rakit_ws import Server

            server = Server(port=0)

            @server.on("start")
            def started(server):
                Path("started").touch()
            """
        )
    )
    with running("--app", "chat:server") as (process, address):
        socket.create_connection(address, timeout=TIMEOUT_S).close()
        assert stopped(process, signal.SIGTERM) == 0
    assert (directory / "started").exists()


@pytest.mark.parametrize(
    ("ending", "wrote"),
    [("await asyncio.sleep(0.3)", True), ("await asyncio.Event().wait()", False)],
)
def test_a_crash_ends_with_code_1_behind_its_hooks_unless_they_hang(directory, ending, wrote):
    (directory / "chat.py").write_text(
        textwrap.dedent(
            f"""
            import asyncio
            import os
            from pathlib import Path
            from rakit_ws import Server

            server = Server(port=0, close_timeout=1)

            @server.on("start")
            async def started(server):
                await asyncio.sleep(0.05)  # until the loop watches it
                os.close(server._running.engine.fileno())

            @server.on("crash")
            async def crashed(error):
                {ending}
                Path("crashed").write_text(repr(error))
            """
        )
    )
    done = command("run", "--app", "chat:server")
    assert done.returncode == 1
    assert "ERROR crashed\n    Traceback" in done.stdout
    assert "Bad file descriptor" in done.stdout
    assert (directory / "crashed").exists() is wrote


def test_a_port_that_is_taken_is_one_line_and_exit_code_1():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = command("run", "--port", str(port), "--log-level", "error")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("rakit-ws: ")
    assert result.stderr.count("\n") == 1
    assert str(port) in result.stderr


def test_an_address_that_is_not_of_this_machine_is_one_line_and_exit_code_1():
    result = command("run", "--host", "192.0.2.1", "--log-level", "error")
    assert result.returncode == 1
    assert result.stderr.startswith("rakit-ws: ")
    assert result.stderr.count("\n") == 1
    assert "192.0.2.1" in result.stderr


def test_a_log_file_that_cannot_be_opened_is_one_line_and_exit_code_2(directory):
    (directory / "rakit_ws.toml").write_text("logging_output = 'file'\nlog_file = 'no/x.log'\n")
    result = command("run", "--port", "0")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith('rakit-ws: log_file: "no/x.log" can\'t be opened')


def test_run_refuses_a_wrong_configuration_before_it_starts(directory):
    (directory / "rakit_ws.toml").write_text("port = 'x'\n")
    result = command("run")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        'rakit-ws: rakit_ws.toml: port: "x" is wrong; allowed: an integer from 0 to 65535\n'
    )
