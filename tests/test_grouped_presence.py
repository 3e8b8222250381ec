"""Presence by users, and the grace that those have who are back in a moment."""

from __future__ import annotations

import json

import pytest

from conftest import until
from rakit_ws import ConfigError, Server, User
from rakit_ws.config import Presence as Settings
from rakit_ws.hub.absences import MAX_ABSENT, Absences
from rakit_ws.hub.presence import Presence
from rakit_ws.hub.roster import MAX_CLIENTS_SHOWN
from raw_client import close
from still_clock import Clock
from test_presence import House

ANI = User("42", "Ani", "ani@example.com")


class Member:
    """As much of a client as presence looks at."""

    def __init__(self, client_id, user=None, connected_at=0):
        self.id = client_id
        self.connected_at = connected_at
        self.become(user)

    def become(self, user):
        self.user = user
        self.user_id = user and user.id
        self.name = (user and user.name) or "Guest"


class Scene:
    """A presence with its clock, its house and who is in it."""

    def __init__(self, **settings):
        self.clock = Clock()
        self.house = House(self.clock)
        self.house.by_id = {}
        self.presence = Presence(self.house, Settings(**settings), self.clock)

    def join(self, client_id, user=None):
        member = Member(client_id, user, int(self.clock.now_s))
        self.house.by_id[client_id] = member
        self.presence.join(member)
        return member

    def leave(self, *members):
        for member in members:
            del self.house.by_id[member.id]
            self.presence.leave(member)

    def told_after(self, seconds):
        self.clock.advance(seconds)
        return self.house.told()

    def shown(self):
        """Return what would be told now: for each entry its id, and its clients."""
        message = json.loads(self.presence.message())
        assert message["count"] == len(message["users"])
        return [(each["id"], each.get("clients")) for each in message["users"]]


# --- By user


def test_user_has_one_entry_with_all_its_clients():
    scene = Scene(group_by="user")
    scene.join("a1", ANI)
    scene.clock.advance(5)
    scene.join("g1")
    scene.join("a2", ANI)
    message = json.loads(scene.presence.message())
    assert message == {
        "type": "presence",
        "users": [
            {
                "id": "42",
                "name": "Ani",
                "email": "ani@example.com",
                "connected_at": 1000,
                "clients": ["a1", "a2"],
            },
            {
                "id": "g1",
                "name": "Guest",
                "email": None,
                "connected_at": 1005,
                "clients": ["g1"],
            },
        ],
        "count": 2,
    }


def test_user_stays_in_its_place_as_long_as_one_client_does():
    scene = Scene(group_by="user")
    first = scene.join("a1", ANI)
    scene.join("g1")
    second = scene.join("a2", ANI)
    scene.leave(first)
    assert scene.shown() == [("42", ["a2"]), ("g1", ["g1"])]
    scene.join("a3", ANI)
    scene.leave(second)
    assert scene.shown() == [("42", ["a3"]), ("g1", ["g1"])]
    scene.leave(scene.house.by_id["a3"])
    assert scene.shown() == [("g1", ["g1"])]


def test_guest_whose_id_is_that_of_a_user_is_another():
    scene = Scene(group_by="user")
    scene.join("a1", User("g1", "Eve"))
    scene.join("g1")
    assert scene.shown() == [("g1", ["a1"]), ("g1", ["g1"])]


@pytest.mark.parametrize("count", [MAX_CLIENTS_SHOWN - 1, MAX_CLIENTS_SHOWN, MAX_CLIENTS_SHOWN + 1])
def test_newest_clients_of_a_user_are_listed(count):
    scene = Scene(group_by="user")
    ids = [f"a{number}" for number in range(count)]
    for each in ids:
        scene.join(each, ANI)
    assert scene.shown() == [("42", ids[-MAX_CLIENTS_SHOWN:])]


def test_newest_client_says_what_the_user_is_called():
    scene = Scene(group_by="user")
    scene.join("a1", ANI)
    scene.join("a2", User("42", "Ani Wijaya"))
    (entry,) = json.loads(scene.presence.message())["users"]
    assert entry["name"] == "Ani Wijaya"


