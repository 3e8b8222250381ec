"""Rakit sessions through a running server: attacks, stores that stall, settings, PHP itself."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import sqlite3
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from conftest import until
from rakit_backends import FIXTURES, SQLITE, free_port, needed
from rakit_ws import ConfigError, Server, SourceDownError
from rakit_ws.rakit.batch import MAX_KEYS, Batch
from rakit_ws.rakit.cookies import values_of
from rakit_ws.rakit.crypter import Crypter, key_in
from rakit_ws.rakit.database import Rows
from rakit_ws.rakit.source import RakitSource
from rakit_ws.rakit.stores.file import FileStore, kind_of
from rakit_ws.rakit.stores.memcached import MemcachedStore
from rakit_ws.rakit.users import MAX_CACHED, Users
from rakit_ws.user_options import Rakit
from raw_client import request

KEY = (FIXTURES / "key.txt").read_text().strip()
GUARD = b"<?php defined('DS') or exit('No direct access.');?>"
SESSION_ID = "A1b2" * 10
LOGIN = b"system_auth_drivers_magic_login"
BUDI = {"name": "Budi Santoso", "email": "budi@example.com"}


def encrypt(plaintext, key=KEY, *, iv=None, pad=True):
    """Encrypt as the framework does."""
    iv = iv or os.urandom(16)
    if pad:
        count = 16 - len(plaintext) % 16
        plaintext += bytes([count]) * count
    encryptor = Cipher(algorithms.AES(key.encode()[:32]), modes.CBC(iv)).encryptor()
    value = base64.b64encode(encryptor.update(plaintext) + encryptor.finalize())
    return envelope(base64.b64encode(iv), value, key)


def envelope(iv, value, key=KEY, **more):
    mac = hmac.new(key.encode(), iv + value, "sha256").hexdigest()
    members = {"iv": iv.decode(), "value": value.decode(), "mac": mac, **more}
    return base64.b64encode(json.dumps(members).encode())


def record(user=b"i:1;", last_activity=None, session_id=SESSION_ID):
    """Write a session as PHP does, with `user` as its login."""
    now = int(time.time()) if last_activity is None else last_activity
    login = b's:%d:"%b";%b' % (len(LOGIN), LOGIN, user) if user else b""
    return b'a:3:{s:2:"id";s:40:"%b";s:4:"data";a:%d:{%b}s:13:"last_activity";i:%d;}' % (
        session_id.encode(),
        bool(user),
        login,
        now,
    )


def session_file(folder, session_id=SESSION_ID):
    return folder / f"{hashlib.sha1(session_id.encode()).hexdigest()}.session.php"


def cookie(session_id=SESSION_ID, key=KEY):
    return f"rakit_session={encrypt(session_id.encode(), key).decode().replace('=', '%3D')}"


@pytest.fixture
def sessions(tmp_path):
    """Make a folder with one session, of user 1."""
    session_file(tmp_path).write_bytes(GUARD + record())
    return tmp_path


@pytest.fixture
def application(sessions):
    """Return settings of an application with sessions in files, and users in SQLite."""
    return {"key": KEY, "session_path": str(sessions), "database_url": SQLITE}


@pytest.fixture
def serve_application(serve):
    """Start servers that ask the application."""

    async def start(settings, *, presence=False, **more):
        tables = {"sources": ["rakit"], **more.pop("auth", {})}
        shown = {"enabled": presence, "interval": 0}
        return await serve(Server(port=0, presence=shown, auth=tables, rakit=settings, **more))

    return start


async def answer(dial, server, *cookies, **headers):
    """Shake hands with a Cookie header; return the status."""
    client = await dial(server)
    lines = [("Cookie", each) for each in cookies] + list(headers.items())
    await client.send(request(headers=lines))
    return (await client.read_response()).status


# --- A user


async def test_logged_in_browser_is_in_presence(application, serve_application, connect):
    server = await serve_application(application, presence=True)
    guest = await connect(server)
    assert [each["name"] for each in (await guest.receive())["users"]] == ["Guest"]
    await connect(
        server, headers=[("Cookie", f"a=b; {cookie()}; c=d"), ("Origin", "http://localhost")]
    )
    shown = (await guest.receive())["users"]
    assert [(each["name"], each["email"]) for each in shown] == [
        ("Guest", None),
        ("Budi Santoso", "budi@example.com"),
    ]
    user = list(server.clients.values())[1].user
    assert (user.id, user.created_at) == ("1", "2026-01-01 00:00:00")
    assert "password" not in user.columns


async def test_page_of_another_site_gets_nowhere_with_the_cookie(
    application, serve_application, dial
):
    server = await serve_application(application)
    assert await answer(dial, server, cookie(), Origin="https://evil.example") == 403
    assert await answer(dial, server, cookie(), Origin="http://localhost") == 101
    assert await answer(dial, server, "other=1", Origin="https://evil.example") == 101


async def test_expired_session_is_a_guest_and_401_where_users_are_required(
    application, sessions, serve_application, dial
):
    server = await serve_application(application, auth={"required": True})
    session_file(sessions).write_bytes(GUARD + record(last_activity=int(time.time()) - 3700))
    assert await answer(dial, server, cookie()) == 401
    session_file(sessions).write_bytes(GUARD + record(last_activity=int(time.time()) - 3500))
    assert await answer(dial, server, cookie()) == 101


async def test_many_users_at_once_are_each_themselves(tmp_path, serve_application, connect):
    database = tmp_path / "users.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT)")
        rows = [(number, f"user {number}", None) for number in range(1, 301)]
        connection.executemany("INSERT INTO users VALUES (?, ?, ?)", rows)
    ids = {number: f"{number:040}" for number in range(1, 301)}
    for number, session_id in ids.items():
        session_file(tmp_path, session_id).write_bytes(record(b"i:%d;" % number, None, session_id))
    settings = {"key": KEY, "session_path": str(tmp_path), "database_url": f"sqlite:///{database}"}
    server = await serve_application(settings, max_connections=400)

    async def join(number):
        client = await connect(server, headers=[("Cookie", cookie(ids[number]))])
        assert server.clients[client.id].user.name == f"user {number}"

    await asyncio.gather(*map(join, ids))
    assert server.counters["users_identified"] == 300


async def test_names_of_tables_and_columns_are_those_of_the_settings(
    tmp_path, sessions, application, serve_application, connect
):
    database = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            'CREATE TABLE "app_my people" (nr INTEGER, "full name" TEXT, mail TEXT, role TEXT)'
        )
        connection.execute("INSERT INTO \"app_my people\" VALUES (1, 'Budi', 'b@x', 'boss')")
    settings = {
        **application,
        "database_url": f"sqlite:///{database}",
        "database_prefix": "app_",
        "users_table": "my people",
        "id_column": "nr",
        "name_column": "full name",
        "email_column": "mail",
    }
    server = await serve_application(settings)
    await connect(server, headers=[("Cookie", cookie())])
    (client,) = server.clients.values()
    assert (client.user.id, client.name, client.email, client.user.role) == (
        "1",
        "Budi",
        "b@x",
        "boss",
    )


async def test_name_that_is_not_utf8_hides_nobody(
    tmp_path, application, serve_application, connect
):
    database = tmp_path / "bytes.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE users (id INTEGER, name TEXT, email TEXT)")
        connection.execute("INSERT INTO users VALUES (1, CAST(X'ff41' AS TEXT), NULL)")
    server = await serve_application({**application, "database_url": f"sqlite:///{database}"})
    await connect(server, headers=[("Cookie", cookie())])
    (client,) = server.clients.values()
    assert client.name == "\ufffdA"


async def test_remember_cookie_counts_unless_it_is_turned_off(application, serve_application, dial):
    inner = encrypt(b"1|" + b"r" * 40)
    remember = f"system_auth_drivers_magic_remember={encrypt(inner).decode()}"
    server = await serve_application(application, auth={"required": True})
    assert await answer(dial, server, remember) == 101
    assert await answer(dial, server, f"rakit_session=broken; {remember}") == 401
    server = await serve_application({**application, "remember": False}, auth={"required": True})
    assert await answer(dial, server, remember) == 401


@pytest.fixture(params=["loop", "threads"])
def file_store(request, sessions, monkeypatch):
    """Make a store that reads in the loop, and one that reads in threads."""
    is_local = request.param == "loop"
    monkeypatch.setattr("rakit_ws.rakit.stores.file.is_local", lambda folder: is_local)
    store = FileStore(sessions, threads=1)
    assert store.is_immediate == is_local
    return store


MOUNTS = """\
27 1 8:1 / / rw - ext4 /dev/sda1 rw
30 27 0:40 / /srv rw shared:1 - nfs4 host:/srv rw
31 30 0:41 / /srv/a\\040b rw - tmpfs tmpfs rw
32 27 0:42 / /data rw - ext4 /dev/sdb1 rw
33 27 0:43 / /data rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/www", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/www/storage", "nfs4"),
        ("/srvx", "ext4"),
        ("/srv/a b/c", "tmpfs"),
        ("/data/x", "fuse.sshfs"),
    ],
)
def test_kind_of_file_system_is_that_of_the_nearest_mount(path, kind):
    assert kind_of(path, MOUNTS) == kind


