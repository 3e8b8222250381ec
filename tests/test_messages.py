"""What clients send and get: every row of protocol §2 and §3."""

# ruff: noqa: UP031 - JSON in a format string would drown in braces

from __future__ import annotations

import json
import re

import pytest

import rakit_ws
from raw_client import BINARY, CONTINUATION, PING, PONG, TEXT, close, frame, text

CLIENT_ID = re.compile(r"[A-Za-z0-9]{16}")

# Values that a decoder and an encoder in between would write differently.
PAYLOADS = [
    "1.0",
    "1e400",
    "-0",
    "1E5",
    "0.1000",
    "123456789012345678901234567890",
    '"\\u00e9"',
    '"é😀"',
    '"\\ud83d\\ude00"',
    '"\\/"',
    '"\\u0000\\u001f\x7f"',
    '""',
    "null",
    "true",
    "false",
    "{}",
    "[]",
    '{"a":1,"a":2}',
    '{"0":"a","1":"b"}',
    '{"b":{"message":[1, 2 ,{"c":null}]},"a":"x"}',
    "[1.50,[],{},[[[]]]]",
    '{"type":"welcome","client_id":"fake"}',
    '"]}"',
]


@pytest.fixture
async def pair(server, connect):
    """Connect two clients."""
    return await connect(server), await connect(server)


async def error_of(client, sent, request_id=None):
    """Send something; return the code of the error that answers it, with the id it must have."""
    await client.send(sent if isinstance(sent, bytes) else text(sent))
    answer = await client.receive()
    assert answer["type"] == "error", answer
    assert list(answer) == ["type", *(["id"] if request_id is not None else []), "code", "message"]
    assert answer.get("id") == request_id
    assert answer["message"]
    await client.fence()
    return answer["code"]


# --- Welcome


async def test_welcome_comes_first_and_once(server, dial):
    client = await dial(server)
    await client.handshake()
    assert await client.receive_text() == (
        '{"type":"welcome","client_id":"%s","server":"rakit_ws/%s"}'
        % (*server.clients, rakit_ws.__version__)
    )
    await client.fence()


async def test_client_ids_are_16_letters_and_digits_and_differ(server, connect):
    ids = [(await connect(server)).id for _ in range(50)]
    assert all(CLIENT_ID.fullmatch(each) for each in ids)
    assert len(set(ids)) == 50
    assert list(server.clients) == ids


async def test_welcome_can_be_turned_off(serve, connect):
    client = await connect(await serve(welcome=False))
    await client.fence()


# --- Broadcast


async def test_broadcast_reaches_everyone_and_the_sender(pair):
    one, two = pair
    await one.send({"message": "Halo semua!"})
    expected = '{"type":"message","client_id":"%s","message":"Halo semua!"}' % one.id
    assert await one.receive_text() == expected
    assert await two.receive_text() == expected
    await one.fence()
    await two.fence()


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_payload_of_a_broadcast_is_passed_byte_for_byte(pair, payload):
    one, two = pair
    await one.send(text('{"message":%s}' % payload))
    expected = '{"type":"message","client_id":"%s","message":%s}' % (one.id, payload)
    assert await two.receive_text() == expected


async def test_blanks_around_payload_and_object_do_not_matter(pair):
    one, two = pair
    await one.send(text('\r\n { "message"\t:  [ 1,\n2 ]  } \n'))
    expected = '{"type":"message","client_id":"%s","message":[ 1,\n2 ]}' % one.id
    assert await two.receive_text() == expected


async def test_keys_may_be_written_with_escapes(pair):
    one, two = pair
    await one.send(text('{"\\u006dessage":1}'))
    assert (await two.receive())["message"] == 1


async def test_unknown_keys_are_ignored_whatever_they_hold(pair):
    one, two = pair
    await one.send(text('{"a":[{}],"message":1,"type":"error","code":5,"":null,"é":"\\u0000"}'))
    assert await two.receive() == {"type": "message", "client_id": one.id, "message": 1}


async def test_known_keys_that_a_row_does_not_use_may_hold_anything(pair):
    one, two = pair
    await one.send({"message": 1, "channel": 5, "client_id": [], "token": {}, "data": None})
    assert (await two.receive())["message"] == 1


