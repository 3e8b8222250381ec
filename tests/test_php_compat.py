"""
`compat = "php"`: what the PHP server sends, row by row as it was recorded.

Rows that were found to be faults of safety (a private message that is told to everyone) are here
with what is done instead: nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import until
from rakit_ws import Opcode, UsageError, User, phpjson
from raw_client import BINARY, close, frame, text

ANI = User("42", "Ani / Budi é", "ani@example.com")
NOTHING = object()


@pytest.fixture
def php(make_server, serve):
    """Start a server that speaks as PHP's does; presence is off where it is not asked for."""

    async def start(server=None, **more):
        return await serve(server or make_server(compat="php", welcome=False, **more))

    return start


@pytest.fixture
def enter(connect):
    """Connect a client and read the notice of its coming; `others` read it too."""

    async def connected(server, *others, **options):
        client = await connect(server, **options)
        notice = await client.receive_text()
        client.id = re.fullmatch(r"Client #([A-Za-z0-9]{8}) connected", notice)[1]
        for other in others:
            assert await other.receive_text() == notice
        return client

    return connected


async def nothing_came(client, observer=None):
    """Check that nothing had been sent to a client that it has not read."""
    await client.send(text({"to": client.id, "message": "fence"}))
    assert await client.receive_text() == f'{{"client_id":"{client.id}","message":"fence"}}'


# --- §3 Connect, disconnect, presence


async def test_coming_and_going_are_told_as_text(php, enter):
    server = await php()
    first = await enter(server)
    second = await enter(server, first)
    assert first.id != second.id
    await second.send(close(1000))
    assert await first.receive_text() == f"Client #{second.id} disconnected"
    await nothing_came(first)


async def test_who_is_refused_is_told_of_by_nobody(make_server, php, enter, dial):
    server = make_server(compat="php", welcome=False)
    server.on("connect")(lambda client: client.path != "/private")
    await php(server)
    first = await enter(server)
    refused = await dial(server)
    with pytest.raises(AssertionError, match="403"):
        await refused.handshake("/private")
    await nothing_came(first)


async def test_nobody_is_welcomed(make_server, serve, dial):
    server = await serve(make_server(compat="php"))
    client = await dial(server)
    await client.handshake()
    assert re.fullmatch(r"Client #\w{8} connected", await client.receive_text())


async def test_presence_is_an_object_by_id_with_the_time_of_sending(make_server, php, enter):
    server = make_server(compat="php", welcome=False, presence={"enabled": True, "interval": 0})
    server.authenticate(lambda request: ANI if request.header("x-token") else None)
    await php(server)
    before = int(time.time())
    first = await enter(server)
    told = await first.receive_text()
    now = json.loads(told)["users"][first.id]["connected_at"]
    assert before <= now <= time.time()
    expected = f'"{first.id}":{{"id":"{first.id}","name":"Guest","connected_at":{now}}}'
    assert told == f'{{"type":"presence","users":{{{expected}}}}}'
    for client in server.clients.values():
        client.connected_at -= 1000  # it is not this that is told
    second = await enter(server, first, headers=[("X-Token", "1")])
    told = await second.receive_text()
    assert await first.receive_text() == told
    now = json.loads(told)["users"][first.id]["connected_at"]
    assert now >= before
    ani = r'"name":"Ani \/ Budi \u00e9"'
    assert told == (
        f'{{"type":"presence","users":{{"{first.id}":{{"id":"{first.id}","name":"Guest",'
        f'"connected_at":{now}}},"{second.id}":{{"id":"{second.id}",{ani},"connected_at":{now}}}}}}}'
    )
    await first.send({"command": "presence"})
    assert json.loads(await second.receive_text())["type"] == "presence"


async def test_user_that_changes_is_shown(php, enter):
    server = await php(presence={"enabled": True, "interval": 0, "max_users": 1})
    first = await enter(server)
    assert "Guest" in await first.receive_text()
    (client,) = server.clients.values()
    client.user = ANI
    assert r"Ani \/ Budi" in await first.receive_text()


async def test_presence_without_users_is_a_list_as_phps_empty_array_is(php, enter):
    server = await php(presence={"enabled": True, "interval": 0, "max_users": 0})
    first = await enter(server)
    assert await first.receive_text() == '{"type":"presence","users":[]}'


# --- §4 Broadcast