async def test_sessions_are_read_wherever_they_are(file_store, sessions):
    other = "C" * 40
    session_file(sessions, other).write_bytes(GUARD + record(b"i:2;"))
    found = await file_store.load([SESSION_ID, other, "D" * 40])
    assert {key: each.data for key, each in found.items()} == {
        SESSION_ID: {LOGIN: 1},
        other: {LOGIN: 2},
    }
    await file_store.aclose()


async def test_session_over_the_first_piece_is_read_whole(file_store, sessions):
    for size in (16_383, 16_384, 16_385, 32_768, 500_000):
        padding = b's:1:"p";s:%d:"%b";' % (size, b"x" * size)
        content = GUARD + record().replace(b":{s:31", b":{%bs:31" % padding).replace(b"a:1", b"a:2")
        session_file(sessions).write_bytes(content)
        assert len((await file_store.load([SESSION_ID]))[SESSION_ID].data[b"p"]) == size
    await file_store.aclose()


async def test_session_that_goes_while_it_is_torn_is_not_found(file_store, sessions):
    session_file(sessions).write_bytes(b"")
    load = asyncio.ensure_future(file_store.load([SESSION_ID]))
    await asyncio.sleep(0.002)
    session_file(sessions).unlink()
    assert await load == {}
    await file_store.aclose()