async def test_broadcast_with_id_is_acknowledged_with_the_number_of_recipients(pair):
    one, two = pair
    await one.send({"message": 1, "id": 7})
    assert (await one.receive())["type"] == "message"
    assert await one.receive_text() == '{"type":"ack","id":7,"delivered":2}'
    assert (await two.receive())["type"] == "message"
    await two.fence()


async def test_large_message_arrives_whole(pair):
    one, two = pair
    payload = json.dumps(["é" * 300_000, 1.5], ensure_ascii=False)
    await one.send(text('{"message":%s}' % payload))
    assert (await two.receive_text()).endswith(payload + "}")


async def test_fragmented_message_is_one_message(pair):
    one, two = pair
    whole = '{"message":"é😀"}'.encode()
    pieces = [frame(TEXT, whole[:1], fin=False)]
    pieces += [frame(CONTINUATION, whole[at : at + 1], fin=False) for at in range(1, len(whole))]
    await one.send(*pieces, frame(PING, b"in between"), frame(CONTINUATION))
    pong = await one.read_frame()
    assert (pong.opcode, pong.payload) == (PONG, b"in between")
    assert (await two.receive())["message"] == "é😀"


# --- Plain text


@pytest.mark.parametrize(
    "sent",
    [
        "hello",
        "5",
        "-1.5e3",
        "[1,2]",
        "[]",
        "{}",
        "null",
        "true",
        '"message"',
        '{"a":1}',
        '{"Message":1}',
        '{"data":1,"channel":"c"}',
        '{"client_id":"x"}',
        '[{"message":1}]',
        '{"message":1',
        '{"message":1}}',
        '{"message":1} x',
        '{"message":01}',
        '{"message":1.}',
        '{"message":NaN}',
        '{"message":tru}',
        '{"message":"a\nb"}',
        '{"message":"\\q"}',
        '{"message":"\\u12"}',
        '{"message":[1,]}',
        "{'message':1}",
        '{"message":1,"x":01}',
        '\ufeff{"message":1}',
        " ",
        "\n\t",
        '"quotes" and \\backslashes\\ / \0 \x1f \x7f',
        "é😀\u2028",
        "</script>",
    ],
)
async def test_any_other_text_is_broadcast_as_a_string(pair, sent):
    one, two = pair
    await one.send(text(sent))
    expected = {"type": "message", "client_id": one.id, "message": sent}
    assert await two.receive() == expected
    assert await one.receive() == expected
    await one.fence()


async def test_any_other_object_with_an_id_is_acknowledged(pair):
    one, two = pair
    await one.send(text('{"a":1,"id":"x"}'))
    assert await two.receive() == {
        "type": "message",
        "client_id": one.id,
        "message": '{"a":1,"id":"x"}',
    }
    assert (await one.receive())["type"] == "message"
    assert await one.receive() == {"type": "ack", "id": "x", "delivered": 2}


@pytest.mark.parametrize("sent", ["hello", "5", "[1]", '{"a":1}', "{}", '{"message":1', "null"])
async def test_any_other_text_is_bad_request_where_it_is_rejected(serve, connect, sent):
    server = await serve(plain_text="reject")
    client, other = await connect(server), await connect(server)
    assert await error_of(client, text(sent)) == "bad_request"
    await other.fence()


async def test_what_is_understood_is_not_rejected(serve, connect):
    client = await connect(await serve(plain_text="reject"))
    assert await error_of(client, {"a": 1, "id": 3}, 3) == "bad_request"
    await client.send({"message": 1})
    assert (await client.receive())["type"] == "message"


@pytest.mark.parametrize("policy", ["broadcast", "reject"])
async def test_empty_text_is_bad_request(serve, connect, policy):
    server = await serve(plain_text=policy)
    client, other = await connect(server), await connect(server)
    assert await error_of(client, text("")) == "bad_request"
    await client.send(frame(TEXT, fin=False), frame(CONTINUATION))
    assert (await client.receive())["code"] == "bad_request"
    await other.fence()


# --- Private messages


