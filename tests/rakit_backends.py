"""
Servers that keep sessions and users, started for the tests and filled from the fixtures.

Where one is not installed its tests are skipped; with CI=true they fail.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from pymemcache.client.base import Client as Memcached
from redis import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

FIXTURES = Path(__file__).parent / "rakit" / "fixtures"
SQLITE = f"sqlite:///{FIXTURES / 'database' / 'application.sqlite'}"
TIMEOUT_S = 30

USERS = """
    CREATE TABLE users (id {id} NOT NULL PRIMARY KEY, name VARCHAR(191) NOT NULL,
    email VARCHAR(191) NOT NULL, password VARCHAR(191) NOT NULL, email_verified_at {time} NULL,
    created_at {time} NULL, updated_at {time} NULL)
"""
SESSIONS = """
    CREATE TABLE sessions (id VARCHAR(191) NOT NULL PRIMARY KEY, last_activity INTEGER NOT NULL,
    data {text} NOT NULL)
"""


def needed(program):
    """Return where a program is; skip the test, or in CI fail it, where it is not."""
    folders = [
        os.environ["PATH"],
        "/usr/sbin",
        *map(str, Path("/usr/lib/postgresql").glob("*/bin")),
    ]
    path = shutil.which(program, path=os.pathsep.join(folders))
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"there is no {program}, and in CI there must be")
    if path is None:
        pytest.skip(f"there is no {program} here")
    return path


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextlib.contextmanager
def running(words, log, *, answers, **options):
    """Run a server until the block ends; it begins when `answers` no longer raises."""
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, **options)
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                answers()
                break
            except Exception:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def folder_of(user):
    """Make a folder that a server may have; root gives it to `user`, which the server runs as."""
    path = Path(tempfile.mkdtemp(prefix="rakit_ws-"))
    is_root = os.geteuid() == 0
    if is_root:
        account = pwd.getpwnam(user)
        os.chown(path, account.pw_uid, account.pw_gid)
    try:
        yield path, ({"user": user, "group": account.pw_gid, "extra_groups": []} if is_root else {})
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    """Start Redis with the sessions of redis.json; return its URL."""
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    words = [needed("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    client = Redis(port=port)
    with running([*words, "--dir", str(folder)], folder / "log", answers=client.ping):
        for entry in json.loads((FIXTURES / "redis.json").read_text())["entries"]:
            client.set(entry["key"], base64.b64decode(entry["value_b64"]))
        client.close()
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="session")
def memcached_server(tmp_path_factory):
    """Start Memcached with the sessions of memcached.json; return its address."""
    folder, port = tmp_path_factory.mktemp("memcached"), free_port()
    words = [needed("memcached"), "-l", "127.0.0.1", "-p", str(port), "-U", "0"]
    if os.geteuid() == 0:
        words += ["-u", "nobody"]
    client = Memcached(("127.0.0.1", port))
    with running(words, folder / "log", answers=client.version):
        for entry in json.loads((FIXTURES / "memcached.json").read_text())["entries"]:
            value = base64.b64decode(entry["value_b64"])
            assert client.set(entry["key"], value, flags=entry["flags"], noreply=False)
        client.close()
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="session")
def mariadb_url():
    """Start MariaDB with the tables of the fixtures; return its URL."""
    install, server = needed("mariadb-install-db"), needed("mariadbd")
    port = free_port()
    url = f"mysql+aiomysql://root@127.0.0.1:{port}"
    with folder_of("mysql") as (folder, options):
        data = f"--datadir={folder}/data"
        subprocess.run(
            [install, "--no-defaults", data, "--auth-root-authentication-method=normal",
             "--skip-test-db"],
            check=True, capture_output=True, **options,
        )  # fmt: skip
        words = [server, "--no-defaults", data, f"--socket={folder}/socket", f"--port={port}",
                 "--bind-address=127.0.0.1", "--skip-name-resolve"]  # fmt: skip
        answers = lambda: asyncio.run(run_in(f"{url}/mysql", ["SELECT 1"]))  # noqa: E731
        with running(words, folder / "log", answers=answers, **options):
            asyncio.run(
                run_in(f"{url}/mysql", ["CREATE DATABASE application CHARACTER SET utf8mb4"])
            )
            kinds = {"id": "BIGINT UNSIGNED", "time": "DATETIME", "text": "TEXT"}
            asyncio.run(fill(f"{url}/application?charset=utf8mb4", kinds))
            yield f"mysql://root@127.0.0.1:{port}/application"


@pytest.fixture(scope="session")
def postgresql_url():
    """Start PostgreSQL with the tables of the fixtures; return its URL."""
    initdb, server = needed("initdb"), needed("postgres")
    port = free_port()
    url = f"postgresql+asyncpg://application@127.0.0.1:{port}/postgres"
    with folder_of("postgres") as (folder, options):
        subprocess.run(
            [initdb, "-D", f"{folder}/data", "-A", "trust", "-U", "application", "--no-sync"],
            check=True, capture_output=True, cwd=folder, **options,
        )  # fmt: skip
        words = [server, "-D", f"{folder}/data", "-h", "127.0.0.1", "-p", str(port), "-k", "", "-F"]
        answers = lambda: asyncio.run(run_in(url, ["SELECT 1"]))  # noqa: E731
        with running(words, folder / "log", answers=answers, cwd=folder, **options):
            kinds = {"id": "INTEGER", "time": "TIMESTAMP", "text": "TEXT"}
            asyncio.run(fill(url, kinds))
            yield url.replace("+asyncpg", "")


async def run_in(url, statements):
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement))
    finally:
        await engine.dispose()


async def fill(url, kinds):
    """Make the tables, and copy into them what a text can hold."""
    await run_in(url, [USERS.format(**kinds), SESSIONS.format(**kinds)])
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        for user in rows_of_users():
            await connection.execute(
                text(
                    "INSERT INTO users (id, name, email, password) VALUES (:id, :name, :email, :p)"
                ),
                {**user, "p": "secret"},
            )
        for session_id, last_activity, data in rows_of_sessions():
            if can_hold(data, nul=kinds["time"] == "DATETIME"):
                await connection.execute(
                    text("INSERT INTO sessions VALUES (:id, :at, :data)"),
                    {"id": session_id, "at": int(last_activity), "data": data.decode()},
                )
    await engine.dispose()


def can_hold(data, *, nul):
    """Whether a text can hold this, NUL or not: PHP could not have stored it otherwise."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return nul or b"\0" not in data


def rows_of_users():
    with contextlib.closing(sqlite3.connect(SQLITE.removeprefix("sqlite:///"))) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT id, name, email FROM users")]


def rows_of_sessions():
    with contextlib.closing(sqlite3.connect(SQLITE.removeprefix("sqlite:///"))) as connection:
        statement = "SELECT id, last_activity, CAST(data AS BLOB) FROM sessions"
        return connection.execute(statement).fetchall()