async def test_session_that_was_being_written_is_read_a_moment_later(file_store, sessions):
    store = file_store
    session_file(sessions).write_bytes(b"")
    load = asyncio.ensure_future(store.load([SESSION_ID, "B" * 40]))
    await asyncio.sleep(0.001)
    session_file(sessions).write_bytes(GUARD + record())
    found = await load
    assert found[SESSION_ID].data == {LOGIN: 1}
    assert list(found) == [SESSION_ID]
    await store.aclose()


# --- Attacks


async def test_cut_cookie_is_a_guest(application, serve_application, dial):
    server = await serve_application(application)
    whole = cookie()
    for cut in range(len("rakit_session="), len(whole) - 6, 7):
        assert await answer(dial, server, whole[:cut]) == 101
    assert server.counters["users_identified"] == 0
    assert await answer(dial, server, whole) == 101
    assert server.counters["users_identified"] == 1


async def test_cookie_with_a_changed_byte_is_a_guest(application, serve_application, dial):
    server = await serve_application(application)
    sound = encrypt(SESSION_ID.encode())
    content = base64.b64decode(sound)
    for at in range(0, len(content), 5):
        changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        value = base64.b64encode(changed).decode()
        assert await answer(dial, server, f"rakit_session={value}") == 101
    assert server.counters["users_identified"] == 0


OTHER_KEY = "0" + KEY[1:] if KEY[0] != "0" else "1" + KEY[1:]

