"""Commands: the five of protocol §4, who may give them, and the application's own."""

# ruff: noqa: UP031 - JSON in a format string would drown in braces

from __future__ import annotations

import asyncio
import logging
from typing import Literal

import pytest

from rakit_ws import Client, UsageError
from raw_client import close, text

TOKEN = "correct-horse-battery-staple"
BROADCAST = {"command": "broadcast", "message": 1}
FORWARDED = [("Forwarded", "for=192.0.2.1")]
OPERATOR = [("Authorization", f"Bearer {TOKEN}")]


@pytest.fixture
async def pair(server, connect):
    """Connect two clients."""
    return await connect(server), await connect(server)


async def error_of(client, sent):
    """Send an object; return the code of the error that answers it, and its text."""
    answer = await client.ask(sent, "e")
    assert answer["type"] == "error", answer
    await client.fence()
    return answer["code"], answer["message"]


async def code_of(client, sent):
    return (await error_of(client, sent))[0]


async def may_command(client):
    """Tell whether a client's command is carried out; anything but `forbidden` fails."""
    await client.send({**BROADCAST, "id": "c"})
    answer = await client.receive()
    if answer["type"] == "broadcast":
        assert (await client.receive())["type"] == "ack"
        return True
    assert (answer["type"], answer["code"]) == ("error", "forbidden")
    await client.fence()
    return False


# --- The five


async def test_broadcast_speaks_to_everyone_in_the_servers_voice(pair):
    one, two = pair
    await one.send(text('{"command":"broadcast","message":{"a": 1.0},"id":1}'))
    for client in pair:
        assert await client.receive_text() == '{"type":"broadcast","message":{"a": 1.0}}'
    assert await one.receive_text() == '{"type":"ack","id":1,"delivered":2}'
    await two.fence()


async def test_disconnect_closes_a_client_with_4000(server, pair):
    one, two = pair
    answer = await one.ask({"command": "disconnect", "client_id": two.id})
    assert answer == {"type": "ack", "id": "fence", "delivered": 1}
    assert await two.receive_close() == (4000, "disconnected by command")
    await two.send(close(4000))
    assert await two.at_end()
    assert list(server.clients) == [one.id]


async def test_disconnecting_oneself_is_acknowledged_first(pair):
    one, two = pair
    answer = await one.ask({"command": "disconnect", "client_id": one.id})
    assert answer["delivered"] == 1
    assert await one.receive_close() == (4000, "disconnected by command")
    await two.fence()


async def test_what_is_queued_for_a_disconnected_client_goes_first(pair):
    one, two = pair
    await one.send(
        text({"to": two.id, "message": "last words"})
        + text({"command": "disconnect", "client_id": two.id})
    )
    assert (await two.receive())["message"] == "last words"
    assert (await two.receive_close())[0] == 4000


async def test_presence_is_told_to_everyone(serve, connect):
    server = await serve(presence={"interval": 0.01})
    one, two = await connect(server), await connect(server)
    for client in (one, two):
        while (await client.receive()).get("count") != 2:
            pass
    await one.send({"command": "presence", "id": 1})
    for client in (one, two):
        answers = [await client.receive()]
        if client is one:
            answers.append(await client.receive())
            assert {"type": "ack", "id": 1, "delivered": 2} in answers
        (presence,) = [each for each in answers if each["type"] == "presence"]
        assert [user["id"] for user in presence["users"]] == [one.id, two.id]


async def test_broadcast_to_channel_speaks_to_its_subscribers(server, connect, pair):
    three = await connect(server)
    for client in pair:
        await client.ask({"event": "subscribe", "channel": "c"})
    sent = '{"command":"broadcast_to_channel","channel":"c","message":[1.50],"id":1}'
    await three.send(text(sent))
    assert await three.receive_text() == '{"type":"ack","id":1,"delivered":2}'
    for client in pair:
        assert await client.receive_text() == '{"type":"channel","channel":"c","data":[1.50]}'
    await three.fence()


async def test_private_message_speaks_to_one_client(server, connect, pair):
    one, two = pair
    three = await connect(server)
    sent = '{"command":"private_message","to":"%s","message":"\\u00e9","id":1}' % two.id
    await one.send(text(sent))
    assert await one.receive_text() == '{"type":"ack","id":1,"delivered":1}'
    assert await two.receive_text() == '{"type":"private","message":"\\u00e9"}'
    await three.fence()


