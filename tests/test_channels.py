"""Private channels: who may subscribe, publish and see members; grants; functions that decide."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import until
from rakit_ws import Config, ConfigError, Refused, UsageError, User
from rakit_ws.channel_options import ChannelRule, Pattern
from rakit_ws.layers import load
from raw_client import close

SECRET = "a-secret-of-the-application"
ANI = User("42", "Ani", "ani@example.com")


def rule(pattern="private-*", **audiences):
    return {"channels": [{"pattern": pattern, **audiences}], "channel_secret": SECRET}


def grant(client, channel, secret=SECRET):
    """Sign as `hash_hmac` does."""
    text = f"{client.id}:{channel}".encode()
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def subscribe(channel, **more):
    return {"event": "subscribe", "channel": channel, **more}


def publish(channel, **more):
    return {"event": "message", "channel": channel, "data": "x", **more}


def members(channel, **more):
    return {"event": "members", "channel": channel, **more}


ACTIONS = {"subscribe": subscribe, "publish": publish, "members": members}


async def outcome(client, message):
    """Ask; return "ok" or the code of the error. Of a message to oneself the answer is taken."""
    await client.send({**message, "id": 1})
    while True:
        answer = await client.receive()
        if answer.get("id") == 1:
            return "ok" if answer["type"] == "ack" else answer["code"]


@pytest.fixture
async def people(make_server, serve):
    """Start servers that know Ani by a token, and what channels are hers."""

    async def start(server=None, *, user=ANI, **settings):
        server = server or make_server(**settings)
        server.authenticate(lambda request: user if request.header("x-token") else None)
        return await serve(server)

    return start


@pytest.fixture
def enter(connect):
    async def connected(server, *, is_user=False):
        return await connect(server, headers=[("X-Token", "1")] if is_user else [])

    return connected


# --- Patterns and rules


@pytest.mark.parametrize(
    ("pattern", "covered", "not_covered"),
    [
        ("chat", ["chat"], ["chat1", "Chat", "cha", "xchat"]),
        ("private-*", ["private-", "private-42"], ["private", "xprivate-42", "Private-1"]),
        ("*", ["a", "x" * 255], []),
        ("**", ["a"], []),
        ("*.log", [".log", "a.log"], ["a.logs", "log"]),
        ("a*b*c", ["abc", "axxbyyc", "abbc", "abcbc"], ["ab", "acb", "abcd"]),
        ("ab*ba", ["abba", "abxba"], ["aba", "ab"]),
        ("*a*", ["a", "xay"], ["b"]),
        ("[x]?.+", ["[x]?.+"], ["x", "xx"]),
        ("room-*-ü", ["room-1-ü"], ["room-1-u"]),
    ],
)
def test_pattern_stands_for_names(pattern, covered, not_covered):
    assert [name for name in covered + not_covered if Pattern(pattern).covers(name)] == covered


def test_pattern_of_many_stars_is_no_trap():
    assert not Pattern("*a" * 100 + "b").covers("a" * 255)


def test_rules_are_checked_and_shown():
    config = Config(channels=[{"pattern": "a*", "publish": "users"}])
    assert config.channels == (ChannelRule("a*", publish="users"),)
    assert config == Config(channels=config.channels)
    (only,) = config.channels
    assert [only.audience(each) for each in ACTIONS] == ["everyone", "users", "everyone"]
    assert ChannelRule("a", "grant").audience("members") == "grant"


@pytest.mark.parametrize(
    "wrong",
    [
        "private-*",
        {"pattern": "a"},
        [{}],
        [{"subscribe": "users"}],
        [{"pattern": ""}],
        ["a"],
        [{"pattern": 1}],
        [{"pattern": "a", "subscribe": "admins"}],
        [{"pattern": "a", "read": "users"}],
        [{"pattern": "a\n"}],
        [{"pattern": "a", "publish": ["users"]}],
        [{"pattern": "x" * 256}],
    ],
)
def test_rules_that_can_not_be_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"channels: .* is wrong; allowed: a list of tables"):
        Config(channels=wrong)


def test_rules_come_from_files_and_from_the_environment(tmp_path):
    file = tmp_path / "rakit_ws.toml"
    file.write_text('[[channels]]\npattern = "a-*"\nsubscribe = "users"\n')
    assert load(file=file).channels == (ChannelRule("a-*", "users"),)
    environ = {"RAKIT_WS_CHANNELS": '[{"pattern":"b","publish":"nobody"}]'}
    assert load(file=file, environ=environ).channels == (ChannelRule("b", publish="nobody"),)
    for text in ("a-*", "[", '{"pattern":"a"}'):
        with pytest.raises(ConfigError, match=r"RAKIT_WS_CHANNELS: channels: .* is wrong"):
            load(environ={"RAKIT_WS_CHANNELS": text})


def test_secret_is_not_shown():
    assert SECRET not in repr(Config(channel_secret=SECRET))
    warnings = Config(channel_secret="short", channels=[{"pattern": "a", "publish": "grant"}])
    assert any("channel_secret is shorter" in each for each in warnings.warnings())
    assert any(
        "nobody is granted one" in each
        for each in Config(channels=[{"pattern": "a", "members": "grant"}]).warnings()
    )


# --- Audiences


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("audience", "guest", "user", "operator"),
    [
        ("everyone", "ok", "ok", "ok"),
        ("users", "forbidden", "ok", "forbidden"),
        ("operators", "forbidden", "forbidden", "ok"),
        ("grant", "forbidden", "forbidden", "forbidden"),
        ("nobody", "forbidden", "forbidden", "forbidden"),
    ],
)
async def test_rule_says_who_may(people, enter, connect, action, audience, guest, user, operator):
    others = dict.fromkeys(ACTIONS, "nobody")
    server = await people(operator_token="t" * 20, **rule(**{**others, action: audience}))
    asked = ACTIONS[action]("private-1")
    assert await outcome(await enter(server), asked) == guest
    assert await outcome(await enter(server, is_user=True), asked) == user
    bearer = await connect(server, headers=[("Authorization", "Bearer " + "t" * 20)])
    assert await outcome(bearer, asked) == operator
    refused = [guest, user, operator].count("forbidden")
    assert server.counters["channel_refusals"] == refused
    free = await enter(server)
    expected = {"subscribe": "ok", "publish": "ok", "members": "forbidden"}  # presence is off
    for each, make in ACTIONS.items():
        assert await outcome(free, make("public")) == expected[each]


async def test_who_may_not_hears_nothing_and_says_nothing(people, enter):
    server = await people(**rule(subscribe="users"))
    ani, guest = await enter(server, is_user=True), await enter(server)
    assert await outcome(ani, subscribe("private-1")) == "ok"
    assert await outcome(guest, subscribe("private-1")) == "forbidden"
    await guest.send(publish("private-1"))  # without an id errors are sent too
    assert (await guest.receive())["code"] == "forbidden"
    await ani.fence()
    assert await outcome(ani, publish("private-1")) == "ok"
    await guest.fence()
    assert server.channels == {"private-1": 1}


@pytest.mark.parametrize("event", ["", None, 5, " message", "Message", "message"])
async def test_no_event_gets_past_a_rule(people, enter, event):
    server = await people(**rule(subscribe="everyone", publish="nobody"))
    listener, other = await enter(server), await enter(server)
    assert await outcome(listener, subscribe("private-1")) == "ok"
    await other.send({"event": event, "channel": "private-1", "data": "x"})
    assert (await other.receive())["type"] == "error"
    await listener.fence()


async def test_names_that_no_channel_can_have_are_asked_of_nobody(make_server, people, enter):
    server = make_server()
    asked = []

    @server.channel_access("*")
    def decide(client, action, channel):
        asked.append(channel)
        return True

    await people(server)
    client = await enter(server)
    for channel in ("x" * 256, "a\nb", ""):
        for make in ACTIONS.values():
            assert await outcome(client, make(channel)) == "bad_request"
    assert asked == []
    assert await outcome(client, subscribe("x" * 255)) == "ok"
    assert asked == ["x" * 255]


async def test_first_rule_that_fits_decides(people, enter):
    channels = [
        {"pattern": "private-lobby"},
        {"pattern": "private-*", "subscribe": "nobody"},
        {"pattern": "*-lobby", "subscribe": "nobody"},
    ]
    server = await people(channels=channels)
    guest = await enter(server)
    answers = [
        await outcome(guest, subscribe(each)) for each in ("private-lobby", "private-1", "x")
    ]
    assert answers == ["ok", "forbidden", "ok"]


async def test_unsubscribing_needs_no_leave(people, enter):
    server = await people(**rule(subscribe="nobody"))
    guest = await enter(server)
    (client,) = server.clients.values()
    client.subscribe("private-1")  # code may
    assert (await guest.ask({"event": "unsubscribe", "channel": "private-1"}))["type"] == "ack"
    assert server.channels == {}


async def test_what_is_malformed_is_a_bad_request_first(people, enter):
    server = await people(**rule(subscribe="nobody"))
    guest = await enter(server)
    for wrong in (
        {"event": "message", "channel": "private-1"},
        {"event": "subscribe", "channel": 5},
        {"event": "subscribe", "channel": "private-1", "grant": 5},
        {"event": "members", "channel": "\n"},
        {"event": "members"},
    ):
        assert await outcome(guest, wrong) == "bad_request"


async def test_commands_are_not_bound_by_rules(people, enter):
    server = await people(**rule(publish="nobody", subscribe="everyone"))
    client = await enter(server)
    assert await outcome(client, subscribe("private-1")) == "ok"
    command = {"command": "broadcast_to_channel", "channel": "private-1", "message": 1}
    await client.send(command)
    assert (await client.receive())["data"] == 1
    assert server.publish("private-1", 2) == 1


async def test_grants_do_not_outlive_the_secret_that_signed_them(tmp_path, serve, connect):
    from rakit_ws import Server

    file = tmp_path / "rakit_ws.toml"

    def write(secret):
        file.write_text(
            f'port = 0\nchannel_secret = "{secret}"\n[[channels]]\npattern = "private-*"\n'
            'subscribe = "grant"\n[presence]\nenabled = false\n'
        )

    write(SECRET)
    server = await serve(Server.from_config(file))
    client = await connect(server)
    signed = grant(client, "private-1")
    assert await outcome(client, subscribe("private-1", grant=signed)) == "ok"
    server.reload()
    assert await outcome(client, publish("private-1")) == "ok"
    write("another-secret-as-that-one-has-leaked")
    server.reload()
    assert await outcome(client, publish("private-1", grant=signed)) == "forbidden"


async def test_reload_changes_what_is_asked_from_then_on(tmp_path, serve, connect):
    from rakit_ws import Server

    file = tmp_path / "rakit_ws.toml"
    file.write_text("port = 0\n[presence]\nenabled = false\n")
    server = await serve(Server.from_config(file))
    client = await connect(server)
    assert await outcome(client, subscribe("private-1")) == "ok"
    file.write_text(
        'port = 0\n[[channels]]\npattern = "private-*"\nsubscribe = "nobody"\n'
        "[presence]\nenabled = false\n"
    )
    server.reload()
    assert await outcome(client, subscribe("private-2")) == "forbidden"
    assert await outcome(client, publish("private-1")) == "forbidden"
    assert server.channels == {"private-1": 1}  # nobody is put out


# --- Grants


async def test_grant_opens_a_channel_and_is_remembered(people, enter):
    server = await people(**rule(subscribe="grant", members="grant"))
    client = await enter(server)
    signed = grant(client, "private-1")
    assert await outcome(client, publish("private-1")) == "forbidden"
    assert await outcome(client, subscribe("private-1", grant=signed)) == "ok"
    assert await outcome(client, publish("private-1")) == "ok"
    assert await outcome(client, members("private-1")) == "ok"
    assert await outcome(client, subscribe("private-2")) == "forbidden"


async def test_grant_may_come_with_the_message(people, enter):
    server = await people(**rule(subscribe="nobody", publish="grant"))
    client = await enter(server)
    signed = grant(client, "private-ü 🦀")
    assert await outcome(client, publish("private-ü 🦀", grant=signed)) == "ok"
    assert await outcome(client, subscribe("private-ü 🦀", grant=signed)) == "forbidden"


async def test_grant_is_for_one_client_and_one_channel(people, enter):
    server = await people(**rule(subscribe="grant"))
    client, other = await enter(server), await enter(server)
    signed = grant(client, "private-1")
    wrong = [
        grant(other, "private-1"),
        grant(client, "private-2"),
        grant(client, "private-1", "another secret"),
        grant(client, "private-1", ""),
        signed.upper(),
        signed[:-1],
        signed + "0",
        f" {signed}",
        "",
        "é" * 64,
        "0" * 64,
        "x" * 100_000,
    ]
    for each in wrong:
        assert await outcome(client, subscribe("private-1", grant=each)) == "forbidden"
    assert await outcome(other, subscribe("private-1", grant=signed)) == "forbidden"
    assert server.channels == {}


async def test_grant_ends_with_its_connection(people, enter):
    server = await people(**rule(subscribe="grant"))
    client = await enter(server)
    signed = grant(client, "private-1")
    assert await outcome(client, subscribe("private-1", grant=signed)) == "ok"
    await client.send(close(1000))
    await until(lambda: not server.clients)
    again = await enter(server)
    assert await outcome(again, subscribe("private-1", grant=signed)) == "forbidden"


async def test_without_a_secret_no_signature_is_valid(people, enter):
    server = await people(channels=[{"pattern": "*", "subscribe": "grant"}])
    client = await enter(server)
    signed = grant(client, "a", "")
    assert await outcome(client, subscribe("a", grant=signed)) == "forbidden"


async def test_grants_that_are_remembered_are_bounded(people, enter):
    server = await people(
        max_channels_per_client=3, **rule("*", subscribe="nobody", publish="grant")
    )
    client = await enter(server)
    for number in range(4):
        signed = grant(client, str(number))
        assert await outcome(client, publish(str(number), grant=signed)) == "ok"
    (connected,) = server.clients.values()
    assert connected.grants == {"3"}
    assert await outcome(client, publish("0")) == "forbidden"
    assert await outcome(client, publish("0", grant=grant(client, "0"))) == "ok"


async def test_channels_of_a_user_need_no_grant_and_survive_reconnecting(people, enter):
    ani = User("42", "Ani", channels=("private-1", "private-team-*"))
    server = await people(user=ani, **rule(subscribe="grant"))
    for _ in range(2):
        client = await enter(server, is_user=True)
        for channel in ("private-1", "private-team-7"):
            assert await outcome(client, subscribe(channel)) == "ok"
        for channel in ("private-2", "private-11"):
            assert await outcome(client, subscribe(channel)) == "forbidden"
        await client.aclose()


async def test_channels_of_other_objects_mean_nothing(people, enter):
    class Row:
        id = 42
        channels = ("private-1",)

    server = await people(user=Row(), **rule(subscribe="grant"))
    client = await enter(server, is_user=True)
    assert await outcome(client, subscribe("private-1")) == "forbidden"


@pytest.mark.skipif(shutil.which("php") is None, reason="there is no PHP")
async def test_line_of_php_in_the_documentation_makes_a_grant(people, enter):
    server = await people(**rule(subscribe="grant"))
    client = await enter(server)
    code = "echo hash_hmac('sha256', $argv[1].':'.$argv[2], $argv[3]);"
    made = await asyncio.create_subprocess_exec(
        *("php", "-r", code, client.id, "private-ü", SECRET), stdout=subprocess.PIPE
    )
    signed = (await made.communicate())[0].decode()
    assert await outcome(client, subscribe("private-ü", grant=signed)) == "ok"


# --- Functions


def deciding(make_server, answers, *, is_async, **settings):
    server = make_server(**settings)
    asked = []

    @server.channel_access("team-*")
    def decide(client, action, channel):
        asked.append((client.id, action, channel))
        answer = answers[channel]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    if is_async:
        server._deciders.clear()

        @server.channel_access("team-*")
        async def decide_later(client, action, channel):
            await asyncio.sleep(0)
            return decide(client, action, channel)

    return server, asked


@pytest.mark.parametrize("is_async", [False, True])
async def test_function_decides_where_its_pattern_fits(make_server, people, enter, is_async):
    answers = {"team-1": True, "team-2": False, "team-3": None, "team-4": 1, "team-5": ""}
    rules = rule("team-*", subscribe="users", publish="nobody")
    server, asked = deciding(make_server, answers, is_async=is_async, **rules)
    await people(server)
    guest, ani = await enter(server), await enter(server, is_user=True)
    got = [await outcome(guest, subscribe(channel)) for channel in answers]
    assert got == ["ok", "forbidden", "forbidden", "ok", "forbidden"]
    assert asked == [(guest.id, "subscribe", channel) for channel in answers]
    assert await outcome(ani, subscribe("team-3")) == "ok"
    assert await outcome(guest, publish("team-1")) == "ok"
    assert await outcome(ani, publish("team-3")) == "forbidden"
    assert await outcome(guest, members("team-1")) == "ok"
    assert await outcome(guest, publish("other")) == "ok"
    assert [action for _, action, _ in asked[5:]] == ["subscribe", "publish", "publish", "members"]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("error", [KeyError("x"), Refused(), asyncio.CancelledError()])
async def test_function_that_fails_permits_nothing(
    make_server, people, enter, logged_errors, is_async, error
):
    if is_async and isinstance(error, asyncio.CancelledError) and sys.version_info < (3, 11):
        pytest.skip("there nothing tells it from a cancellation of the server's own task")
    server, _ = deciding(make_server, {"team-1": error}, is_async=is_async)
    await people(server)
    guest = await enter(server)
    assert await outcome(guest, subscribe("team-1")) == "internal"
    assert logged_errors() == ["channel function failed"]
    assert server.channels == {}
    assert server.counters["channel_refusals"] == 1


async def test_messages_behind_one_that_waits_keep_their_order(make_server, people, enter):
    server = make_server()
    release = asyncio.Event()

    @server.channel_access("slow")
    async def decide(client, action, channel):
        await release.wait()
        return True

    await people(server)
    client, other = await enter(server), await enter(server)
    await client.send({**subscribe("slow"), "id": 1}, {**publish("slow"), "id": 2})
    await other.fence()  # nobody else waits
    release.set()
    got = [await client.receive() for _ in range(3)]
    assert [each.get("id", each["type"]) for each in got] == [1, "channel", 2]


async def test_functions_are_asked_one_behind_the_other(make_server, people, enter):
    server = make_server()
    server.channel_access("a*")(lambda client, action, channel: None)

    @server.channel_access("*")
    async def second(client, action, channel):
        return None

    server.channel_access("ab")(lambda client, action, channel: False)

    @server.channel_access("*")
    async def last(client, action, channel):
        return True

    await people(server)
    guest = await enter(server)
    assert await outcome(guest, subscribe("ab")) == "forbidden"
    assert await outcome(guest, subscribe("ac")) == "ok"


async def test_client_that_left_while_its_leave_was_asked_for_subscribes_to_nothing(
    make_server, people, enter
):
    server = make_server()
    release, asked = asyncio.Event(), asyncio.Event()

    @server.channel_access("slow")
    async def decide(client, action, channel):
        asked.set()
        await release.wait()
        return True

    await people(server)
    client = await enter(server)
    await client.send(subscribe("slow"))
    await asked.wait()
    client.reset()
    await until(lambda: not server.clients)
    release.set()
    await asyncio.sleep(0.01)
    assert server.channels == {}


async def test_client_that_is_disconnected_while_its_leave_is_asked_for_publishes_nothing(
    make_server, people, enter
):
    server = make_server()
    release, asked = asyncio.Event(), asyncio.Event()

    @server.channel_access("slow")
    async def decide(client, action, channel):
        if action == "publish":
            asked.set()
            await release.wait()
        return True

    await people(server)
    listener, client = await enter(server), await enter(server)
    assert await outcome(listener, subscribe("slow")) == "ok"
    await client.send(publish("slow"))
    await asked.wait()
    (other,) = [each for each in server.clients.values() if each.id == client.id]
    other.disconnect()
    release.set()
    await client.receive_close()
    await listener.fence()


async def test_mistakes_of_who_adds_functions(make_server, serve):
    server = make_server()
    for wrong in ("", 5):
        with pytest.raises(UsageError, match="a pattern is the name"):
            server.channel_access(wrong)
    with pytest.raises(UsageError, match="not str"):
        server.channel_access("a")("f")
    await serve(server)
    with pytest.raises(UsageError, match="before the server runs"):
        server.channel_access("a")


# --- Members


async def test_members_are_who_hears_a_channel_oldest_first(people, enter):
    server = await people(presence={"enabled": True, "interval": 3600})
    ani, guest, away = await enter(server, is_user=True), await enter(server), await enter(server)
    for each in (ani, guest):
        await each.ask(subscribe("chat"))
    answer = await away.ask(members("chat"))
    since = {each.id: each.connected_at for each in server.clients.values()}
    expected = [
        {"id": each.id, "name": name, "email": email, "connected_at": since[each.id]}
        for each, name, email in [(ani, "Ani", "ani@example.com"), (guest, "Guest", None)]
    ]
    assert answer == {"type": "ack", "id": "fence", "members": expected, "count": 2}
    await ani.ask({"event": "unsubscribe", "channel": "chat"})
    answer = await away.ask(members("chat"))
    assert ([each["id"] for each in answer["members"]], answer["count"]) == ([guest.id], 1)
    answer = await away.ask(members("empty"))
    assert (answer["members"], answer["count"]) == ([], 0)


@pytest.mark.parametrize(("most", "listed"), [(0, 0), (2, 2), (3, 3), (4, 3)])
async def test_members_are_cut_as_presence_is(people, enter, most, listed):
    shown = {"enabled": True, "interval": 3600, "max_users": most}
    server = await people(presence=shown)
    clients = [await enter(server) for _ in range(3)]
    for each in clients:
        await each.ask(subscribe("chat"))
    answer = await clients[0].ask(members("chat"))
    assert (len(answer["members"]), answer["count"]) == (listed, 3)


async def test_members_need_an_id(people, enter):
    server = await people()
    client = await enter(server)
    await client.send(members("chat"))
    assert (await client.receive())["code"] == "bad_request"


async def test_where_presence_is_off_members_are_told_to_nobody_unless_a_rule_says_so(
    people, enter
):
    rules = [{"pattern": "open", "members": "everyone"}, {"pattern": "news", "publish": "users"}]
    server = await people(channels=rules)
    client = await enter(server)
    assert await outcome(client, members("chat")) == "forbidden"
    assert await outcome(client, members("news")) == "forbidden"
    assert await outcome(client, members("open")) == "ok"


async def test_who_is_undecided_is_no_member_yet(make_server, people, enter, dial):
    from raw_client import request

    server = make_server(channels=[{"pattern": "lobby", "members": "everyone"}])
    release, asked = asyncio.Event(), asyncio.Event()

    @server.on("connect")
    async def connected(client):
        if client.path == "/slow":
            client.subscribe("lobby")
            asked.set()
            await release.wait()

    await people(server)
    client = await enter(server)
    slow = await dial(server)
    await slow.send(request("/slow"))
    await asked.wait()
    assert (await client.ask(members("lobby")))["members"] == []
    release.set()


# --- The documentation


@pytest.mark.parametrize("page", ["channels.md", "users.md"])
def test_examples_of_the_page_run(page):
    text = (Path(__file__).parents[1] / "docs" / page).read_text("utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert code
    exec(compile(code, page, "exec"), {"__name__": page})