HOSTILE = {
    "cookie of another application": lambda: encrypt(SESSION_ID.encode(), OTHER_KEY),
    "nested deeper than the stack": lambda: base64.b64encode(b'{"iv":' + b"[" * 9000),
    "nested in a further key": lambda: base64.b64encode(
        b'{"x":' + b"[" * 5000 + b"]" * 5000 + b',"iv":"","value":"","mac":""}'
    ),
    "lone surrogate": lambda: base64.b64encode(b'{"iv":"\\ud800","value":"","mac":""}'),
    "not ASCII": lambda: base64.b64encode('{"iv":"é","value":"é","mac":"é"}'.encode()),
    "no block": lambda: envelope(base64.b64encode(bytes(16)), b""),
    "half a block": lambda: envelope(base64.b64encode(bytes(16)), base64.b64encode(bytes(8))),
    "short vector": lambda: envelope(base64.b64encode(bytes(15)), base64.b64encode(bytes(16))),
    "padding of nothing": lambda: encrypt(bytes(16), pad=False),
    "padding of more than a block": lambda: encrypt(bytes([17]) * 32, pad=False),
    "id that is too short": lambda: encrypt(SESSION_ID[1:].encode()),
    "id that is too long": lambda: encrypt(SESSION_ID.encode() + b"x"),
    "id with a line feed": lambda: encrypt(SESSION_ID[1:].encode() + b"\n"),
    "id that leads elsewhere": lambda: encrypt(b"../" * 13 + b"x"),
    "oversized": lambda: encrypt(b"A" * 8000),
    "percent signs": lambda: b"%%%zz%0",
    "blanks": lambda: b"+ + +",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_cookie_is_a_guest(name, application, serve_application, dial):
    server = await serve_application(application)
    assert await answer(dial, server, f"rakit_session={HOSTILE[name]().decode()}") == 101
    assert server.counters["users_identified"] == 0
    assert server.counters["user_source_failures"] == 0


async def test_bytes_that_no_cookie_has_are_a_guest(application, serve_application, dial):
    server = await serve_application(application)
    for value in (
        "\xff" * 300,
        "=",
        "",
        "=" * 5000,
        "rakit_session",
        ";" * 9000,
        "rakit_session=;" * 900,
    ):
        assert await answer(dial, server, value) == 101
    # Two headers are none that a browser sends (RFC 6265 §5.4); here they make one cookie, broken.
    assert await answer(dial, server, cookie(), "a=b") == 101
    assert server.counters["users_identified"] == 0


async def test_wrong_macs_cost_no_look_up(application, tmp_path, serve_application, dial):
    # A database and a folder that are not there: whoever asked them would get 503.
    nowhere = {
        **application,
        "session_path": str(tmp_path / "no"),
        "database_url": f"sqlite:///{tmp_path}/no.sqlite",
    }
    server = await serve_application(nowhere)
    for _ in range(20):
        assert await answer(dial, server, cookie(key=OTHER_KEY)) == 101
    assert await answer(dial, server, cookie()) == 503


@pytest.mark.parametrize(
    "content",
    [b"", GUARD, GUARD + b"N;", GUARD + b"a:1:{", b"\xff" * 100, GUARD + record()[:-1],
     GUARD + b"a:1:{i:0;" * 20_000, GUARD + record().replace(b"i:1;", b"i:99999999999999999999;"),
     b"x" * 2_000_000],
)  # fmt: skip
async def test_broken_session_is_a_guest(content, application, sessions, serve_application, dial):
    session_file(sessions).write_bytes(content)
    server = await serve_application(application)
    assert await answer(dial, server, cookie()) == 101
    assert server.counters["users_identified"] == 0


# --- Stores that are not there, or do not answer


@contextlib.asynccontextmanager
async def black_hole():
    """Listen, take everything, and never answer; yields the port."""
    taken = []

    async def take(reader, writer):
        taken.append(writer)
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass

    listening = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for writer in taken:
            writer.close()


def stalled(application, driver, port):
    if driver in ("mysql", "postgresql"):
        return {
            **application,
            "database_url": f"{driver}://u:secret@127.0.0.1:{port}/d",
            "database_connections": 2,
        }
    urls = {
        "redis_url": f"redis://:secret@127.0.0.1:{port}/0",
        "memcached_servers": [f"127.0.0.1:{port}"],
    }
    return {**application, **urls, "session_driver": driver, "database_connections": 2}


NETWORKED = ["mysql", "postgresql", "redis", "memcached"]


@pytest.mark.parametrize("driver", NETWORKED)
async def test_stalled_store_delays_only_those_who_wait_for_it(
    driver, application, serve_application, dial, connect, caplog
):
    async with black_hole() as port:
        server = await serve_application(stalled(application, driver, port), auth={"timeout": 1.0})
        waiting = [
            asyncio.ensure_future(answer(dial, server, cookie(f"{n:040}"))) for n in range(10)
        ]
        if driver in ("mysql", "postgresql"):
            waiting = [asyncio.ensure_future(answer(dial, server, cookie())) for _ in range(10)]
        await asyncio.sleep(0.05)
        guest = await connect(server)
        await guest.send({"message": "hello", "id": 1})
        assert [(await guest.receive())["type"] for _ in range(2)] == ["message", "ack"]
        assert not any(each.done() for each in waiting)
        assert await asyncio.gather(*waiting) == [503] * 10
        assert server.counters["user_source_failures"] == 10
    assert "secret" not in caplog.text


@pytest.mark.parametrize("driver", NETWORKED)
async def test_store_that_is_not_there_is_503(driver, application, serve_application, dial, caplog):
    settings = stalled(application, driver, free_port())
    server = await serve_application(settings)
    assert await answer(dial, server, cookie()) == 503
    assert await answer(dial, server) == 101
    assert "secret" not in caplog.text


async def test_store_that_is_not_there_makes_a_guest_if_that_is_wanted(
    application, serve_application, dial
):
    settings = stalled(application, "redis", free_port())
    server = await serve_application(settings, auth={"on_failure": "guest"})
    assert await answer(dial, server, cookie()) == 101
    assert server.counters["user_source_failures"] == 1


async def test_database_that_is_not_there_is_not_made(
    tmp_path, application, serve_application, dial
):
    missing = tmp_path / "missing.sqlite"
    server = await serve_application({**application, "database_url": f"sqlite:///{missing}"})
    assert await answer(dial, server, cookie()) == 503
    assert not missing.exists()


async def test_missing_table_is_503(application, serve_application, dial):
    server = await serve_application({**application, "users_table": "people"})
    assert await answer(dial, server, cookie()) == 503


async def test_database_is_never_written(application, serve_application):
    source = RakitSource(Rakit(**application), timeout_s=5)
    from sqlalchemy import text

    with pytest.raises(SourceDownError, match="readonly"):
        await source._database.rows(text("DELETE FROM users"), [])
    await source.aclose()


async def test_folder_that_is_not_there_is_503(tmp_path, application, serve_application, dial):
    server = await serve_application({**application, "session_path": str(tmp_path / "nowhere")})
    assert await answer(dial, server, cookie()) == 503


async def test_store_that_comes_back_is_asked_again(
    application, redis_url, serve_application, dial
):
    server = await serve_application(stalled(application, "redis", free_port()))
    assert await answer(dial, server, cookie()) == 503
    server = await serve_application(
        {**application, "session_driver": "redis", "redis_url": redis_url}
    )
    assert await answer(dial, server, cookie()) == 101


async def test_session_of_another_type_in_redis_is_a_guest(
    application, redis_url, serve_application, dial
):
    from redis import Redis

    with contextlib.closing(Redis.from_url(redis_url)) as client:
        client.rpush(SESSION_ID, "a list")
    settings = {**application, "session_driver": "redis", "redis_url": redis_url}
    assert await answer(dial, await serve_application(settings), cookie()) == 101


# --- Memcached


def memcached(*servers, **settings):
    return MemcachedStore(
        servers, **{"cache_key": "rakit", "connections": 1, "timeout_s": 2.0, **settings}
    )


@pytest.fixture
def stored_in(memcached_server):
    """Store values as PHP's extension does."""
    from pymemcache.client.base import Client

    host, _, port = memcached_server.partition(":")
    with contextlib.closing(Client((host, int(port)))) as client:
        yield lambda key, value, flags: client.set(key, value, flags=flags, noreply=False)


@pytest.mark.parametrize("cache_key", ["app", "app."])
async def test_memcached_key_has_one_dot(cache_key, memcached_server, stored_in):
    stored_in(f"app.{SESSION_ID}", record(), 4)
    store = memcached(memcached_server, cache_key=cache_key)
    assert (await store.load([SESSION_ID]))[SESSION_ID].data == {LOGIN: 1}
    await store.aclose()


@pytest.mark.parametrize("flags", [0, 1, 2, 3, 4, 7, 15, 4 | 16, 4 | 16 | 32, 4 | 16 | 64, 0xFFFF])
async def test_memcached_value_that_is_none_of_phps_is_not_found(
    flags, memcached_server, stored_in
):
    session_id = f"{flags:040}"
    stored_in(f"rakit.{session_id}", b"\xff\xff\xff\xffgarbage", flags)
    store = memcached(memcached_server)
    assert await store.load([session_id, "B" * 40]) == {}
    await store.aclose()


@pytest.mark.parametrize(("flags", "name"), [(5, "igbinary"), (6, "json"), (8, "msgpack")])
async def test_memcached_serializer_of_php_alone_is_named(flags, name, memcached_server, stored_in):
    session_id = f"{flags:040}"
    stored_in(f"rakit.{session_id}", b"x", flags)
    store = memcached(memcached_server)
    fault = (await store.load([session_id]))[session_id]
    assert isinstance(fault, SourceDownError)
    assert name in str(fault)
    await store.aclose()


async def test_all_memcached_servers_are_asked(memcached_server, stored_in):
    stored_in(f"rakit.{SESSION_ID}", record(), 4)
    missing = f"127.0.0.1:{free_port()}"
    for servers in ((memcached_server, missing), (missing, memcached_server)):
        store = memcached(*servers)
        found = await store.load([SESSION_ID, "C" * 40])
        assert found[SESSION_ID].data == {LOGIN: 1}
        # This one may be where nobody answers.
        assert isinstance(found["C" * 40], SourceDownError)
        await store.aclose()


# --- Settings


def test_apc_says_what_to_use_instead(application):
    with pytest.raises(ConfigError, match=r'memory of PHP.*"redis"'):
        RakitSource(Rakit(**{**application, "session_driver": "apc"}), timeout_s=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": ""}, "rakit.key: missing"),
        ({"key": "", "key_file": "/no/key.php"}, "can't be read: No such file"),
        ({"key": "", "path": "/no"}, "/no/key.php"),
        ({"session_path": ""}, "rakit.session_path: missing"),
        ({"database_url": ""}, "rakit.database_url: missing"),
        ({"database_url": "mysql://host:port/x"}, "rakit.database_url: the value is wrong"),
        ({"database_url": "postgresql+psycopg2://h/x"}, "rakit.database_url: "),
        ({"database_url": "mysql+nosuch://h/x"}, "rakit.database_url: the value is wrong"),
        ({"session_driver": "memcached", "memcached_servers": ()}, "there are none"),
        ({"session_driver": "memcached", "memcached_servers": ("host:x",)}, '"host:x" is wrong'),
    ],
)
def test_settings_that_can_not_be_are_named(application, change, message):
    with pytest.raises(ConfigError, match=message):
        RakitSource(Rakit(**{**application, **change}), timeout_s=1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("key", "short"),
        ("key", KEY + "0"),
        ("key", KEY.replace("-", "_")),
        ("session_cookie", "a b"),
        ("session_cookie", "a;b"),
        ("session_cookie", ""),
        ("database_url", "oracle://x"),
        ("redis_url", "http://x"),
        ("cache_key", "a b"),
        ("cache_key", "a" * 201),
    ],
)
def test_values_that_are_wrong_are_refused_without_showing_secrets(key, value):
    with pytest.raises(ConfigError, match=f"Rakit: {key}: ") as refusal:
        Rakit(**{key: value})
    if key in ("key", "database_url", "redis_url"):
        assert value not in str(refusal.value)