@pytest.mark.parametrize(
    ("sent", "raw"),
    [
        ('{"message":"Halo semua!"}', None),
        ("hello", None),
        ("5", None),
        ("[1,2]", None),
        ('{"a":1}', None),
        ('{"message":', None),
        ('{"message":5}', None),
        ('{"message":null}', None),
        ('{"message":[1]}', None),
        (" \t\n\r\v\0hello\0 ", "hello"),
        ("\u00a0x\f", None),
        ("", None),
        (" \t ", ""),
        ("[" * 600 + "]" * 600, None),
        ('{"ping":"\\ud83d"}', None),  # no JSON to PHP
        ('{"ping":"\\ude00"}', None),
        ('\ufeff{"ping":1}', None),
        ('{"ping":null}', None),
        ('{"ping":1}x', None),
        ('{"event":null,"x":1}', None),
        ('{"command":"nobody_knows"}', None),
        ('{"command":"BROADCAST","message":"x"}', None),
        ('{"command":5}', None),
        ('{"command":["broadcast"]}', None),
        ('{"command":true}', None),
        ('{"command":"broadcast"}', None),
        ('{"command":"broadcast","message":null}', None),
        ('{"command":"broadcast","message":{"a":1}}', None),
        ('{"command":"broadcast","message":[]}', None),
        ('{"command":"disconnect"}', None),
        ('{"command":"broadcast_to_channel","channel":"a"}', None),
        ('{"command":"private_message","message":"x"}', None),
        ('{"id":7,"message":"with an id"}', None),
    ],
)
async def test_text_is_broadcast_whole_and_trimmed(php, enter, sent, raw):
    server = await php()
    first = await enter(server)
    second = await enter(server, first)
    await first.send(text(sent))
    expected = json.dumps(sent if raw is None else raw).replace("/", "\\/")
    for each in (first, second):
        assert await each.receive_text() == f'{{"client_id":"{first.id}","message":{expected}}}'
        await nothing_came(each)
    assert server.counters["messages_ignored"] == 0


async def test_text_is_written_as_php_writes_it(php, enter):
    client = await enter(await php())
    await client.send(text("a/é🦀\"\\\b\f\n\r\t\x01\x1f\x7f<>&' \\u007f"))
    written = r"a\/\u00e9\ud83e\udd80\"\\\b\f\n\r\t\u0001\u001f" + "\x7f<>&' \\\\u007f"
    assert await client.receive_text() == f'{{"client_id":"{client.id}","message":"{written}"}}'


@pytest.mark.parametrize("sent", ['{"ping":1}', '{"ping":0,"message":"x"}', '{"ping":false}'])
async def test_ping_is_swallowed(php, enter, sent):
    server = await php()
    client = await enter(server)
    await client.send(text(sent))
    await nothing_came(client)


# --- §4 Private messages


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ('" text "', '"text"'),
        ('"\\u00e9\\/"', '"\\u00e9\\/"'),
        ("5", '"5"'),
        ("1.5", '"1.5"'),
        ("1e25", '"1.0E+25"'),
        ("0.1234567890123456", '"0.12345678901235"'),
        ("true", '"1"'),
        ("false", '""'),
        ('""', '""'),
    ],
)
async def test_private_message_goes_to_its_client_alone(php, enter, message, told):
    server = await php()
    first = await enter(server)
    second = await enter(server, first)
    await first.send(text(f'{{"to":"{second.id}","message":{message}}}'))
    assert await second.receive_text() == f'{{"client_id":"{first.id}","message":{told}}}'
    for each in (first, second):
        await nothing_came(each)


@pytest.mark.parametrize(
    "members",
    [
        '"to":"nobodyxx","message":"x"',
        '"to":"","message":"x"',
        '"to":5,"message":"x"',
        '"to":["ID"],"message":"x"',
        '"to":{"user":"42"},"message":"x"',
        # These were told to everyone.
        '"to":"ID","message":[1]',
        '"to":"ID","message":{"a":1}',
        '"to":"ID","message":null',
        '"to":"ID"',
        '"to":null,"message":"secret"',
        '"command":"private_message","to":"ID","message":{"a":1}',
        '"command":"private_message","to":"ID","message":null',
        '"command":"private_message","to":null,"message":"secret"',
        # To PHP these are no JSON, so text.
        '"to":"ID","message":"half \\ud83d"',
        '"event":"message","channel":"c","data":"half \\ud83d"',
        '"command":"private_message","to":"ID","message":"half \\ud83d"',
        pytest.param('"to":"ID","message":' + "[" * 600 + "]" * 600, id="deep"),
    ],
)
async def test_private_message_that_can_not_be_is_told_to_nobody(php, enter, members):
    server = await php()
    first = await enter(server)
    second = await enter(server, first)
    await first.send(text("{" + members.replace("ID", second.id) + "}"))
    for each in (first, second):
        await nothing_came(each)
    assert server.counters["messages_ignored"] == 1


