"""log.py: events with fields, in two formats, that no peer can forge."""

from __future__ import annotations

import io
import json
import logging
import re
import sys

import pytest

from rakit_ws.config import Config
from rakit_ws.errors import ConfigError
from rakit_ws.log import Event, Log, configure, log

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def logger():
    """Yield the logger of the process; leave it as it was."""
    logger = logging.getLogger("rakit_ws")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield logger
    for handler in logger.handlers:
        if handler not in before[0]:
            handler.close()
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])
    log.refresh()


@pytest.fixture
def stdout(capsys):
    """Return what has been written to standard output since the last call."""
    return lambda: capsys.readouterr().out


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


# --- Text


def test_text_line_has_time_level_event_and_fields(stdout):
    configure(Config())
    log.info("client connected", id="k3Jx", user=None, count=3, direct=True, after=0.5)
    line = stdout()
    assert re.fullmatch(
        TIME + r" INFO client connected id=k3Jx user=- count=3 direct=true after=0\.5\n", line
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain/1.0:x@y[z]", "plain/1.0:x@y[z]"),
        ("Nama Pengguna", '"Nama Pengguna"'),
        ("é", "é"),
        ("", '""'),
        ("-", '"-"'),
        ("a=b", '"a=b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("it's", '"it\'s"'),
        ("back\\slash", r'"back\\slash"'),
        ("a\nb\r\tc\0", r'"a\nb\r\tc\x00"'),
        ("\x1b[31mred", r'"\x1b[31mred"'),
        ("\u202eabc\u2028", r'"\u202eabc\u2028"'),
        ("\ud800", r'"\ud800"'),
        (b"\xff ", r'''"b'\\xff '"'''),
        (["a b"], "\"['a b']\""),
    ],
)
def test_text_values_are_quoted_and_escaped_where_they_must(value, shown):
    assert str(Event("event", {"x": value})) == f"event x={shown}"


def test_no_value_can_forge_a_line(stdout):
    configure(Config())
    forged = "x\n2026-11-23T14:09:21.123Z ERROR all is lost"
    log.info("client said", text=forged)
    log.info(forged)
    logging.getLogger("rakit_ws.app").info("plain %s", forged)
    lines = stdout().splitlines()
    assert len(lines) == 3
    assert all(" INFO " in line for line in lines)


def test_a_traceback_is_indented_so_that_it_forges_no_line_either(stdout):
    configure(Config())
    try:
        raise ValueError("a peer's text\n2026-11-23T14:09:21.123Z ERROR forged\x1b[2J")
    except ValueError:
        log.exception("hook raised", hook="receive")
    first, *rest = stdout().splitlines()
    assert first.endswith(" ERROR hook raised hook=receive")
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-1] == r"    2026-11-23T14:09:21.123Z ERROR forged\x1b[2J"
    assert all(line.startswith("    ") for line in rest)


def test_an_exception_can_be_logged_after_it_was_caught(stdout):
    configure(Config())
    log.exception("task failed", error=KeyError("k"), task=1)
    assert "KeyError: 'k'" in stdout()


def test_long_values_are_cut(stdout):
    configure(Config())
    log.info("refused", origin="x" * 16_000)
    assert len(stdout()) < 600