async def test_private_message_reaches_its_receiver_alone(server, connect, pair):
    one, two = pair
    three = await connect(server)
    await one.send({"to": two.id, "message": "psst", "id": 1})
    assert await one.receive_text() == '{"type":"ack","id":1,"delivered":1}'
    assert await two.receive_text() == (
        '{"type":"private","client_id":"%s","message":"psst"}' % one.id
    )
    await three.fence()
    await one.fence()


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_payload_of_a_private_message_is_passed_byte_for_byte(pair, payload):
    one, two = pair
    await one.send(text('{"to":"%s","message":%s}' % (two.id, payload)))
    expected = '{"type":"private","client_id":"%s","message":%s}' % (one.id, payload)
    assert await two.receive_text() == expected


async def test_private_message_to_oneself_is_delivered(pair):
    one, two = pair
    await one.send({"to": one.id, "message": 1})
    assert await one.receive() == {"type": "private", "client_id": one.id, "message": 1}
    await two.fence()


@pytest.mark.parametrize("receiver", ["AAAAAAAAAAAAAAAA", "", "x" * 10_000, "é", "null"])
async def test_private_message_to_nobody_is_unknown_client(pair, receiver):
    one, two = pair
    sent = {"to": receiver, "message": "secret", "id": "p"}
    assert await error_of(one, sent, "p") == "unknown_client"
    await two.fence()


async def test_private_message_to_somebody_who_left_is_unknown_client(server, pair):
    one, two = pair
    await two.send(close(1000))
    await two.receive_close()
    assert await error_of(one, {"to": two.id, "message": 1}) == "unknown_client"


@pytest.mark.parametrize(
    "sent",
    [
        {"to": None, "message": "secret"},
        {"to": 5, "message": "secret"},
        {"to": True, "message": "secret"},
        {"to": ["A"], "message": "secret"},
        {"to": {}, "message": "secret"},
        {"to": "AAAAAAAAAAAAAAAA"},
        {"to": None},
        {"to": 5, "message": "secret", "channel": 5},
    ],
)
async def test_private_message_that_is_no_good_is_bad_request_and_never_told(pair, sent):
    one, two = pair
    assert await error_of(one, sent) == "bad_request"
    assert await error_of(one, {**sent, "id": 1}, 1) == "bad_request"
    await two.fence()


@pytest.mark.parametrize(
    "sent",
    [
        '{"to":"%s","message":"secret \\ud83d"}',
        '{"to":"%s","message":"secret","token":"\\ud83d"}',
        '{"to":"\\ud83d","message":"secret"}',
        '{"token":5,"to":"%s","message":"secret \\ud83d"}',
        '{"to":5,"message":"secret \\ud83d"}',
    ],
)
async def test_private_message_with_half_a_surrogate_pair_is_not_told_to_others(
    server, connect, pair, sent
):
    one, two = pair
    three = await connect(server)
    await one.send(text(sent.replace("%s", two.id)))
    await one.send({"ping": 1, "id": "sent"})
    while (await one.receive()).get("id") != "sent":
        pass
    await three.fence()


@pytest.mark.parametrize(
    "half", ['"\\ud83d"', '"\\uDE00 x"', '["\\\\\\ud83d\\u0041"]', '{"\\ud83d":1}']
)
async def test_half_a_surrogate_pair_is_passed_byte_for_byte_too(pair, half):
    one, two = pair
    await one.send(text('{"to":"%s","message":%s}' % (two.id, half)))
    expected = '{"type":"private","client_id":"%s","message":%s}' % (one.id, half)
    assert await two.receive_text() == expected


# --- Channels


async def test_channel_message_reaches_its_subscribers(server, connect, pair):
    one, two = pair
    three = await connect(server)
    for client in (one, two):
        await client.send({"event": "subscribe", "channel": "chat"})
        await client.fence()
    await one.send({"event": "message", "channel": "chat", "data": "Halo"})
    expected = '{"type":"channel","channel":"chat","data":"Halo","client_id":"%s"}' % one.id
    assert await one.receive_text() == expected
    assert await two.receive_text() == expected
    await three.fence()


async def test_sender_need_not_be_a_subscriber_and_then_gets_no_copy(pair):
    one, two = pair
    await two.ask({"event": "subscribe", "channel": "chat"})
    answer = await one.ask({"event": "message", "channel": "chat", "data": 1})
    assert answer == {"type": "ack", "id": "fence", "delivered": 1}
    assert (await two.receive())["data"] == 1


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_payload_of_a_channel_message_is_passed_byte_for_byte(pair, payload):
    one, two = pair
    await two.ask({"event": "subscribe", "channel": "c"})
    await one.send(text('{"event":"message","channel":"c","data":%s}' % payload))
    expected = '{"type":"channel","channel":"c","data":%s,"client_id":"%s"}' % (payload, one.id)
    assert await two.receive_text() == expected