@pytest.mark.parametrize("receiver", ["AAAAAAAAAAAAAAAA", "", "x" * 1000])
async def test_command_to_nobody_is_unknown_client(pair, receiver):
    one, two = pair
    private = {"command": "private_message", "to": receiver, "message": "secret"}
    assert await code_of(one, private) == "unknown_client"
    disconnect = {"command": "disconnect", "client_id": receiver}
    assert await code_of(one, disconnect) == "unknown_client"
    await two.fence()


@pytest.mark.parametrize(
    "sent",
    [
        {"command": "broadcast"},
        {"command": "disconnect"},
        {"command": "disconnect", "client_id": None},
        {"command": "disconnect", "client_id": True},
        {"command": "disconnect", "client_id": 5},
        {"command": "broadcast_to_channel", "message": 1},
        {"command": "broadcast_to_channel", "channel": "c"},
        {"command": "broadcast_to_channel", "channel": 5, "message": 1},
        {"command": "broadcast_to_channel", "channel": "", "message": 1},
        {"command": "broadcast_to_channel", "channel": "a\nb", "message": 1},
        {"command": "broadcast_to_channel", "channel": "x" * 256, "message": 1},
        {"command": "private_message", "to": "x"},
        {"command": "private_message", "message": "secret"},
        {"command": "private_message", "to": None, "message": "secret"},
        {"command": "private_message", "to": ["x"], "message": "secret"},
        {"command": None},
        {"command": None, "message": "secret"},
        {"command": True},
        {"command": 5, "event": "subscribe", "channel": "c"},
        {"command": ["broadcast"], "message": "secret"},
        {"command": {}, "to": "x", "message": "secret"},
    ],
)
async def test_command_with_a_key_missing_or_of_the_wrong_type_is_bad_request(pair, sent):
    one, two = pair
    assert await code_of(one, sent) == "bad_request"
    await two.fence()


@pytest.mark.parametrize("name", ["", "Broadcast", "broadcast ", "kick", "é", "x" * 10_000])
async def test_other_command_is_unknown_command_and_not_broadcast(pair, name):
    one, two = pair
    sent = {"command": name, "message": "secret", "to": two.id, "event": "subscribe"}
    assert await code_of(one, sent) == "unknown_command"
    await two.fence()


@pytest.mark.parametrize("message", ["null", '""', "0", "false", "[]"])
async def test_any_json_value_is_a_message(pair, message):
    one, two = pair
    await one.send(text('{"command":"broadcast","message":%s}' % message))
    assert await two.receive_text() == '{"type":"broadcast","message":%s}' % message


# --- Who may


@pytest.mark.parametrize(
    ("settings", "headers", "may"),
    [
        ({}, [], True),
        ({}, [("Forwarded", "for=192.0.2.1")], False),
        ({}, [("X-Forwarded-For", "192.0.2.1")], False),
        ({}, [("x-forwarded-for", "127.0.0.1")], False),
        ({}, [("Forwarded", "")], False),
        ({}, [("X-Forwarded-Proto", "https")], False),
        ({}, [("X-Real-IP", "192.0.2.1")], False),
        ({}, [("Via", "1.1 proxy")], False),
        ({}, FORWARDED + OPERATOR, True),
        ({}, [("Origin", "http://localhost")], True),
        ({}, [("Origin", "http://localhost:3000")], True),
        ({}, [("Origin", "https://app.localhost")], True),
        ({}, [("Origin", "http://127.0.0.1:8000")], True),
        ({}, [("Origin", "http://127.255.0.1")], True),
        ({}, [("Origin", "http://[::1]:8000")], True),
        ({}, [("Origin", "https://evil.example")], False),
        ({}, [("Origin", "https://evil.example"), *OPERATOR], True),
        ({}, [("Origin", "http://localhost.evil.example")], False),
        ({}, [("Origin", "http://notlocalhost")], False),
        ({}, [("Origin", "http://127.0.0.1.evil.example")], False),
        ({}, [("Origin", "http://127.0.0.1@evil.example")], False),
        ({}, [("Origin", "http://192.0.2.1")], False),
        ({}, [("Origin", "null")], False),
        ({}, [("Origin", "")], False),
        ({}, [("Origin", "file://")], False),
        ({}, [("Origin", "http://localhost"), *FORWARDED], False),
        ({"allowed_origins": ["https://a.example"]}, [("Origin", "https://a.example")], False),
        ({"command_access": "everyone"}, [("Origin", "https://evil.example")], True),
        ({"host": "0.0.0.0"}, [], False),
        ({"host": "0.0.0.0"}, OPERATOR, True),
        ({"host": "localhost"}, [], True),
        ({"command_access": "operators"}, [], False),
        ({"command_access": "operators"}, OPERATOR, True),
        ({"command_access": "operators"}, FORWARDED + OPERATOR, True),
        ({"command_access": "everyone"}, [], True),
        ({"command_access": "everyone"}, FORWARDED, True),
        ({"command_access": "everyone", "host": "0.0.0.0"}, [], True),
        ({"command_access": "nobody"}, [], False),
        ({"command_access": "nobody"}, OPERATOR, False),
    ],
)
async def test_command_access_decides_who_may(serve, connect, settings, headers, may):
    server = await serve(operator_token=TOKEN, **settings)
    assert await may_command(await connect(server, headers=headers)) is may