def test_a_stream_that_is_not_utf8_loses_no_line(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    configure(Config())
    log.info("client connected", user="José")
    assert rb"user=Jos\xe9" in stream.buffer.getvalue()


# --- JSON


def test_json_line_is_one_object(stdout):
    configure(Config(log_format="json"))
    log.warning("client said", text='a\n"b"\u202e\ud800', id=7, user=None, ok=True, size=0.5)
    line = stdout()
    assert line.count("\n") == 1
    assert line.isascii()
    members = json.loads(line)
    assert re.fullmatch(TIME, members.pop("time"))
    assert members == {
        "level": "warning",
        "event": "client said",
        "text": 'a\n"b"\u202e\ud800',
        "id": 7,
        "user": None,
        "ok": True,
        "size": 0.5,
    }


def test_json_fields_never_hide_time_level_or_event(stdout):
    configure(Config(log_format="json"))
    log.info("client connected", time="never", level="none", event="forged")
    members = json.loads(stdout())
    assert (members["level"], members["event"]) == ("info", "client connected")
    assert members["time"] != "never"


def test_json_has_the_traceback_as_a_key(stdout):
    configure(Config(log_format="json"))
    log.exception("hook raised", error=ValueError("x\ny"), value=object)
    members = json.loads(stdout())
    assert members["traceback"] == "ValueError: x\ny"
    assert members["value"] == "<class 'object'>"


# --- Levels


def test_levels_below_the_configured_one_are_left_out(stdout):
    configure(Config(log_level="warning"))
    assert (log.wants_debug, log.wants_info, log.wants_warning) == (False, False, True)
    for write in (log.debug, log.info, log.warning, log.error):
        write("event")
    assert re.findall(r" ([A-Z]+) event", stdout()) == ["WARNING", "ERROR"]


def test_debug_wants_all(stdout):
    configure(Config(log_level="debug"))
    log.debug("event")
    assert (log.wants_debug, log.wants_info, log.wants_warning) == (True, True, True)
    assert " DEBUG event" in stdout()


def test_refresh_takes_over_what_an_application_set_up(logger):
    configure(Config(log_level="error"))
    logger.setLevel(logging.DEBUG)
    assert not log.wants_debug
    log.refresh()
    assert log.wants_debug


def test_disabled_logging_leaves_errors_on_standard_error(tmp_path, capsys):
    path = tmp_path / "x.log"
    configure(
        Config(logging_enabled=False, logging_output="file", log_file=str(path), log_level="debug")
    )
    log.warning("quiet")
    log.error("loud", code=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(TIME + " ERROR loud code=1\n", err)
    assert not path.exists()


# --- Outputs


def test_a_file_is_appended_to_and_reopened_when_rotated(tmp_path, stdout):
    path = tmp_path / "x.log"
    path.write_text("before\n")
    configure(Config(logging_output="file", log_file=str(path)))
    log.info("first", user="é")
    rotated = path.rename(tmp_path / "x.log.1")
    log.info("second")
    assert rotated.read_text(encoding="utf-8").startswith("before\n")
    assert " INFO first user=é\n" in rotated.read_text(encoding="utf-8")
    assert re.fullmatch(TIME + " INFO second\n", path.read_text(encoding="utf-8"))
    assert stdout() == ""


def test_a_file_that_cannot_be_opened_is_a_mistake_and_changes_nothing(tmp_path, logger):
    configure(Config(log_level="warning"))
    before = (logger.handlers[:], logger.level)
    with pytest.raises(
        ConfigError, match=r"log_file: .*No such file or directory; allowed: a file"
    ):
        configure(Config(logging_output="file", log_file=str(tmp_path / "no" / "x.log")))
    assert (logger.handlers, logger.level) == before


def test_configuring_again_replaces_only_what_configure_set_up(logger):
    own = logging.NullHandler()
    logger.addHandler(own)
    configure(Config())
    configure(Config(log_format="json"))
    ours = [handler for handler in logger.handlers if handler.get_name() == "rakit_ws"]
    assert len(ours) == 1
    assert own in logger.handlers


def test_a_foreign_handler_sees_fields_and_the_line_of_the_caller(caplog, logger):
    logger.setLevel(logging.INFO)
    log.refresh()
    log.info("client connected", id="k3Jx")
    (record,) = caplog.records
    assert record.getMessage() == "client connected id=k3Jx"
    assert record.filename == "test_log.py"


# --- Rate


def test_limited_logs_once_a_second_and_counts_what_it_left_out(stdout):
    configure(Config())
    clock = Clock()
    limited = Log(logging.getLogger("rakit_ws"), clock=clock).limited
    for address in range(5):
        limited(logging.WARNING, "refused", address=address)
    limited(logging.INFO, "another event")
    clock.now_s += 0.999
    limited(logging.WARNING, "refused", address=5)
    clock.now_s += 0.001
    limited(logging.WARNING, "refused", address=6)
    clock.now_s += 1
    limited(logging.WARNING, "refused", address=7)
    assert [line.partition("Z ")[2] for line in stdout().splitlines()] == [
        "WARNING refused address=0",
        "INFO another event",
        "WARNING refused address=6 suppressed=5",
        "WARNING refused address=7",
    ]


def test_limited_knows_sources_apart_and_shows_the_traceback(stdout):
    configure(Config())
    limited = Log(logging.getLogger("rakit_ws"), clock=Clock()).limited
    for source in ("a", "a", "b"):
        limited(logging.ERROR, "hook failed", source=source, error=KeyError("k"), hook=source)
    out = stdout()
    assert out.count("hook failed") == 2
    assert out.count("KeyError: 'k'") == 2


def test_limits_begin_anew_with_a_refresh(stdout):
    configure(Config())
    log = Log(logging.getLogger("rakit_ws"), clock=Clock())
    for _ in range(2):
        log.limited(logging.ERROR, "hook failed")
        log.refresh()
    assert stdout().count("hook failed") == 2


def test_limited_counts_nothing_that_would_not_be_logged(stdout):
    configure(Config(log_level="error"))
    limited = Log(logging.getLogger("rakit_ws"), clock=Clock()).limited
    for _ in range(3):
        limited(logging.INFO, "refused")
    limited(logging.ERROR, "refused")
    assert stdout().endswith("ERROR refused\n")