async def test_channel_message_without_subscribers_is_delivered_to_none(pair):
    one, _ = pair
    answer = await one.ask({"event": "message", "channel": "nobody", "data": 1})
    assert answer == {"type": "ack", "id": "fence", "delivered": 0}


async def test_subscribing_is_acknowledged_with_the_channel_a_second_time_too(server, pair):
    one, _ = pair
    for _ in range(2):
        answer = await one.ask({"event": "subscribe", "channel": "chat"})
        assert answer == {"type": "ack", "id": "fence", "channel": "chat"}
    assert server.channels == {"chat": 1}
    await one.send({"event": "message", "channel": "chat", "data": 1})
    assert (await one.receive())["data"] == 1
    await one.fence()


async def test_unsubscribing_ends_it_and_is_a_success_where_there_was_nothing(server, pair):
    one, two = pair
    await one.ask({"event": "subscribe", "channel": "chat"})
    for _ in range(2):
        answer = await one.ask({"event": "unsubscribe", "channel": "chat"})
        assert answer == {"type": "ack", "id": "fence", "channel": "chat"}
    assert server.channels == {}
    assert (await two.ask({"event": "message", "channel": "chat", "data": 1}))["delivered"] == 0
    await one.fence()


async def test_channels_are_told_apart_by_every_byte(pair):
    one, two = pair
    for channel in ["chat", "Chat", "chat ", "1", "1e0", "é", "e\u0301"]:
        await one.ask({"event": "subscribe", "channel": channel})
        await two.send({"event": "message", "channel": channel, "data": 1})
        assert (await one.receive())["channel"] == channel
        await one.ask({"event": "unsubscribe", "channel": channel})
    await one.ask({"event": "subscribe", "channel": "chat"})
    assert (await two.ask({"event": "message", "channel": "chat ", "data": 1}))["delivered"] == 0


GOOD_CHANNELS = ["c", " ", "a" * 255, "é" * 127, "😀" * 63, 'a"b\\c/', "</script>", "\u200b\u2028"]
BAD_CHANNELS = ["", "a" * 256, "é" * 128, "a\0b", "a\nb", "\x1f", "\x7f", "\x80", "\x9f", "é\x85"]


@pytest.mark.parametrize("channel", GOOD_CHANNELS)
async def test_channel_of_1_to_255_bytes_without_control_characters_is_good(pair, channel):
    one, two = pair
    answer = await one.ask({"event": "subscribe", "channel": channel})
    assert answer == {"type": "ack", "id": "fence", "channel": channel}
    await two.send({"event": "message", "channel": channel, "data": 1})
    assert (await one.receive())["channel"] == channel


@pytest.mark.parametrize("event", ["subscribe", "unsubscribe", "message"])
@pytest.mark.parametrize("channel", [*BAD_CHANNELS, None, 5, True, ["chat"], {}, 1.0])
async def test_other_channel_is_bad_request(server, connect, event, channel):
    client = await connect(server)
    sent = {"event": event, "channel": channel, "data": 1}
    assert await error_of(client, sent) == "bad_request"
    assert await error_of(client, {**sent, "id": 1}, 1) == "bad_request"
    assert server.channels == {}


@pytest.mark.parametrize(
    "sent",
    [
        {"event": "subscribe"},
        {"event": "unsubscribe"},
        {"event": "message", "channel": "chat"},
        {"event": "message", "data": 1},
        {"event": "message"},
        {"event": None},
        {"event": 5},
        {"event": True, "channel": "chat"},
        {"event": ["subscribe"], "channel": "chat"},
        {"event": None, "message": "Halo"},
    ],
)
async def test_event_with_a_key_missing_or_of_the_wrong_type_is_bad_request(pair, sent):
    one, two = pair
    assert await error_of(one, sent) == "bad_request"
    assert await error_of(one, {**sent, "id": "x"}, "x") == "bad_request"
    await two.fence()


@pytest.mark.parametrize("event", ["", "Subscribe", "publish", "x" * 10_000, "message "])
async def test_other_event_is_unknown_event_and_not_broadcast(pair, event):
    one, two = pair
    assert await error_of(one, {"event": event, "message": "Halo", "id": 1}, 1) == "unknown_event"
    await two.fence()