async def test_name_that_leads_to_this_machine_is_not_of_it(serve, connect):
    # DNS rebinding: the browser sends the same hostile name in both.
    client = await connect(
        await serve(), host="evil.example", headers=[("Origin", "http://evil.example")]
    )
    assert not await may_command(client)


async def test_unix_socket_is_for_operators(serve, connect, tmp_path):
    server = await serve(host=f"unix:{tmp_path / 's'}", operator_token=TOKEN)
    assert not await may_command(await connect(server))
    assert await may_command(await connect(server, headers=OPERATOR))


async def test_each_of_the_five_needs_permission(serve, connect):
    server = await serve(command_access="nobody")
    one, two = await connect(server), await connect(server)
    await two.ask({"event": "subscribe", "channel": "c"})
    for sent in [
        {"command": "broadcast", "message": 1},
        {"command": "disconnect", "client_id": two.id},
        {"command": "presence"},
        {"command": "broadcast_to_channel", "channel": "c", "message": 1},
        {"command": "private_message", "to": two.id, "message": 1},
    ]:
        assert await code_of(one, sent) == "forbidden"
    await two.fence()


async def test_forbidden_says_nothing_about_what_is_there(serve, connect):
    client = await connect(await serve(command_access="nobody"))
    for sent in [
        {"command": "disconnect", "client_id": "AAAAAAAAAAAAAAAA"},
        {"command": "disconnect", "client_id": client.id},
        {"command": "disconnect"},
        {"command": "broadcast"},
    ]:
        assert await code_of(client, sent) == "forbidden"


@pytest.mark.parametrize(
    ("value", "may"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (f"BEARER   {TOKEN}", True),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        (f"Bearer {TOKEN.upper()}", False),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        ("Bearer", False),
        ("Bearer ", False),
        ("Bearer \xe9\xff", False),
        (f"Bearer {TOKEN}, Bearer {TOKEN}", False),
        ("", False),
    ],
)
async def test_operator_token_is_presented_in_the_handshake(serve, connect, value, may):
    server = await serve(command_access="operators", operator_token=TOKEN)
    client = await connect(server, headers=[("Authorization", value)])
    assert server.clients[client.id].is_operator is may
    assert await may_command(client) is may


async def test_operator_token_is_presented_in_an_auth_event(serve, connect):
    server = await serve(command_access="operators", operator_token=TOKEN)
    client, other = await connect(server), await connect(server)
    assert not await may_command(client)
    for token in [TOKEN + "x", TOKEN[:-1], "", "é"]:
        assert await code_of(client, {"event": "auth", "token": token}) == "forbidden"
    for token in [None, 5, [TOKEN]]:
        assert await code_of(client, {"event": "auth", "token": token}) == "bad_request"
    assert await code_of(client, {"event": "auth"}) == "bad_request"
    assert not await may_command(client)
    answer = await client.ask({"event": "auth", "token": TOKEN})
    assert answer["type"] == "ack"
    assert await may_command(client)
    assert (await other.receive())["type"] == "broadcast"
    assert not await may_command(other)


async def test_no_token_makes_an_operator_where_none_is_set(serve, connect):
    server = await serve(command_access="operators")
    client = await connect(server, headers=[("Authorization", "Bearer ")])
    assert not await may_command(client)
    assert await code_of(client, {"event": "auth", "token": ""}) == "forbidden"
    assert not await may_command(client)