def test_client_that_becomes_somebody_moves_there():
    scene = Scene(group_by="user", interval=0)
    member = scene.join("a1")
    scene.join("a2", ANI)
    scene.told_after(1)
    member.become(ANI)
    scene.presence.update(member)
    assert scene.shown() == [("42", ["a2", "a1"])]
    assert len(scene.told_after(1)) == 1
    scene.presence.update(member)
    assert scene.told_after(1) == []  # it makes no difference
    member.become(User("42", "Another name"))
    scene.presence.update(member)
    (told,) = scene.told_after(1)
    assert told["users"][0]["name"] == "Another name"


def test_users_are_cut_to_the_newest_and_count_tells_all():
    scene = Scene(group_by="user", max_users=2)
    for number in range(3):
        scene.join(f"c{number}", User(str(number)))
        scene.join(f"d{number}", User(str(number)))
    message = json.loads(scene.presence.message())
    assert ([each["id"] for each in message["users"]], message["count"]) == (["1", "2"], 3)


def test_members_are_grouped_with_their_own_clients_only():
    scene = Scene(group_by="user")
    here, _, guest = scene.join("a1", ANI), scene.join("a2", ANI), scene.join("g1")
    entries = [json.loads(each) for each in scene.presence.entries_of([here, guest])]
    assert [(each["id"], each["clients"]) for each in entries] == [("42", ["a1"]), ("g1", ["g1"])]


def test_grouping_can_change_while_clients_are_here():
    scene = Scene(interval=0)
    scene.join("a1", ANI)
    scene.join("a2", ANI)
    scene.told_after(1)
    scene.presence.configure(Settings(interval=0, group_by="user"))
    assert scene.shown() == [("42", ["a1", "a2"])]
    assert len(scene.told_after(1)) == 1
    scene.presence.configure(Settings(interval=0))
    assert scene.shown() == [("a1", None), ("a2", None)]


def test_column_that_is_called_as_the_list_of_clients_is_refused():
    with pytest.raises(ConfigError, match="clients"):
        Server(presence={"fields": ["clients"]})


# --- Grace


@pytest.mark.parametrize(
    ("group_by", "before", "after"), [("client", "a1", "a2"), ("user", "42", "42")]
)
def test_page_that_is_loaded_anew_does_not_flap(group_by, before, after):
    scene = Scene(group_by=group_by, grace=5.0, interval=0)
    first = scene.join("a1", ANI)
    assert [shown_id for shown_id, _ in scene.shown()] == [before]
    scene.told_after(1)
    scene.leave(first)
    assert scene.told_after(4.9) == []
    assert [shown_id for shown_id, _ in scene.shown()] == [before]
    scene.join("a2", ANI)
    (told,) = scene.told_after(0)
    assert [each["id"] for each in told["users"]] == [after]
    assert told["count"] == 1
    assert scene.told_after(60) == []


def test_user_by_users_is_here_without_a_break():
    scene = Scene(group_by="user", grace=5.0)
    first = scene.join("a1", ANI)
    scene.join("g1")
    scene.clock.advance(10)
    scene.leave(first)
    scene.clock.advance(1)
    scene.join("a2", ANI)
    assert scene.shown() == [("42", ["a2"]), ("g1", ["g1"])]
    assert json.loads(scene.presence.message())["users"][0]["connected_at"] == 1000


@pytest.mark.parametrize("group_by", ["client", "user"])
def test_user_who_does_not_come_back_has_left_behind_the_grace(group_by):
    scene = Scene(group_by=group_by, grace=5.0, interval=0)
    member = scene.join("a1", ANI)
    scene.join("g1")
    scene.told_after(1)
    scene.leave(member)
    assert scene.told_after(4.999) == []
    (told,) = scene.told_after(0.001)
    assert [each["id"] for each in told["users"]] == ["g1"]
    scene.told_after(60)
    assert scene.clock.is_quiet


def test_guest_has_left_at_once():
    scene = Scene(grace=5.0, interval=0)
    guest = scene.join("g1")
    scene.join("g2")
    scene.told_after(1)
    scene.leave(guest)
    assert len(scene.told_after(0)) == 1
    assert [shown_id for shown_id, _ in scene.shown()] == ["g2"]


