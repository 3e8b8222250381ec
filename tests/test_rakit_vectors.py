"""Every vector of the fixtures, which the framework itself has made and judged."""

from __future__ import annotations

import base64
import json

import pytest

from rakit_backends import FIXTURES, SQLITE, can_hold, rows_of_sessions
from rakit_ws.errors import SourceDownError
from rakit_ws.rakit.crypter import Crypter, key_in
from rakit_ws.rakit.php import OBJECT, MalformedError, unserialize
from rakit_ws.rakit.source import RakitSource
from rakit_ws.user_options import Rakit

VECTORS = json.loads((FIXTURES / "vectors.json").read_text("utf-8"))
CASES = VECTORS["cases"]
DEFAULTS = VECTORS["defaults"]
KEY = (FIXTURES / "key.txt").read_text().strip()
LOGIN = b"system_auth_drivers_magic_login"

# What only PHP can read: refused in words, which makes a guest of the user where it may.
REFUSED = {"memcached igbinary": "igbinary"}


class Handshake:
    """A request that has a Cookie header, or none."""

    def __init__(self, cookie):
        self.cookie = cookie

    def header(self, name):
        return self.cookie if name == "cookie" else None


def named(cases):
    return [pytest.param(case, id=case["name"]) for case in cases]


def of(driver):
    return named(case for case in CASES if case["driver"] == driver)


def settings_for(case, **backend):
    """Return the settings of a case; those of its own `config` win."""
    given = {**DEFAULTS, **(case.get("config") or {})}
    return Rakit(
        **{
            "key_file": str(FIXTURES / given["key_file"]),
            "session_driver": case["driver"],
            "session_cookie": given["session_cookie"],
            "session_lifetime": given["lifetime_minutes"],
            "session_path": str(FIXTURES / given["sessions_folder"]),
            "session_table": given["session_table"],
            "users_table": given["users_table"],
            "cache_key": given["cache_key"],
            "auth_driver": case["auth_driver"],
            "database_url": SQLITE,
            **backend,
        }
    )


async def judge(case, **backend):
    """Give a case to the source; whatever is not as it must be fails the test."""
    source = RakitSource(settings_for(case, **backend), timeout_s=20, clock=lambda: case["now"])
    try:
        user = source.authenticate(Handshake(case["cookie"]))
        user = await user if user is not None else None
    except SourceDownError as fault:
        if REFUSED.get(case["name"], "no such case") not in str(fault):
            raise
        user = None
    finally:
        await source.aclose()
    found = user and {"id": int(user.id), "name": user.name, "email": user.email}
    assert found == case["expected"] or (case["level"] == "may" and found is None)


def test_all_cases_are_of_drivers_that_are_tested_here():
    assert {case["driver"] for case in CASES} == {
        "file",
        "cookie",
        "database",
        "redis",
        "memcached",
    }
    assert len(CASES) > 170


@pytest.mark.parametrize("case", of("file"))
async def test_file(case):
    await judge(case)


@pytest.mark.parametrize("case", of("cookie"))
async def test_cookie(case):
    await judge(case)


@pytest.mark.parametrize("case", of("database"))
async def test_sqlite(case):
    await judge(case)


def skip_what_a_text_can_not_hold(case, *, nul):
    """Objects have NUL in their serialized form, and applications store any bytes."""
    data = {session_id: data for session_id, _, data in rows_of_sessions()}
    if not can_hold(data.get(session_id_of(case), b""), nul=nul):
        pytest.skip("no text of this database can hold this session: PHP can't store it either")


@pytest.mark.parametrize("case", of("database"))
async def test_mariadb(case, mariadb_url):
    skip_what_a_text_can_not_hold(case, nul=True)
    await judge(case, database_url=mariadb_url)


def session_id_of(case):
    value = (case["cookie"] or "").partition("=")[2].replace("%3D", "=").encode()
    return (Crypter(KEY).decrypt(value) or b"").decode("latin-1")


@pytest.mark.parametrize("case", of("database"))
async def test_postgresql(case, postgresql_url):
    skip_what_a_text_can_not_hold(case, nul=False)
    await judge(case, database_url=postgresql_url)


@pytest.mark.parametrize("case", of("redis"))
async def test_redis(case, redis_url):
    await judge(case, redis_url=redis_url)


@pytest.mark.parametrize("case", of("memcached"))
async def test_memcached(case, memcached_server):
    await judge(case, memcached_servers=(memcached_server,))


@pytest.mark.parametrize("name", ["memcached big session", "memcached zlib"])
async def test_compressed_values_are_read_though_they_need_not_be(name, memcached_server):
    case = next(case for case in CASES if case["name"] == name)
    await judge({**case, "level": "must"}, memcached_servers=(memcached_server,))


# --- The parts alone


@pytest.mark.parametrize(
    "vector",
    [
        pytest.param(each, id=each["name"])
        for each in json.loads((FIXTURES / "envelopes.json").read_text())
    ],
)
def test_envelope(vector):
    decrypted = Crypter(vector["key"]).decrypt(vector["value"].encode("latin-1"))
    expected = vector["plaintext_b64"]
    assert decrypted == (None if expected is None else base64.b64decode(expected))


def as_json(value):
    """Return a value as the fixtures write it: lists for arrays that are some, texts for bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if not isinstance(value, dict):
        return value
    if list(value) == list(range(len(value))):
        return [as_json(each) for each in value.values()]
    return {
        key.decode() if isinstance(key, bytes) else str(key): as_json(each)
        for key, each in value.items()
    }


@pytest.mark.parametrize(
    "vector",
    [
        pytest.param(each, id=each["name"])
        for each in json.loads((FIXTURES / "serialized.json").read_text())
    ],
)
def test_serialized(vector):
    try:
        value = unserialize(base64.b64decode(vector["serialized_b64"]))
    except MalformedError:
        assert not vector["ok"] or vector["level"] == "may"
        return
    assert vector["ok"] or vector["level"] == "may"
    if not vector["ok"]:
        assert OBJECT in as_json(value)  # the enum of a class that is not there
        return
    assert isinstance(value, dict) == vector["is_array"]
    if "value" in vector:
        assert as_json(value) == vector["value"]
        assert type(as_json(value)) is type(vector["value"])
    if isinstance(value, dict):
        assert as_json(value.get(LOGIN)) == vector["login"]


def test_key_file_is_read_without_running_it():
    assert key_in(FIXTURES / "key.php") == KEY
