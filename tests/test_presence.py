"""Presence (protocol §5): who is told of whom and when, by a clock that stands still."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

import pytest

from conftest import until
from rakit_ws.config import Presence as Settings
from rakit_ws.hub.presence import Presence
from rakit_ws.log import log
from raw_client import close, request
from still_clock import Clock


@dataclass
class User:
    """As much of a user as presence looks at here."""

    email: str


@dataclass
class Member:
    """As much of a client as presence looks at."""

    id: str
    name: str = "Guest"
    user: object = None
    connected_at: int = 0
    user_id: str | None = None


@dataclass
class Delivery:
    """One call that sent a presence: when, what, to how many."""

    at_s: float
    payload: bytes
    recipients: int


@dataclass
class House:
    """A hub with a given number of clients, which notes what is sent to them."""

    clock: Clock
    size: int = 1
    shows_sent: bool = False
    deliveries: list = field(default_factory=list)

    @property
    def engine(self):
        return self

    def broadcast_from(self, first, most, payload):
        assert most > 0
        end = min(first + most, self.size)
        self._note(payload, end - first)
        return end - first, end if end < self.size else None

    def broadcast(self, payload):
        self._note(payload, self.size)
        return self.size

    def _note(self, payload, recipients):
        self.deliveries.append(Delivery(self.clock.now_s, payload, recipients))

    def told(self):
        """Return every presence sent since the last call, once for each slice."""
        told = [json.loads(delivery.payload) for delivery in self.deliveries]
        self.deliveries.clear()
        return told


class Scene:
    """A presence with its clock and its house."""

    def __init__(self, *, size=1, shows_sent=False, **settings):
        self.clock = Clock()
        self.house = House(self.clock, size, shows_sent)
        self.presence = Presence(self.house, Settings(**settings), self.clock)

    def join(self, *names):
        for name in names:
            self.presence.join(Member(name, connected_at=int(self.clock.now_s)))

    def leave(self, name):
        self.presence.leave(Member(name))

    def told_after(self, seconds):
        self.clock.advance(seconds)
        return self.house.told()


def ids(presence):
    return [user["id"] for user in presence["users"]]


# --- What it says


def test_presence_is_written_as_in_the_protocol():
    scene = Scene(interval=0)
    member = Member("ABC", "Nama User", User("user@example.com"), 1234567890)
    scene.presence.join(member)
    scene.clock.advance(0)
    (delivery,) = scene.house.deliveries
    assert delivery.payload.decode() == (
        '{"type":"presence","users":[{"id":"ABC","name":"Nama User",'
        '"email":"user@example.com","connected_at":1234567890}],"count":1}'
    )


def test_users_come_oldest_first_each_with_its_own_time():
    scene = Scene(interval=0.1)
    for name in "cab":
        scene.join(name)
        scene.clock.advance(5)
    scene.leave("a")
    scene.join("a")
    (presence,) = scene.told_after(1)[-1:]
    assert ids(presence) == ["c", "b", "a"]
    assert [user["connected_at"] for user in presence["users"]] == [1000, 1010, 1015]
    assert presence["count"] == 3


def test_guest_has_a_name_and_no_email():
    scene = Scene(interval=0)
    scene.join("a")
    assert scene.told_after(0)[0]["users"] == [
        {"id": "a", "name": "Guest", "email": None, "connected_at": 1000}
    ]


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ((), {}),
        (("name",), {"name": "N"}),
        (("email",), {"email": "e@x"}),
        (("email", "name"), {"email": "e@x", "name": "N"}),
    ],
)
def test_fields_say_which_columns_go_out(fields, shown):
    scene = Scene(interval=0, fields=fields)
    scene.presence.join(Member("a", "N", User("e@x"), 7))
    (presence,) = scene.told_after(0)
    assert list(presence["users"][0].items()) == [
        ("id", "a"),
        *shown.items(),
        ("connected_at", 7),
    ]


class Unreadable:
    @property
    def email(self):
        raise LookupError("detached from its session")


@pytest.mark.parametrize("user", [User(object()), User("\ud800"), User(float), Unreadable()])
def test_user_whom_json_cannot_hold_is_shown_as_a_guest(user, caplog):
    scene = Scene(interval=0)
    scene.presence.join(Member("a", "N", user, 7))
    scene.join("b")
    assert scene.told_after(0)[0]["users"] == [
        {"id": "a", "name": "Guest", "email": None, "connected_at": 7},
        {"id": "b", "name": "Guest", "email": None, "connected_at": 1000},
    ]
    log.refresh()  # limits


@pytest.mark.parametrize("most", [0, 1, 3])
def test_users_are_cut_to_the_newest_and_count_tells_all(most):
    scene = Scene(interval=0.1, max_users=most)
    scene.join(*"abcde")
    (presence,) = scene.told_after(0.1)
    assert ids(presence) == list("abcde"[5 - most :])
    assert presence["count"] == 5
    scene.leave("e")
    (presence,) = scene.told_after(1)
    assert ids(presence) == list("abcd"[4 - most :])


# --- When


def test_changes_within_the_interval_share_one():
    scene = Scene(interval=0.1)
    scene.join("a", "b")
    assert scene.told_after(0.09) == []
    scene.join("c")
    scene.leave("a")
    (presence,) = scene.told_after(0.02)
    assert ids(presence) == ["b", "c"]
    assert scene.told_after(100) == []
    assert scene.clock.is_quiet


def test_changes_that_never_stop_do_not_put_it_off():
    scene = Scene(interval=0.1, max_bytes_per_second=0)
    for n in range(200):
        scene.join(f"m{n}")
        scene.clock.advance(0.01)
    assert 18 <= len(scene.house.deliveries) <= 20


def test_interval_of_0_tells_each_batch_at_once():
    scene = Scene(interval=0)
    scene.join("a", "b")
    (presence,) = scene.told_after(0)
    assert presence["count"] == 2


def test_leaving_of_somebody_who_was_never_there_changes_nothing():
    scene = Scene(interval=0)
    scene.leave("a")
    assert scene.told_after(10) == []


def test_being_asked_for_it_counts_as_a_change():
    scene = Scene(interval=0.1)
    scene.presence.tell()
    scene.presence.tell()
    (presence,) = scene.told_after(1)
    assert (presence["users"], presence["count"]) == ([], 0)


def test_disabled_presence_says_nothing_unless_it_is_asked():
    scene = Scene(interval=0, enabled=False)
    scene.join("a")
    assert scene.told_after(10) == []
    scene.presence.tell()
    (presence,) = scene.told_after(10)
    assert ids(presence) == ["a"]
    scene.leave("a")
    assert scene.told_after(10) == []
    assert scene.clock.is_quiet


def test_stopped_presence_says_nothing_more():
    scene = Scene(interval=0.1)
    scene.join("a")
    scene.presence.stop()
    scene.join("b")
    scene.presence.tell()
    assert scene.told_after(10) == []
    assert scene.clock.is_quiet


def test_presence_that_is_stopped_between_slices_says_nothing_more():
    scene = Scene(size=1000, interval=0, max_bytes_per_second=10_000)
    scene.join("a")
    assert len(scene.told_after(0.5)) > 1
    scene.join("b")
    scene.presence.stop()
    assert scene.told_after(100) == []
    assert scene.clock.is_quiet


# --- The budget


def test_next_one_waits_until_the_budget_has_paid_for_the_last():
    scene = Scene(size=10, interval=0.1, max_bytes_per_second=20_000)
    scene.join(*(f"m{n}" for n in range(10)))
    scene.clock.advance(100)
    size = len(scene.house.deliveries[0].payload)
    cost_s = 10 * size / 20_000
    assert cost_s > 0.3
    assert sum(each.recipients for each in scene.house.deliveries) == 10
    scene.house.told()
    scene.join("x")
    scene.clock.advance(0.11)
    began_s = scene.house.deliveries[0].at_s
    scene.join("y")
    scene.clock.advance(100)
    second = [each for each in scene.house.deliveries if b'"y"' in each.payload]
    assert second[0].at_s - began_s >= cost_s


@pytest.mark.parametrize("shows_sent", [False, True])
def test_presence_never_takes_more_than_its_budget(shows_sent):
    budget = 50_000
    scene = Scene(size=0, interval=0.1, max_bytes_per_second=budget, shows_sent=shows_sent)
    for n in range(500):
        scene.house.size += 1
        scene.join(f"member-{n}")
        scene.clock.advance(0.05)
    scene.clock.advance(3000)
    sent = [(each.at_s, len(each.payload) * each.recipients) for each in scene.house.deliveries]
    # One call's worth may go ahead; everything behind it is paid for by time.
    most_at_once = max(size for _, size in sent)
    unpaid, before_s = 0, 0
    for at_s, size in sent:
        unpaid = max(0, unpaid - budget * (at_s - before_s)) + size
        before_s = at_s
        assert unpaid <= most_at_once + 1
    last = json.loads(scene.house.deliveries[-1].payload)
    assert last["count"] == 500
    assert scene.clock.is_quiet


def test_full_list_goes_out_in_slices_so_that_no_call_stalls_the_others():
    scene = Scene(size=1000, interval=0, max_bytes_per_second=100_000)
    scene.join(*(f"m{n}" for n in range(50)))
    scene.clock.advance(1000)
    deliveries = scene.house.deliveries
    size = len(deliveries[0].payload)
    assert sum(each.recipients for each in deliveries) == 1000
    assert len({each.payload for each in deliveries}) == 1
    assert all(each.recipients * size <= max(size, 100_000 * 0.05) for each in deliveries)


def test_change_between_slices_is_told_to_everyone_afterwards():
    scene = Scene(size=100, interval=0.1, max_bytes_per_second=20_000)
    scene.join("a")
    scene.clock.advance(0.15)
    begun = sum(each.recipients for each in scene.house.deliveries)
    assert 0 < begun < 100
    scene.join("b")
    scene.clock.advance(1000)
    by_payload = {}
    for each in scene.house.deliveries:
        by_payload[each.payload] = by_payload.get(each.payload, 0) + each.recipients
    assert list(by_payload.values()) == [100, 100]
    assert json.loads(list(by_payload)[-1])["count"] == 2


def test_payload_larger_than_a_slice_goes_to_one_client_at_a_time():
    scene = Scene(size=3, interval=0, max_bytes_per_second=1000)
    scene.join(*(f"m{n}" for n in range(20)))
    scene.clock.advance(1000)
    assert [each.recipients for each in scene.house.deliveries] == [1, 1, 1]


def test_budget_of_0_is_no_limit():
    scene = Scene(size=100_000, interval=0.1, max_bytes_per_second=0)
    scene.join(*(f"m{n}" for n in range(1000)))
    scene.clock.advance(0.1)
    (delivery,) = scene.house.deliveries
    assert delivery.recipients == 100_000
    scene.join("x")
    scene.clock.advance(0.1)
    assert len(scene.house.deliveries) == 2


# --- On a server

SOON = {"presence": {"interval": 0.02}}


async def presence_of(client, count):
    """Read until a presence tells of so many; return it."""
    while True:
        message = await client.receive()
        if message["type"] == "presence" and message["count"] == count:
            return message


async def test_everyone_is_told_who_comes_and_goes(serve, connect):
    began_s = int(time.time())
    server = await serve(**SOON)
    one = await connect(server)
    assert await one.receive() == {
        "type": "presence",
        "users": [
            {
                "id": one.id,
                "name": "Guest",
                "email": None,
                "connected_at": server.clients[one.id].connected_at,
            }
        ],
        "count": 1,
    }
    assert began_s <= server.clients[one.id].connected_at <= time.time()
    two = await connect(server)
    for client in (one, two):
        assert ids(await client.receive()) == [one.id, two.id]
    await one.send(close(1000))
    assert ids(await two.receive()) == [two.id]
    three = await connect(server)
    assert ids(await presence_of(two, 2)) == [two.id, three.id]
    three.reset()
    assert ids(await presence_of(two, 1)) == [two.id]


async def test_welcome_comes_before_presence_even_without_interval(serve, dial):
    server = await serve(presence={"interval": 0})
    client = await dial(server)
    await client.handshake()
    assert (await client.receive())["type"] == "welcome"
    assert (await client.receive())["type"] == "presence"


async def test_nobody_is_shown_before_the_handshake_or_after_a_refusal(serve, connect, dial):
    server = await serve(**SOON)
    silent, refused = await dial(server), await dial(server)
    await refused.send(request(method="POST"))
    assert (await refused.read_response()).status == 405
    client = await connect(server)
    assert ids(await client.receive()) == [client.id]
    await silent.aclose()
    await refused.aclose()
    await until(lambda: server._running.engine.connection_count == 1)
    await client.send({"command": "presence"})
    assert ids(await client.receive()) == [client.id]


async def test_client_that_was_closed_is_shown_no_more_though_it_does_not_answer(serve, connect):
    server = await serve(**SOON, close_timeout=0.2)
    one, two = await connect(server), await connect(server)
    await presence_of(one, 2)
    server.disconnect(two.id)
    assert ids(await presence_of(one, 1)) == [one.id]


async def test_presence_with_a_send_hook_is_seen_by_it(make_server, serve, connect):
    server = make_server(**SOON)
    seen = []
    server.on("send")(lambda client, opcode, payload: seen.append((client.id, payload)))
    client = await connect(await serve(server))
    told = await client.receive_text()
    assert (client.id, told.encode()) in seen


async def test_user_whom_json_cannot_hold_is_a_client_as_any_other(
    make_server, serve, connect, logged_errors
):
    server = make_server(**SOON)

    @server.on("connect")
    def identify(client):
        client.user = User(object())

    client = await connect(await serve(server))
    assert ids(await client.receive()) == [client.id]
    await client.send({"message": 1})
    assert (await client.receive())["message"] == 1
    assert logged_errors() == ["user not shown"]


async def test_presence_can_be_turned_off(serve, connect):
    server = await serve(presence={"enabled": False, "interval": 0})
    one, two = await connect(server), await connect(server)
    await two.send(close(1000))
    await two.receive_close()
    await one.fence()
    await one.send({"command": "presence"})
    assert ids(await one.receive()) == [one.id]
    await one.fence()