# --- §5 Channels


async def test_channel_reaches_its_subscribers(php, enter):
    server = await php()
    first = await enter(server)
    second = await enter(server, first)
    for _ in range(2):
        await second.send({"event": "subscribe", "channel": "chat/é"})
    await nothing_came(second)
    await first.send({"event": "message", "channel": "chat/é", "data": "Halo"})
    expected = f'{{"channel":"chat\\/\\u00e9","data":"Halo","client_id":"{first.id}"}}'
    assert await second.receive_text() == expected
    await second.send({"event": "message", "channel": "chat/é", "data": 1})
    assert '"data":1,' in await second.receive_text()
    for each in (first, second):
        await nothing_came(each)


@pytest.mark.parametrize(
    "sent",
    [
        {"event": "unsubscribe", "channel": "chat"},
        {"event": "message", "channel": "chat"},
        {"event": "message", "channel": "chat", "data": None},
        {"event": "message", "channel": None, "data": 1},
        {"event": "message", "data": 1},
        {"event": "subscribe"},
        {"event": "subscribe", "channel": 10},
        {"event": "subscribe", "channel": True},
        {"event": "subscribe", "channel": ""},
        {"event": "message", "channel": "\n", "data": 1},
        {"event": True, "channel": "chat"},
        {"event": "members", "channel": "chat", "id": 1},
        {"event": "unknown", "to": "x", "message": "y"},
    ],
)
async def test_event_that_can_not_be_is_told_to_nobody(php, enter, sent):
    server = await php()
    client = await enter(server)
    await client.send({"event": "subscribe", "channel": "chat"}, sent)
    await nothing_came(client)
    assert server.counters["messages_ignored"] == 1
    assert server.channels == {"chat": 1}


async def test_number_beyond_a_double_is_no_empty_message(php, enter):
    server = await php()
    client = await enter(server)
    await client.send({"event": "subscribe", "channel": "chat"})
    await client.send(text('{"event":"message","channel":"chat","data":[1e400]}'))
    await nothing_came(client)
    assert server.counters["messages_ignored"] == 1


# --- §6 Commands


@pytest.mark.parametrize(
    ("message", "bare"),
    [('" text/é "', " text/é "), ("5", "5"), ("1.5", "1.5"), ("true", "1"), ("false", "")],
)
async def test_commands_send_bare_text(php, enter, message, bare):
    server = await php()
    first = await enter(server)
    second = await enter(server, first)
    await second.send({"event": "subscribe", "channel": "chat"})
    await nothing_came(second)
    await first.send(text(f'{{"command":"broadcast","message":{message}}}'))
    assert [await each.receive_text() for each in (first, second)] == [bare, bare]
    for rest in (
        '"broadcast_to_channel","channel":"chat"',
        f'"private_message","to":"{second.id}"',
    ):
        await first.send(text(f'{{"command":{rest},"message":{message}}}'))
        assert await second.receive_text() == bare
    await nothing_came(first)


async def test_command_that_fits_wins_over_an_event(php, enter):
    server = await php()
    client = await enter(server)
    await client.send(
        {"command": "broadcast", "message": "x", "event": "subscribe", "channel": "a"}
    )
    assert await client.receive_text() == "x"
    await client.send({"command": "unknown", "event": "subscribe", "channel": "a"})
    await nothing_came(client)
    assert server.channels == {"a": 1}


async def test_command_disconnects_as_the_manual_says(php, enter):
    server = await php()
    first = await enter(server)
    second = await enter(server, first)
    await first.send({"command": "disconnect", "client_id": "nobodyxx"})
    await first.send({"command": "disconnect", "client_id": True})
    await first.send({"command": "disconnect", "client_id": second.id})
    assert await second.receive_close() == (4000, "disconnected by command")
    assert await first.receive_text() == f"Client #{second.id} disconnected"
    assert server.counters["messages_ignored"] == 2