@pytest.mark.parametrize(
    ("modules", "change", "message"),
    [
        (["sqlalchemy.engine"], {}, r"rakit-ws\[rakit\]"),
        (["aiomysql"], {"database_url": "mysql://h/d"}, r"rakit-ws\[mysql\]"),
        (["asyncpg"], {"database_url": "postgresql://h/d"}, r"rakit-ws\[postgresql\]"),
        (["redis.asyncio"], {"session_driver": "redis"}, r"rakit-ws\[redis\]"),
        (["pymemcache.client.base"], {"session_driver": "memcached"}, r"rakit-ws\[memcached\]"),
    ],
)
def test_package_that_is_missing_is_named(application, monkeypatch, modules, change, message):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=message):
        RakitSource(Rakit(**{**application, **change}), timeout_s=1)


def test_missing_cryptography_is_named(application, monkeypatch):
    monkeypatch.setattr("rakit_ws.rakit.crypter.HAS_CIPHERS", False)
    with pytest.raises(ConfigError, match=r"rakit-ws\[rakit\]"):
        Crypter(KEY)


@pytest.mark.parametrize(
    "text",
    [
        "<?php\n\nreturn '{key}';\n",
        '<?php return "{key}";',
        "\ufeff<?php // return 'x';\n# return 'y';\n/* return 'z'; */ return '{key}' ;",
        "<?php\n\ndefined('DS') or exit('No direct access.');\n\nreturn '{key}';",
        "<?php defined('DS') || die(); return '{key}';?>\n",
    ],
)
def test_key_file(text, tmp_path):
    (tmp_path / "key.php").write_text(text.replace("{key}", KEY), "utf-8")
    assert key_in(tmp_path / "key.php") == KEY