async def test_too_many_channels_are_refused_and_the_others_stay(serve, connect):
    server = await serve(max_channels_per_client=2)
    client, other = await connect(server), await connect(server)
    for channel in ["a", "b", "a"]:
        assert (await client.ask({"event": "subscribe", "channel": channel}))["type"] == "ack"
    sent = {"event": "subscribe", "channel": "c", "id": 1}
    assert await error_of(client, sent, 1) == "too_many_channels"
    assert (await other.ask({"event": "subscribe", "channel": "c"}))["type"] == "ack"
    await client.ask({"event": "unsubscribe", "channel": "a"})
    assert (await client.ask({"event": "subscribe", "channel": "c"}))["type"] == "ack"
    assert server.channels == {"b": 1, "c": 2}


async def test_subscriptions_end_with_the_connection(server, connect):
    client, other = await connect(server), await connect(server)
    await client.ask({"event": "subscribe", "channel": "chat"})
    await other.ask({"event": "subscribe", "channel": "chat"})
    await client.send(close(1000))
    await client.receive_close()
    assert (await other.ask({"event": "message", "channel": "x", "data": 1}))["delivered"] == 0
    assert server.channels == {"chat": 1}


# --- Ping


@pytest.mark.parametrize("value", ["1", "null", "false", "{}", '"x"', "[[]]"])
async def test_ping_is_not_answered_without_id_and_a_pong_with_one(pair, value):
    one, two = pair
    await one.send(text('{"ping":%s}' % value))
    await one.fence()
    await one.send(text('{"ping":%s,"id":"p"}' % value))
    assert await one.receive_text() == '{"type":"pong","id":"p"}'
    await two.fence()


# --- Which row decides


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        ({"ping": 1, "command": "x", "event": "x", "to": "x", "message": 1}, "pong"),
        ({"command": "x", "event": "subscribe", "channel": "c"}, "unknown_command"),
        ({"command": None, "message": 1}, "bad_request"),
        ({"command": "x", "to": "x", "message": 1}, "unknown_command"),
        ({"event": "x", "to": "x", "message": 1}, "unknown_event"),
        ({"event": "subscribe", "channel": "c", "to": "x", "message": 1}, "ack"),
        ({"to": "x", "message": 1}, "unknown_client"),
    ],
)
async def test_first_row_that_fits_decides(pair, sent, answer):
    one, two = pair
    answered = await one.ask(sent)
    assert answer in (answered["type"], answered.get("code"))
    await one.fence()
    await two.fence()


async def test_order_of_keys_does_not_matter(pair):
    one, two = pair
    sent = '{"message":1,"id":1,"channel":"c","data":2,"event":"subscribe","ping":0}'
    await one.send(text(sent))
    assert await one.receive() == {"type": "pong", "id": 1}
    await two.fence()


# --- Ids


GOOD_IDS = [
    "0",
    "1",
    "-1",
    "-0",
    "9007199254740993",
    "18446744073709551616",
    "9" * 60,
    '""',
    '"x"',
    '"%s"' % ("x" * 64),
    '"%s"' % ("😀" * 64),
    '"\\u00e9\\n\\""',
    '"%s"' % ("\\u00e9" * 64),
    '"é"',
    '"1"',
]
BAD_IDS = [
    "null",
    "true",
    "1.0",
    "1e2",
    "-0.0",
    "[]",
    "{}",
    "[1]",
    '"%s"' % ("x" * 65),
    '"%s"' % ("\\u00e9" * 65),
]


@pytest.mark.parametrize("request_id", GOOD_IDS)
async def test_id_comes_back_as_it_was_written(pair, request_id):
    one, _ = pair
    await one.send(text('{"ping":1,"id":%s}' % request_id))
    assert await one.receive_text() == '{"type":"pong","id":%s}' % request_id
    await one.send(text('{"id":%s,"event":"subscribe","channel":"c"}' % request_id))
    assert await one.receive_text() == '{"type":"ack","id":%s,"channel":"c"}' % request_id
    await one.send(text('{"event":"x","id":%s}' % request_id))
    start = '{"type":"error","id":%s,"code":"unknown_event",' % request_id
    assert (await one.receive_text()).startswith(start)