@pytest.mark.parametrize(
    "rest",
    [
        '"broadcast_to_channel","channel":"chat","message":{"a":1}',
        '"broadcast_to_channel","channel":5,"message":"x"',
        '"private_message","to":"nobodyxx","message":"x"',
    ],
)
async def test_command_that_can_not_be_is_told_to_nobody(php, enter, rest):
    server = await php()
    client = await enter(server)
    await client.send(text(f'{{"command":{rest}}}'))
    await nothing_came(client)
    assert server.counters["messages_ignored"] == 1


async def test_commands_need_leave_here(php, enter):
    server = await php(command_access="operators", operator_token="t" * 20)
    client = await enter(server)
    await client.send({"command": "broadcast", "message": "x"})
    await nothing_came(client)
    assert server.counters["messages_ignored"] == 1
    await client.send({"event": "auth", "token": "wrong"}, {"event": "auth", "token": "t" * 20})
    await client.send({"command": "broadcast", "message": "x"})
    assert await client.receive_text() == "x"
    assert server.counters["messages_ignored"] == 2


async def test_commands_of_the_application_are_carried_out_and_not_answered(
    make_server, php, enter
):
    server = make_server(compat="php", welcome=False)
    called = []

    @server.command("shout")
    def shout(client, word: str) -> str:
        called.append(word)
        server.broadcast(word.upper())
        return "done"

    await php(server)
    client = await enter(server)
    await client.send({"command": "shout", "word": "hey", "id": 1}, {"command": "shout", "word": 5})
    assert await client.receive_text() == "HEY"
    await nothing_came(client)
    assert (called, server.counters["messages_ignored"]) == (["hey"], 1)


# --- What is not the reference's: rules, limits, code


async def test_channel_rules_hold(make_server, php, enter):
    server = make_server(
        compat="php",
        welcome=False,
        channels=[{"pattern": "private-*", "subscribe": "nobody"}],
        max_channels_per_client=1,
    )

    @server.channel_access("slow")
    async def decide(client, action, channel):
        await asyncio.sleep(0)
        return action == "subscribe"

    await php(server)
    client = await enter(server)
    await client.send(
        {"event": "subscribe", "channel": "private-1"},
        {"event": "message", "channel": "private-1", "data": 1},
        {"event": "subscribe", "channel": "slow"},
        {"event": "subscribe", "channel": "one too many"},
        {"event": "message", "channel": "slow", "data": 1},
    )
    await nothing_came(client)
    assert server.channels == {"slow": 1}
    assert server.counters["messages_ignored"] == 4


async def test_binary_and_errors_are_not_answered(php, enter):
    server = await php(rate_limit=1.0, rate_burst=3)
    client = await enter(server)
    await client.send(frame(BINARY, b"{}"))
    await until(lambda: server.counters["messages_ignored"] == 1)
    await client.send(*[text('{"ping":1}')] * 4)
    await until(lambda: server.counters["messages_refused"] >= 1)
    assert server.counters["errors_answered"] == 0
    server.broadcast("still here")
    assert await client.receive_text() == "still here"


async def test_code_speaks_with_the_same_voice(php, enter):
    server = await php()
    client = await enter(server)
    (connected,) = server.clients.values()
    connected.subscribe("chat")
    assert server.broadcast("plain / é") == 1
    assert server.send(client.id, {"a": "é/", "b": {}}) == 1
    assert server.publish("chat", 1.0) == 1
    assert connected.send([1, None, True])
    expected = ["plain / é", r'{"a":"\u00e9\/","b":[]}', "1", "[1,null,true]"]
    assert [await client.receive_text() for _ in expected] == expected
    for wrong in (object(), "\ud83d"):
        with pytest.raises(UsageError):
            server.broadcast(wrong)


async def test_hooks_see_what_is_sent(make_server, php, enter):
    server = make_server(compat="php", welcome=False)
    seen = []

    @server.on("send")
    def sent(client, opcode, payload):
        assert opcode == Opcode.TEXT
        seen.append(payload.decode())

    await php(server)
    client = await enter(server)
    assert seen == [f"Client #{client.id} connected"]


# --- §7 JSON as PHP reads and writes it