@pytest.mark.parametrize(
    "content",
    [b"", b"<?php return getenv('KEY');", b"<?php // return '%b';", b"<?php return 'x';", b"\xff\xfe",
     b"<?php $a = 1; return '%b';", b"<?php return '%b' . 'x';", b"<?php return ['%b'];", b"return '%b';"],
)  # fmt: skip
def test_key_file_without_a_key_that_is_written_out(content, tmp_path):
    path = tmp_path / "key.php"
    path.write_bytes(content.replace(b"%b", KEY.encode()))
    with pytest.raises(ConfigError, match=r"rakit\.key_file"):
        key_in(path)


# --- Cookies (fixtures §3)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("a=1; b=2", {"a": b"1", "b": b"2"}),
        ("a=1;a=2", {"a": b"1"}),
        ("  a=1;\t b=2", {"a": b"1", "b": b"2"}),
        ("A=1", {}),
        ("a", {}),
        ("a =1", {}),
        ("a=", {"a": b""}),
        ("a=b=c", {"a": b"b=c"}),
        ("a=%2B+%", {"a": b"+ %"}),
        ("a=\xff", {"a": b"\xff"}),
        ("xa=1; a[]=2", {}),
    ],
)
def test_cookie_header(header, expected):
    assert values_of(header, {"a", "b"}) == expected