async def test_start_up_says_who_may_and_nothing_says_the_token(serve, connect, caplog):
    caplog.set_level(logging.DEBUG, "rakit_ws")
    server = await serve(command_access="operators", operator_token=TOKEN)
    assert any("operators" in message for message in caplog.messages)
    client = await connect(server, headers=OPERATOR)
    await client.ask({"event": "auth", "token": TOKEN})
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(server.config)


# --- The application's own


@pytest.fixture(params=["sync", "async"])
def as_command(request):
    """Add a function as a command, itself or as a coroutine function."""

    def add(server, function, **options):
        if request.param == "sync":
            return server.command(function.__name__, **options)(function)

        async def handler(*args, **kwargs):
            await asyncio.sleep(0)
            return function(*args, **kwargs)

        # What `functools.wraps` does: the signature is that of the function.
        handler.__wrapped__ = function
        return server.command(function.__name__, **options)(handler)

    return add


async def test_result_of_a_command_is_its_ack(make_server, serve, connect, as_command):
    server = make_server()

    def time(client: Client, zone: str):
        return {"client": client.id, "zone": zone, "now": 1.5}

    as_command(server, time)
    client = await connect(await serve(server))
    await client.send({"command": "time", "zone": "Asia/Jakarta", "id": "t", "extra": [1]})
    assert await client.receive_text() == (
        '{"type":"ack","id":"t","result":{"client":"%s","zone":"Asia/Jakarta","now":1.5}}'
        % client.id
    )
    await client.send({"command": "time", "zone": "x"})
    await client.fence()


@pytest.mark.parametrize("result", [None, 0, False, "é", [], {"a": [None]}, 1.5])
async def test_result_may_be_any_json_value(make_server, serve, connect, as_command, result):
    server = make_server()

    def give(client):
        return result

    as_command(server, give)
    client = await connect(await serve(server))
    assert await client.ask({"command": "give"}) == {"type": "ack", "id": "fence", "result": result}


async def test_keys_become_arguments_of_the_types_that_are_asked_for(
    make_server, serve, connect, as_command
):
    server = make_server()

    def take(
        client,
        number: int,
        ratio: float = 0.5,
        flag: bool = False,
        names: list[str] = [],  # noqa: B006 - what a user may write
        maybe: str | None = None,
        kind: Literal["a", "b"] = "a",
        anything=None,
        *,
        last: dict[str, int] | None = None,
    ):
        return [number, ratio, flag, names, maybe, kind, anything, last]

    as_command(server, take)
    client = await connect(await serve(server))

    async def result_of(**arguments):
        return (await client.ask({"command": "take", **arguments}))["result"]

    assert await result_of(number=1) == [1, 0.5, False, [], None, "a", None, None]
    assert await result_of(
        number=2,
        ratio=3,
        flag=True,
        names=["x"],
        maybe="m",
        kind="b",
        anything={"a": [1.5]},
        last={"z": 26},
    ) == [2, 3.0, True, ["x"], "m", "b", {"a": [1.5]}, {"z": 26}]
    for wrong, key in [
        ({}, "number"),
        ({"number": "1"}, "number"),
        ({"number": 1.5}, "number"),
        ({"number": None}, "number"),
        ({"number": 1, "flag": 1}, "flag"),
        ({"number": 1, "names": ["a", 5]}, "names"),
        ({"number": 1, "kind": "c"}, "kind"),
        ({"number": 1, "maybe": 5}, "maybe"),
        ({"number": 1, "last": {"z": "26"}}, "last"),
    ]:
        code, message = await error_of(client, {"command": "take", **wrong})
        assert code == "bad_request"
        assert key in message


async def test_argument_with_half_a_surrogate_pair_is_the_clients_fault(
    make_server, serve, connect
):
    server = make_server()
    server.command("say")(lambda client, word: word)
    client = await connect(await serve(server))
    await client.send(text('{"command":"say","word":"\\ud83d","id":1}'))
    answer = await client.receive()
    assert answer["type"] == "ack" or answer["code"] == "bad_request"


async def test_client_is_told_what_is_wrong_without_an_id_too(make_server, serve, connect):
    server = make_server()

    @server.command("square")
    def square(client, number: int):
        return number * number

    client = await connect(await serve(server))
    await client.send({"command": "square", "number": "two"})
    answer = await client.receive()
    assert (answer["type"], answer["code"]) == ("error", "bad_request")
    assert "id" not in answer