VECTORS = {
    "{}": "[]",
    '{"0":"a","1":"b"}': '["a","b"]',
    '{"1":"a","0":"b"}': '{"1":"a","0":"b"}',
    '{"0":1,"2":2}': '{"0":1,"2":2}',
    '{"a":1,"b":2,"a":3}': '{"a":3,"b":2}',
    '{"":{"x":[]}}': '{"":{"x":[]}}',
    "1.0": "1",
    "1e3": "1000",
    "1e25": "1.0e+25",
    "0.00001": "1.0e-5",
    "0.0001": "0.0001",
    "-0.0": "-0",
    "-0": "0",
    "1e16": "10000000000000000",
    "1e17": "1.0e+17",
    "0.1": "0.1",
    "0.30000000000000004": "0.30000000000000004",
    "5e-324": "5.0e-324",
    "9223372036854775807": "9223372036854775807",
    "9223372036854775808": "9.223372036854776e+18",
    "-9223372036854775808": "-9223372036854775808",
    "12345678901234567890": "1.2345678901234567e+19",
    '"/é🦀\\u007f"': '"\\/\\u00e9\\ud83e\\udd80\x7f"',
    '[null,true,false,"x"]': '[null,true,false,"x"]',
    " [ 1 , 2 ] ": "[1,2]",
    "[" * 511 + "]" * 511: "[" * 511 + "]" * 511,
}
NO_JSON = ["", "nul", "NaN", "Infinity", "01", ".5", "1.", "[1,]", "1 2", '"\\ud800"', '"a\tb"']
NO_JSON += ['"\\udc00x"', "{1:2}", "\ufeff1", "'a'"]


@pytest.mark.parametrize("sent", VECTORS, ids=range(len(VECTORS)))
def test_json_is_read_and_written_as_by_php(sent):
    assert phpjson.encode(phpjson.decode(sent)).decode() == VECTORS[sent]


@pytest.mark.parametrize("sent", NO_JSON)
def test_what_php_does_not_read_is_not_json(sent):
    with pytest.raises(phpjson.NotJsonError):
        phpjson.decode(sent)


@pytest.mark.parametrize("value", [float("inf"), [float("nan")], {"a": float("-inf")}])
def test_what_php_does_not_write_is_refused(value):
    with pytest.raises(phpjson.NotJsonError):
        phpjson.encode(value)


def test_nesting_beyond_pythons_is_no_json():
    with pytest.raises(phpjson.NotJsonError):
        phpjson.decode("[" * 100_000 + "]" * 100_000)
    deep = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(phpjson.NotJsonError):
        phpjson.encode(deep)


# PHP writes -0.0 as -0, and reads that as 0.
floats = st.floats(allow_nan=False).map(lambda number: number or 0.0)
json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["0", "1", "2", "01", "-1", "a", ""]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_texts)
def test_what_is_written_is_json_of_the_same_value(value):
    written = phpjson.encode(phpjson.decode(json.dumps(_without_surrogates(value))))
    again = phpjson.encode(phpjson.decode(written.decode()))
    assert again == written


def _without_surrogates(value):
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_without_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {key: _without_surrogates(each) for key, each in value.items()}
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return 0
    return value


PHP_ORACLE = r"""
foreach (json_decode(stream_get_contents(STDIN)) as $text) {
    $value = json_decode($text, true);
    $isJson = json_last_error() === JSON_ERROR_NONE;
    $written = $isJson ? json_encode($value) : false;
    $said = $isJson && is_scalar($value) ? bin2hex((string) $value) : null;
    $out[] = [$isJson, $written === false ? null : bin2hex($written), $said];
}
echo json_encode($out);
"""


@pytest.mark.skipif(shutil.which("php") is None, reason="there is no PHP")
@settings(max_examples=20, deadline=None)
@given(st.lists(json_texts | st.floats(allow_nan=False), min_size=1, max_size=50))
def test_php_itself_agrees(values):
    texts = [json.dumps(_without_surrogates(each)) for each in values]
    texts += [*VECTORS, *NO_JSON, "[1e400]", "1e400"]
    done = subprocess.run(
        ["php", "-r", PHP_ORACLE], input=json.dumps(texts).encode(), capture_output=True, check=True
    )
    for sent, expected in zip(texts, json.loads(done.stdout), strict=True):
        assert [sent, *_judged(sent)] == [sent, *expected]


def _judged(sent):
    try:
        value = phpjson.decode(sent)
    except phpjson.NotJsonError:
        return [False, None, None]
    said = None if value is None else phpjson.as_text(value)
    try:
        written = phpjson.encode(value).hex()
    except phpjson.NotJsonError:
        written = None
    return [True, written, None if said is None else said.encode().hex()]