# --- Look-ups that are shared


async def test_keys_of_one_turn_are_one_load():
    loads = []

    async def load(keys):
        loads.append(list(keys))
        return {key: key * 10 for key in keys if key != 3}

    batch = Batch(load, max_loads=2)
    assert await asyncio.gather(*map(batch.get, [1, 2, 1, 3])) == [10, 20, 10, None]
    assert loads == [[1, 2, 3]]


async def test_loads_at_a_time_are_bounded_and_those_who_wait_go_with_the_next():
    release = asyncio.Event()
    loads = []

    async def load(keys):
        loads.append(len(keys))
        await release.wait()
        return {key: key for key in keys}

    batch = Batch(load, max_loads=2, patience_s=0)
    waiting = [asyncio.ensure_future(batch.get(key)) for key in range(MAX_KEYS * 2 + 50)]
    for key in range(1000, 1010):
        await asyncio.sleep(0)
        waiting.append(asyncio.ensure_future(batch.get(key)))
    await asyncio.sleep(0.01)
    assert loads == [MAX_KEYS, MAX_KEYS]
    waiting[-1].cancel()
    release.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert results[:-1] == [*range(MAX_KEYS * 2 + 50), *range(1000, 1009)]
    assert loads == [MAX_KEYS, MAX_KEYS, 59]