async def test_command_that_raises_is_internal_and_keeps_its_reasons(
    make_server, serve, connect, as_command, logged_errors, caplog
):
    server = make_server()

    def fail(client):
        raise ValueError("the password is 1234")

    as_command(server, fail)
    client, other = await connect(await serve(server)), await connect(server)
    code, message = await error_of(client, {"command": "fail"})
    assert code == "internal"
    assert "1234" not in message
    await client.send({"command": "fail"})
    assert (await client.receive())["code"] == "internal"
    await other.fence()
    assert logged_errors() == ["command failed"]  # and no more of them within this second
    assert "the password is 1234" in caplog.text


async def test_result_that_is_no_json_is_internal(
    make_server, serve, connect, as_command, logged_errors
):
    server = make_server()

    def give(client):
        return object()

    as_command(server, give)
    client = await connect(await serve(server))
    assert await code_of(client, {"command": "give"}) == "internal"
    assert logged_errors() == ["command failed"]


async def test_messages_of_a_client_wait_for_its_async_command(make_server, serve, connect):
    server = make_server()
    may_end = asyncio.Event()

    @server.command("slow")
    async def slow(client):
        await may_end.wait()
        return "done"

    client, other = await connect(await serve(server)), await connect(server)
    await client.send(text({"command": "slow", "id": 1}) + text({"ping": 1, "id": 2}))
    await other.fence()
    may_end.set()
    assert await client.receive() == {"type": "ack", "id": 1, "result": "done"}
    assert await client.receive() == {"type": "pong", "id": 2}


async def test_command_may_use_the_server(make_server, serve, connect, as_command):
    server = make_server()

    def invite(client: Client, guest: str):
        server.clients[guest].subscribe("room")
        client.subscribe("room")
        return server.publish("room", {"from": client.id})

    as_command(server, invite)
    client, guest = await connect(await serve(server)), await connect(server)
    await client.send({"command": "invite", "guest": guest.id, "id": 1})
    expected = {"type": "channel", "channel": "room", "data": {"from": client.id}}
    assert await guest.receive() == expected
    assert await client.receive() == expected
    assert await client.receive() == {"type": "ack", "id": 1, "result": 2}


@pytest.mark.parametrize(
    ("mode", "access", "headers", "may"),
    [
        ("nobody", None, [], False),
        ("nobody", "everyone", [], True),
        ("nobody", "operators", [], False),
        ("nobody", "operators", OPERATOR, True),
        ("operators", None, [], False),
        ("operators", None, OPERATOR, True),
        ("operators", "everyone", [], True),
        ("auto", None, [], True),
        ("auto", None, FORWARDED, False),
        ("auto", "everyone", FORWARDED, True),
        ("auto", "operators", [], False),
        ("everyone", "operators", [], False),
        ("everyone", "operators", OPERATOR, True),
        ("everyone", "nobody", OPERATOR, False),
    ],
)
async def test_command_may_have_an_access_of_its_own(
    make_server, serve, connect, mode, access, headers, may
):
    server = make_server(command_access=mode, operator_token=TOKEN)
    calls = []
    server.command("note", access=access)(calls.append)
    client = await connect(await serve(server), headers=headers)
    answer = await client.ask({"command": "note"})
    assert (answer.get("code") == "forbidden") is not may
    assert len(calls) == may


def test_command_that_cannot_be_is_a_usage_error(make_server):
    server = make_server()
    for name in ["broadcast", "disconnect", "presence", "broadcast_to_channel", "private_message"]:
        with pytest.raises(UsageError, match=name):
            server.command(name)(print)
    with pytest.raises(UsageError, match="everyone"):
        server.command("x", access="all")(lambda client: None)
    with pytest.raises(UsageError):
        server.command("x")(lambda client, *words: None)
    with pytest.raises(UsageError):
        server.command("x")(lambda client, word, /: None)
    with pytest.raises(UsageError):
        server.command("x")("no function")


async def test_commands_are_added_before_the_server_runs(server):
    with pytest.raises(UsageError, match="before"):
        server.command("x")


def test_command_is_returned_as_it_was(make_server):
    def handler(client):
        pass

    server = make_server()
    assert server.command("a")(server.command("b")(handler)) is handler