@pytest.mark.parametrize("request_id", BAD_IDS)
@pytest.mark.parametrize(
    "sent",
    [
        '"ping":1',
        '"message":"secret"',
        '"event":"subscribe","channel":"c"',
        '"command":"broadcast","message":1',
        '"a":1',
    ],
)
async def test_other_id_is_bad_request_and_nothing_is_done(server, pair, sent, request_id):
    one, two = pair
    assert await error_of(one, text('{"id":%s,%s}' % (request_id, sent))) == "bad_request"
    assert server.channels == {}
    await two.fence()


async def test_integer_of_any_length_as_id_is_answered_once(pair):
    one, _ = pair
    for digits in (64, 5000):
        await one.send(text('{"ping":1,"id":%s}' % ("9" * digits)))
        answer = await one.receive_text()
        if '"type":"error"' in answer:
            assert '"code":"bad_request"' in answer
        else:
            assert answer == '{"type":"pong","id":%s}' % ("9" * digits)
        await one.fence()


async def test_errors_are_sent_without_an_id_too(pair):
    one, _ = pair
    assert await error_of(one, {"event": "x"}) == "unknown_event"
    assert await error_of(one, {"command": "x"}) == "unknown_command"
    assert await error_of(one, {"to": "x", "message": 1}) == "unknown_client"
    assert await error_of(one, {"event": "subscribe"}) == "bad_request"


async def test_nothing_is_acknowledged_without_an_id(pair):
    one, two = pair
    await one.send({"event": "subscribe", "channel": "c"})
    await one.send({"event": "unsubscribe", "channel": "c"})
    await one.send({"event": "message", "channel": "c", "data": 1})
    await one.send({"to": two.id, "message": 1})
    await one.send({"command": "private_message", "to": two.id, "message": 1})
    await one.fence()


# --- Depth


@pytest.mark.parametrize("opening", ['{"message":', '{"channel":5,"message":', '{"a":'])
@pytest.mark.parametrize("depth", [2_000, 100_000])
async def test_deep_nesting_is_no_danger(pair, opening, depth):
    one, two = pair
    await one.send(text(opening + "[" * depth + "]" * depth + "}"))
    answer = await one.receive()
    assert answer["type"] in ("message", "error")
    if answer["type"] == "message":
        await two.receive()
    await one.fence()
    await two.fence()


async def test_payload_of_some_depth_is_passed(pair):
    one, two = pair
    payload = '[{"a":' * 200 + "1" + "}]" * 200
    await one.send(text('{"message":%s}' % payload))
    assert (await two.receive_text()).endswith(payload + "}")


# --- Binary


async def test_binary_message_is_unsupported_without_a_hook(pair):
    one, two = pair
    assert await error_of(one, frame(BINARY, b'{"message":1}')) == "unsupported_binary"
    assert await error_of(one, frame(BINARY, b"\xff\x00")) == "unsupported_binary"
    assert await error_of(one, frame(BINARY)) == "unsupported_binary"
    await two.fence()


# --- Order


async def test_what_one_client_sends_reaches_each_recipient_in_that_order(pair):
    one, two = pair
    await two.ask({"event": "subscribe", "channel": "c"})
    sent = []
    for n in range(0, 3000, 3):
        sent.append(text({"message": n}))
        sent.append(text({"event": "message", "channel": "c", "data": n + 1}))
        sent.append(text({"to": two.id, "message": n + 2}))
    await one.send(b"".join(sent))
    received = [await two.receive() for _ in range(3000)]
    assert [each.get("data", each.get("message")) for each in received] == list(range(3000))


async def test_answers_come_in_the_order_of_the_requests(pair):
    one, _ = pair
    await one.send(b"".join(text({"ping": 1, "id": n}) for n in range(1000)))
    assert [(await one.receive())["id"] for _ in range(1000)] == list(range(1000))


async def test_subscribing_holds_from_the_next_message_on(pair):
    one, _ = pair
    publish = {"event": "message", "channel": "c"}
    await one.send(
        text({**publish, "data": 1})
        + text({"event": "subscribe", "channel": "c"})
        + text({**publish, "data": 2})
        + text({"event": "unsubscribe", "channel": "c"})
        + text({**publish, "data": 3})
    )
    assert (await one.receive())["data"] == 2
    await one.fence()