async def test_load_that_takes_long_is_joined_by_another():
    release = asyncio.Event()
    loads = []

    async def load(keys):
        loads.append(keys)
        await release.wait()
        return {}

    batch = Batch(load, max_loads=3, patience_s=0.05)
    waiting = []
    for key in range(3):
        waiting.append(asyncio.ensure_future(batch.get(key)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert loads == [[0]]
    await until(lambda: len(loads) == 2)
    assert loads == [[0], [1, 2]]
    release.set()
    await asyncio.gather(*waiting)


async def test_failure_of_a_load_is_that_of_all_who_asked_and_of_nobody_else():
    async def load(keys):
        if 1 in keys:
            raise SourceDownError("gone")
        return {2: 20, 3: SourceDownError("only this one")}

    batch = Batch(load, max_loads=1)
    first = await asyncio.gather(batch.get(1), batch.get(2), return_exceptions=True)
    assert [str(each) for each in first] == ["gone", "gone"]
    second = await asyncio.gather(batch.get(2), batch.get(3), return_exceptions=True)
    assert second[0] == 20
    assert str(second[1]) == "only this one"


async def test_cancelling_who_waits_cancels_no_load():
    begun, release = asyncio.Event(), asyncio.Event()
    ended = []

    async def load(keys):
        begun.set()
        await release.wait()
        ended.append(keys)
        return {1: 10}

    batch = Batch(load, max_loads=1)
    gone, stays = asyncio.ensure_future(batch.get(1)), asyncio.ensure_future(batch.get(1))
    await begun.wait()
    gone.cancel()
    release.set()
    assert await stays == 10
    assert ended == [[1]]


async def test_closing_cancels_who_waits():
    async def load(keys):
        await asyncio.Event().wait()

    batch = Batch(load, max_loads=1)
    waiting = [asyncio.ensure_future(batch.get(key)) for key in range(3)]
    await asyncio.sleep(0.01)
    late = asyncio.ensure_future(batch.get(9))
    await asyncio.sleep(0)
    await batch.aclose()
    done, _ = await asyncio.wait([*waiting, late], timeout=1)
    assert len(done) == 4


class Table:
    """A database that counts what it is asked."""

    dialect = "sqlite"

    def __init__(self):
        self.asked = []

    async def rows(self, statement, ids):
        self.asked.append(list(ids))
        found = [(number, f"user {number}", number) for number in ids if number > 0]
        return Rows(["id", "name", "rakit_ws_number"], found)


async def test_row_is_kept_for_its_time():
    table, now = Table(), [0.0]
    users = Users(table, Rakit(user_cache=5.0), clock=lambda: now[0])
    first = await users.find(1)
    now[0] = 4.9
    assert await users.find(1) is first
    now[0] = 5.0
    assert await users.find(1) is not first
    assert table.asked == [[1], [1]]


async def test_no_row_is_not_kept_and_neither_is_any_where_that_is_off():
    table = Table()
    users = Users(table, Rakit(), clock=lambda: 0.0)
    assert await users.find(-1) is None
    assert await users.find(-1) is None
    users = Users(table, Rakit(user_cache=0), clock=lambda: 0.0)
    await users.find(1)
    await users.find(1)
    assert table.asked == [[-1], [-1], [1], [1]]


async def test_rows_that_are_kept_are_bounded():
    table = Table()
    users = Users(table, Rakit(), clock=lambda: 0.0)
    await asyncio.gather(*map(users.find, range(1, MAX_CACHED + 1)))
    table.asked.clear()
    await users.find(1)
    assert table.asked == []
    await users.find(MAX_CACHED + 1)
    await users.find(2)
    await users.find(1)
    assert table.asked == [[MAX_CACHED + 1], [1]]


# --- PHP itself

WRITER = r"""<?php
[, $key, $folder, $id] = $argv;
class Basket { private $items = ["a" => 1]; protected $owner; public $self; }
$basket = new Basket; $basket->self = $basket;
$shared = 1;
$data = [":new:" => [], ":old:" => [], "basket" => $basket, "again" => $basket, "price" => 0.1,
    "name" => "Ångström \0 愛", "decoy" => 's:31:"system_auth_drivers_magic_login";i:3;',
    "shared" => &$shared, "system_auth_drivers_magic_login" => &$shared, "csrf_token" => str_repeat("t", 40)];
$record = ["id" => $id, "data" => $data, "last_activity" => time()];
$guard = "<?php defined('DS') or exit('No direct access.');?>";
file_put_contents($folder . "/" . sha1($id) . ".session.php", $guard . serialize($record));
function encrypt($plain, $key) {
    $iv = random_bytes(16);
    $value = openssl_encrypt($plain, "aes-256-cbc", $key, 0, $iv);
    $iv = base64_encode($iv);
    $mac = hash_hmac("sha256", $iv . $value, $key);
    return base64_encode(json_encode(compact("iv", "value", "mac")));
}
echo "rakit_session=" . rawurlencode(encrypt($id, $key));
echo "; session_payload=" . rawurlencode(encrypt(serialize($record), $key));
"""


@pytest.mark.parametrize("driver", ["file", "cookie"])
async def test_what_php_has_written_is_read(
    driver, tmp_path, application, sessions, serve_application, connect
):
    script = tmp_path / "write.php"
    script.write_text(WRITER, "utf-8")
    words = [needed("php"), str(script), KEY, str(sessions), "P" * 40]
    php = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    header = (await php.communicate())[0].decode()
    assert php.returncode == 0, header
    server = await serve_application({**application, "session_driver": driver})
    await connect(server, headers=[("Cookie", header)])
    (client,) = server.clients.values()
    assert (client.name, client.email) == (BUDI["name"], BUDI["email"])