def test_clients_of_a_user_come_back_one_by_one():
    scene = Scene(grace=5.0)
    members = [scene.join(f"a{number}", ANI) for number in range(3)]
    for member in members:
        scene.leave(member)
        scene.clock.advance(1)
    scene.join("b0", ANI)
    assert {shown_id for shown_id, _ in scene.shown()} == {"a1", "a2", "b0"}
    scene.join("c0", User("7"))  # of another user: nobody comes back
    assert len(scene.shown()) == 4
    scene.clock.advance(5)
    assert {shown_id for shown_id, _ in scene.shown()} == {"b0", "c0"}


def test_change_in_between_shows_who_is_away_as_before():
    scene = Scene(grace=5.0, interval=0, group_by="user")
    member = scene.join("a1", ANI)
    scene.told_after(1)
    scene.leave(member)
    scene.join("g1")
    (told,) = scene.told_after(0)
    assert [(each["id"], each["clients"]) for each in told["users"]] == [
        ("42", ["a1"]),
        ("g1", ["g1"]),
    ]


@pytest.mark.parametrize("grace", [0.0, 2.0])
def test_shorter_grace_holds_for_those_who_are_away(grace):
    scene = Scene(grace=60.0, interval=0)
    member = scene.join("a1", ANI)
    scene.clock.advance(1)
    scene.leave(member)
    scene.clock.advance(3)
    scene.presence.configure(Settings(grace=grace, interval=0))
    assert scene.shown() == []


def test_stop_forgets_who_is_away():
    scene = Scene(grace=60.0, interval=0)
    first, second = scene.join("a1", ANI), scene.join("a2", ANI)
    scene.told_after(1)
    scene.leave(first)
    scene.presence.stop()
    scene.leave(second)
    assert scene.told_after(600) == []
    assert scene.clock.is_quiet


@pytest.mark.parametrize("count", [MAX_ABSENT - 1, MAX_ABSENT, MAX_ABSENT + 1])
def test_those_who_are_away_are_bounded(count):
    clock, over = Clock(), []
    absences = Absences(5.0, clock, over.append)
    held = [absences.hold(Member(f"c{number}", User(str(number)))) for number in range(count)]
    assert held.count(True) == min(count, MAX_ABSENT)
    clock.advance(5)
    assert len(over) == min(count, MAX_ABSENT)
    assert clock.is_quiet


def test_user_that_code_changes_while_its_client_is_away_is_let_go_as_whom_it_was():
    clock, over = Clock(), []
    absences = Absences(5.0, clock, over.append)
    member = Member("c1", ANI)
    absences.hold(member)
    member.become(User("7"))
    assert absences.returned(Member("c2", User("7"))) is None
    clock.advance(5)
    assert over == [member]


# --- With a server


async def test_page_that_is_loaded_anew_by_a_server(make_server, serve, connect):
    server = make_server(presence={"enabled": True, "interval": 0, "group_by": "user", "grace": 60})
    server.authenticate(lambda request: ANI if request.header("x-token") else None)
    await serve(server)
    guest = await connect(server)
    await guest.receive()
    ani = await connect(server, headers=[("X-Token", "1")])
    assert (await guest.receive())["count"] == 2
    await ani.send(close(1001))
    await until(lambda: len(server.clients) == 1)
    await guest.fence()
    again = await connect(server, headers=[("X-Token", "1")])
    told = await guest.receive()
    assert [each["clients"] for each in told["users"]] == [[guest.id], [again.id]]


@pytest.mark.parametrize("group_by", ["client", "user"])
async def test_user_that_a_send_hook_of_the_welcome_sets_is_shown(
    make_server, serve, connect, group_by
):
    server = make_server(presence={"enabled": True, "interval": 0, "group_by": group_by})

    @server.on("send")
    def sent(client, opcode, payload):
        if b'"welcome"' in payload:
            client.user = ANI

    client = await connect(await serve(server))
    assert [each["name"] for each in (await client.receive())["users"]] == ["Ani"]
