"""Logged out means out: who a client is, looked at again while it is connected."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import sqlite3
import time

import pytest

from conftest import until
from rakit_ws import Refused, Server, SourceDownError, User
from rakit_ws.auth.chain import new_counts
from rakit_ws.auth.rechecks import MAX_A_TICK, MAX_TICK_S, MAX_UNDER_WAY, Rechecks
from rakit_ws.rakit.stores.database import DatabaseStore
from rakit_ws.rakit.users import Remembered
from rakit_ws.tasks import Tasks
from rakit_ws.user import Identified
from raw_client import close, within
from still_clock import Clock
from test_rakit import (  # noqa: F401 - fixtures
    GUARD,
    KEY,
    application,
    cookie,
    encrypt,
    record,
    serve_application,
    session_file,
    sessions,
)

ANI = User("7", "Ani", "ani@example.com")


# --- When each is looked at, by a clock that stands still


class Peer:
    """As much of a client as is looked at here."""

    def __init__(self, number):
        self.id = str(number)
        self.request = self
        self.user = User(self.id)
        self.user_id = self.id
        self.identified = Identified(self.user, "function")
        self.closed = []

    def disconnect(self, code, reason):
        self.closed.append((code, reason))


class Scene:
    """Rechecks with a clock, and a source that answers as it is told."""

    def __init__(self, interval_s=60.0):
        self.clock = Clock()
        self.counts = new_counts()
        self.asked = []
        self.answer = lambda peer, known: known.user
        self.rechecks = Rechecks(
            interval_s,
            self.clock,
            Tasks(asyncio.get_running_loop()),
            recheck=self._recheck,
            counts=self.counts,
        )

    def _recheck(self, request, known):
        self.asked.append((self.clock.now_s, request))
        return self.answer(request, known)

    def join(self, count):
        peers = [Peer(number) for number in range(count)]
        for peer in peers:
            self.rechecks.add(peer)
        return peers

    def asked_in(self, seconds):
        """Return who is asked about in this time."""
        self.asked.clear()
        self.clock.advance(seconds)
        return [peer for _, peer in self.asked]


async def later(answer):
    await asyncio.sleep(0)
    if isinstance(answer, Exception):
        raise answer
    return answer


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("count", [1, 7, 60, 1000])
async def test_each_is_looked_at_once_in_an_interval(count):
    scene = Scene(60.0)
    peers = scene.join(count)
    for _ in range(3):
        asked = collections.Counter(scene.asked_in(60.0 + MAX_TICK_S))
        assert set(asked) == set(peers)
        assert max(asked.values()) <= 2  # the second beyond the interval may begin the next round
    assert scene.counts["user_rechecks"] >= 3 * count


async def test_those_who_came_together_are_spread_over_the_interval():
    scene = Scene(60.0)
    scene.join(600)
    scene.asked_in(60.0)
    seconds = collections.Counter(int(at_s) for at_s, _ in scene.asked)
    assert max(seconds.values()) <= 20  # the first tick comes after a second
    assert len(seconds) >= 59


async def test_one_who_comes_is_looked_at_within_the_interval_whoever_leaves():
    scene = Scene(60.0)
    peers = scene.join(100)
    scene.asked_in(10.0)
    newcomer = Peer("new")
    scene.rechecks.add(newcomer)
    behind = [Peer(f"b{number}") for number in range(100)]
    for peer in behind:
        scene.rechecks.add(peer)
    for peer in behind:
        scene.rechecks.remove(peer)
    assert newcomer in scene.asked_in(60.0 + MAX_TICK_S)
    for peer in [*peers, newcomer]:
        scene.rechecks.remove(peer)
    assert scene.asked_in(600) == []
    assert scene.clock.is_quiet


async def test_guests_are_not_looked_at():
    scene = Scene()
    guest = Peer(1)
    guest.identified = None
    scene.rechecks.add(guest)
    assert scene.asked_in(600) == []
    assert scene.clock.is_quiet


async def test_one_whom_code_has_made_somebody_else_is_not_looked_at():
    scene = Scene()
    peer, other = scene.join(2)
    peer.user_id = None
    assert set(scene.asked_in(200)) == {other}


async def test_interval_of_zero_is_never_and_a_reload_can_change_that():
    scene = Scene(0.0)
    (peer,) = scene.join(1)
    assert scene.asked_in(86_400) == []
    scene.rechecks.configure(10.0)
    assert scene.asked_in(11) == [peer]
    scene.rechecks.configure(0.0)
    assert scene.asked_in(86_400) == []


async def test_as_many_begin_at_once_as_one_load_takes():
    scene = Scene(1.0)
    scene.join(10 * MAX_A_TICK)
    scene.asked_in(1.0)
    at_once = collections.Counter(at_s for at_s, _ in scene.asked)
    assert max(at_once.values()) == MAX_A_TICK


async def test_those_who_wait_for_a_source_that_hangs_are_bounded_and_none_is_closed():
    scene = Scene(1.0)
    peers = scene.join(2 * MAX_UNDER_WAY)
    release = asyncio.Event()

    async def hang(user):
        await release.wait()
        return user

    scene.answer = lambda peer, known: hang(known.user)
    scene.asked_in(60)
    assert len(scene.asked) == MAX_UNDER_WAY
    release.set()
    await settle()
    assert scene.asked_in(1.0) != []
    assert all(not peer.closed for peer in peers)
    scene.rechecks.stop()
    await settle()


# --- What is done about it


async def test_end_that_is_certain_closes_at_once():
    scene = Scene()
    (peer,) = scene.join(1)
    scene.answer = lambda peer, known: None
    scene.asked_in(61)
    assert peer.closed == [(4001, "the session has ended")]
    assert scene.counts["sessions_ended"] == 1
    assert scene.asked_in(600) == []


async def test_end_in_a_store_is_believed_when_it_is_seen_twice():
    scene = Scene()
    (peer,) = scene.join(1)
    scene.answer = lambda peer, known: later(None)
    assert scene.asked_in(60) == [peer]
    await settle()
    assert peer.closed == []
    assert scene.asked_in(2) == [peer]
    await settle()
    assert peer.closed == [(4001, "the session has ended")]


@pytest.mark.parametrize("second", [User("1"), SourceDownError("gone")])
async def test_session_that_was_only_missed_once_goes_on(second):
    scene = Scene()
    (peer,) = scene.join(1)
    peer.user = User("1")
    peer.user_id = "1"
    peer.identified = Identified(peer.user, "function")
    scene.answer = lambda peer, known: later(None)
    scene.asked_in(60)
    await settle()
    # What a chain makes of a failure is who it was.
    scene.answer = lambda peer, known: later(
        known.user if isinstance(second, Exception) else second
    )
    scene.asked_in(2)
    await settle()
    scene.answer = lambda peer, known: later(None)
    scene.asked_in(58)
    await settle()
    assert peer.closed == []


async def test_one_who_left_or_came_to_be_known_anew_meanwhile_is_left_alone():
    scene = Scene()
    gone, renewed = scene.join(2)
    for answer in (None, User("other")):
        scene.answer = lambda peer, known, it=answer: later(it)
        scene.asked_in(60)
        scene.rechecks.remove(gone)
        renewed.identified = Identified(User(renewed.id), "jwt")
        await settle()
        assert gone.closed == renewed.closed == []


async def test_row_that_has_changed_takes_the_place_of_the_old_one():
    scene = Scene()
    (peer,) = scene.join(1)
    renamed = User("0", "A new name")
    scene.answer = lambda peer, known: later(renamed)
    scene.asked_in(60)
    await settle()
    assert peer.user is renamed
    assert peer.identified == Identified(renamed, "function")


async def test_user_that_a_hook_has_put_in_place_stays():
    scene = Scene()
    (peer,) = scene.join(1)
    peer.user = own = object()
    scene.answer = lambda peer, known: later(User("0", "A new name"))
    scene.asked_in(60)
    await settle()
    assert peer.user is own
    assert peer.identified.user.name == "A new name"


# --- With a server

AGAIN = {"recheck_interval": 0.05}


async def test_user_who_is_logged_out_is_closed_with_4001_and_nobody_else(
    make_server, serve, connect
):
    server = make_server(auth=AGAIN)
    known = {"a": ANI, "b": User("8", "Budi")}
    server.authenticate(lambda request: known.get(request.header("x-token")), recheck=True)
    await serve(server)
    ani = await connect(server, headers=[("X-Token", "a")])
    budi = await connect(server, headers=[("X-Token", "b")])
    guest = await connect(server)
    del known["a"]
    assert await ani.receive_close() == (4001, "the session has ended")
    await until(lambda: server.counters["sessions_ended"] == 1)
    for each in (budi, guest):
        await each.fence()


@pytest.mark.parametrize("answer", [User("8"), Refused(403, "blocked"), None])
async def test_another_user_and_a_refusal_are_an_end_too(make_server, serve, connect, answer):
    server = make_server(auth=AGAIN)
    answers = [ANI]

    @server.authenticate(recheck=True)
    def authenticate(request):
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    client = await connect(await serve(server))
    answers[0] = answer
    assert (await client.receive_close())[0] == 4001


@pytest.mark.parametrize("is_async", [False, True])
async def test_source_that_is_down_logs_nobody_out(make_server, serve, connect, caplog, is_async):
    server = make_server(auth={**AGAIN, "on_failure": "refuse"})
    is_down = False

    def authenticate(request):
        if is_down:
            raise SourceDownError("the table is locked")
        return ANI

    async def authenticate_later(request):
        return authenticate(request)

    server.authenticate(authenticate_later if is_async else authenticate, recheck=True)
    client = await connect(await serve(server))
    is_down = True
    await until(lambda: server.counters["user_rechecks_failed"] >= 3)
    await client.fence()
    is_down = False
    checks = server.counters["user_rechecks"]
    await until(lambda: server.counters["user_rechecks"] >= checks + 2)
    await client.fence()
    assert "the table is locked" in caplog.text


async def test_source_that_hangs_logs_nobody_out_and_holds_up_no_stop(make_server, connect):
    server = make_server(
        auth={**AGAIN, "timeout": 60.0}, handshake_timeout=100.0, close_timeout=60.0
    )
    hangs = False

    @server.authenticate(recheck=True)
    async def authenticate(request):
        if hangs:
            await asyncio.Event().wait()
        return ANI

    async with server:
        client = await connect(server)
        hangs = True
        await until(lambda: server.counters["user_rechecks"] >= 1)
        await client.fence()
        ending = asyncio.create_task(server._running.shut_down())
        assert (await client.receive_close())[0] == 1001
        await client.send(close(1001))
        client.end()
        await within(ending)


async def test_function_is_asked_once_unless_it_says_otherwise(make_server, serve, connect):
    server = make_server(auth=AGAIN)
    asked = []

    @server.authenticate
    def authenticate(request):
        asked.append(request)
        return ANI if len(asked) == 1 else None

    client = await connect(await serve(server))
    await until(lambda: server.counters["user_rechecks"] >= 3)
    await client.fence()
    assert len(asked) == 1


@pytest.mark.parametrize(("ends_in_s", "is_over"), [(0.5, True), (1000, False)])
async def test_user_is_nobody_from_its_end_on(make_server, serve, connect, ends_in_s, is_over):
    server = make_server(auth=AGAIN)
    user = None
    server.authenticate(lambda request: user)
    await serve(server)
    user = User("7", expires_at=time.time() + ends_in_s)
    client = await connect(server)
    if is_over:
        assert (await client.receive_close())[0] == 4001
    else:
        await until(lambda: server.counters["user_rechecks"] >= 2)
        await client.fence()


async def test_what_other_objects_call_their_end_means_nothing_here(make_server, serve, connect):
    class Row:
        id = 7
        expires_at = 1  # of a subscription, say

    server = make_server(auth=AGAIN)
    server.authenticate(lambda request: Row)
    client = await connect(await serve(server))
    await until(lambda: server.counters["user_rechecks"] >= 2)
    await client.fence()


async def test_new_name_is_shown(make_server, serve, connect):
    server = make_server(auth=AGAIN, presence={"enabled": True, "interval": 0})
    users = [ANI]
    server.authenticate(lambda request: users[0], recheck=True)
    client = await connect(await serve(server))
    assert [each["name"] for each in (await client.receive())["users"]] == ["Ani"]
    users[0] = User("7", "Ani Wijaya", "ani@example.com")
    assert [each["name"] for each in (await client.receive())["users"]] == ["Ani Wijaya"]


async def test_source_that_is_configured_no_more_is_not_asked(make_server, serve, connect):
    server = make_server(auth=AGAIN)
    server.authenticate(lambda request: ANI, recheck=True)
    client = await connect(await serve(server))
    (connected,) = server.clients.values()
    connected.identified = Identified(ANI, "gone")
    await until(lambda: server.counters["user_rechecks"] >= 3)
    await client.fence()


# --- A Rakit application


@pytest.fixture
def logged_in(application, serve_application, connect):  # noqa: F811
    """Start a server that looks often, and a browser that is logged in."""

    async def start(**settings):
        server = await serve_application({**application, **settings}, auth=AGAIN)
        return server, await connect(server, headers=[("Cookie", cookie())])

    return start


async def test_session_that_is_still_there_goes_on(logged_in):
    server, client = await logged_in()
    await until(lambda: server.counters["user_rechecks"] >= 4)
    await client.fence()
    assert [each.user_id for each in server.clients.values()] == ["1"]


@pytest.mark.parametrize("end", ["gone", "logged out", "expired", "another user"])
async def test_session_that_has_ended_closes_with_4001(sessions, logged_in, end):  # noqa: F811
    server, client = await logged_in()
    path = session_file(sessions)
    if end == "gone":
        path.unlink()
    elif end == "logged out":
        path.write_bytes(GUARD + record(b""))
    elif end == "expired":
        path.write_bytes(GUARD + record(last_activity=int(time.time()) - 3601))
    else:
        path.write_bytes(GUARD + record(b"i:2;"))
    assert (await client.receive_close())[0] == 4001
    assert server.counters["user_rechecks_failed"] == 0


def remember_cookie(user):
    inner = encrypt(b"%d|" % user + b"r" * 40)
    return f"system_auth_drivers_magic_remember={encrypt(inner).decode()}"


@pytest.mark.parametrize("end", ["gone", "logged out", "expired"])
async def test_remember_cookie_of_the_handshake_does_not_outlive_logging_out(
    application,  # noqa: F811
    sessions,  # noqa: F811
    serve_application,  # noqa: F811
    connect,
    end,
):
    server = await serve_application(application, auth=AGAIN)
    both = [("Cookie", f"{cookie()}; {remember_cookie(1)}")]
    client = await connect(server, headers=both)
    path = session_file(sessions)
    if end == "gone":
        path.unlink()
    else:
        since = None if end == "logged out" else int(time.time()) - 3601
        path.write_bytes(GUARD + record(b"" if end == "logged out" else b"i:1;", since))
    assert (await client.receive_close())[0] == 4001
    again = await connect(server, headers=both)  # were the cookie still there, it would do
    assert [each.user_id for each in server.clients.values()] == ["1"]
    checks = server.counters["user_rechecks"]
    await until(lambda: server.counters["user_rechecks"] >= checks + 3)
    await again.fence()


@pytest.mark.parametrize("session", ["none", "without a login", "expired"])
async def test_user_who_is_only_remembered_stays_until_it_is_no_user(
    tmp_path,
    application,  # noqa: F811
    sessions,  # noqa: F811
    serve_application,  # noqa: F811
    connect,
    session,
):
    database = tmp_path / "users.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT)")
        connection.execute("INSERT INTO users VALUES (1, 'Ani', NULL)")
    if session == "without a login":
        session_file(sessions).write_bytes(GUARD + record(b""))
    elif session == "expired":
        session_file(sessions).write_bytes(GUARD + record(b"i:1;", int(time.time()) - 3601))
    settings = {**application, "database_url": f"sqlite:///{database}", "user_cache": 0.0}
    server = await serve_application(settings, auth=AGAIN)
    cookies = remember_cookie(1) if session == "none" else f"{cookie()}; {remember_cookie(1)}"
    client = await connect(server, headers=[("Cookie", cookies)])
    assert [each.name for each in server.clients.values()] == ["Ani"]
    await until(lambda: server.counters["user_rechecks"] >= 3)
    await client.fence()
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM users")
    assert (await client.receive_close())[0] == 4001


async def test_user_who_was_remembered_and_has_logged_in_since_can_log_out(
    application,  # noqa: F811
    sessions,  # noqa: F811
    serve_application,  # noqa: F811
    connect,
):
    path = session_file(sessions)
    path.write_bytes(GUARD + record(b""))
    server = await serve_application(application, auth=AGAIN)
    client = await connect(server, headers=[("Cookie", f"{cookie()}; {remember_cookie(1)}")])
    (connected,) = server.clients.values()
    assert isinstance(connected.user, Remembered)
    path.write_bytes(GUARD + record())
    await until(lambda: not isinstance(connected.user, Remembered))
    await client.fence()
    path.write_bytes(GUARD + record(b""))
    assert (await client.receive_close())[0] == 4001


async def test_store_that_is_gone_logs_nobody_out(sessions, logged_in):  # noqa: F811
    server, client = await logged_in()
    moved = sessions.rename(sessions.with_name("moved"))
    await until(lambda: server.counters["user_rechecks_failed"] >= 2)
    await client.fence()
    moved.rename(sessions)
    checks = server.counters["user_rechecks"]
    await until(lambda: server.counters["user_rechecks"] >= checks + 3)
    await client.fence()


async def test_checks_that_are_due_together_are_one_look_up(tmp_path, monkeypatch, serve, connect):
    database = tmp_path / "application.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT)")
        connection.execute("INSERT INTO users VALUES (1, 'Ani', NULL)")
        connection.execute("CREATE TABLE sessions (id TEXT, last_activity INTEGER, data BLOB)")
        login = b'a:1:{s:31:"system_auth_drivers_magic_login";i:1;}'
        rows = [(f"{number:040}", int(time.time()), login) for number in range(40)]
        connection.executemany("INSERT INTO sessions VALUES (?, ?, ?)", rows)
    loads = []
    load = DatabaseStore.load

    async def counted(self, session_ids):
        loads.append(len(session_ids))
        return await load(self, session_ids)

    monkeypatch.setattr(DatabaseStore, "load", counted)
    settings = {
        "key": KEY,
        "session_driver": "database",
        "database_url": f"sqlite:///{database}",
    }
    auth = {"sources": ["rakit"], "recheck_interval": 0}
    server = await serve(Server(port=0, presence={"enabled": False}, auth=auth, rakit=settings))
    for number in range(40):
        await connect(server, headers=[("Cookie", cookie(f"{number:040}"))])
    loads.clear()
    server._running._rechecks.configure(0.2)  # forty in four ticks
    await until(lambda: server.counters["user_rechecks"] >= 40)
    await until(lambda: sum(loads) >= 40)
    assert len(loads) <= 20
    assert server.counters["sessions_ended"] == 0


# --- By code


async def test_code_closes_all_clients_of_a_user(make_server, serve, connect):
    server = make_server()
    server.authenticate(lambda request: ANI if request.header("x-token") else None)
    await serve(server)
    first = await connect(server, headers=[("X-Token", "1")])
    second = await connect(server, headers=[("X-Token", "1")])
    guest = await connect(server)
    assert server.disconnect_user("8") == 0
    assert server.disconnect_user("7") == 2
    for each in (first, second):
        assert await each.receive_close() == (4001, "the session has ended")
    assert server.disconnect_user(7) == 0
    await guest.fence()


async def test_code_chooses_the_code_that_a_user_is_closed_with(make_server, serve, connect):
    server = make_server()
    server.authenticate(lambda request: ANI)
    client = await connect(await serve(server))
    assert server.disconnect_user(7, 4003, "blocked") == 1
    assert await client.receive_close() == (4003, "blocked")
