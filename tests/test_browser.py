"""The framework's manual in headless Chromium: its JavaScript as written, in pages that meet."""

from __future__ import annotations

import signal

import pytest

pytest_plugins = ["browser"]


@pytest.fixture
def server(run):
    return run()


@pytest.fixture
def pair(server, join):
    """Two pages that are connected to the same server."""
    return join(server), join(server)


# --- The manual: messages ---------------------------------------------------------------------


def test_basic_chat_greets_and_lists_who_is_online(server, new_page, site):
    site.websocket = server.address
    first, second = new_page(), new_page()

    def prints(page, text):
        return page.expect_console_message(lambda line: line.text == text)

    with prints(first, "online: 1"), prints(first, "message: Halo semua!"):
        first.goto(f"{site.origin}/chat.html")
    with (
        prints(first, "online: 2"),
        prints(first, "message: Halo semua!"),
        prints(second, "online: 2"),
        prints(second, "message: Halo semua!"),
    ):
        second.goto(f"{site.origin}/chat.html")


def test_broadcast_reaches_both_pages(pair):
    ani, budi = pair
    ani.type('ws.send(JSON.stringify({ message: "Halo semua!" }));')
    expected = {"type": "message", "client_id": ani.id, "message": "Halo semua!"}
    assert ani.receive(type="message") == expected
    assert budi.receive(type="message") == expected


def test_private_message_reaches_its_receiver_alone(pair):
    ani, budi = pair
    ani.type(f'ws.send(JSON.stringify({{ to: "{budi.id}", message: "Halo!" }}));')
    assert budi.receive(type="private") == {
        "type": "private",
        "client_id": ani.id,
        "message": "Halo!",
    }
    assert ani.rest() == []


def test_channel_message_reaches_subscribers_alone(server, join, pair):
    ani, budi = pair
    citra = join(server)
    for client in (ani, budi):
        client.type('ws.send(JSON.stringify({ event: "subscribe", channel: "chat" }));')
        client.rest()
    ani.type(
        'ws.send(JSON.stringify({ event: "message", channel: "chat", data: "Halo channel!" }));'
    )
    expected = {
        "type": "channel",
        "channel": "chat",
        "data": "Halo channel!",
        "client_id": ani.id,
    }
    assert ani.receive(type="channel") == expected
    assert budi.receive(type="channel") == expected
    assert citra.rest() == []


def test_unsubscribed_page_hears_the_channel_no_more(pair):
    ani, budi = pair
    budi.type('ws.send(JSON.stringify({ event: "subscribe", channel: "chat" }));')
    budi.type('ws.send(JSON.stringify({ event: "unsubscribe", channel: "chat", id: 1 }));')
    budi.receive(type="ack", id=1)
    ani.type('ws.send(JSON.stringify({ event: "message", channel: "chat", data: 1, id: 2 }));')
    assert ani.receive(type="ack", id=2)["delivered"] == 0
    assert budi.rest() == []


# --- The manual: the five commands ------------------------------------------------------------


def test_command_broadcast_speaks_for_the_server(pair):
    ani, budi = pair
    ani.type('ws.send(JSON.stringify({ command: "broadcast", message: "Pesan server" }));')
    expected = {"type": "broadcast", "message": "Pesan server"}
    assert ani.receive(type="broadcast") == expected
    assert budi.receive(type="broadcast") == expected


def test_command_disconnect_closes_the_other_page_with_4000(pair):
    ani, budi = pair
    ani.type(f'ws.send(JSON.stringify({{ command: "disconnect", client_id: "{budi.id}" }}));')
    assert budi.closed() == (4000, "disconnected by command", True)
    assert ani.receive_presence(1)["users"][0]["id"] == ani.id


def test_command_presence_sends_a_fresh_one_to_everyone(pair):
    ani, budi = pair
    for client in pair:
        client.receive_presence(2)
        client.rest()
    ani.type('ws.send(JSON.stringify({ command: "presence" }));')
    assert ani.receive_presence(2) == budi.receive_presence(2)


def test_command_broadcast_to_channel_reaches_subscribers(pair):
    ani, budi = pair
    budi.type('ws.send(JSON.stringify({ event: "subscribe", channel: "chat" }));')
    budi.rest()
    ani.type(
        "ws.send(JSON.stringify("
        '{ command: "broadcast_to_channel", channel: "chat", message: "Pesan" }));'
    )
    assert budi.receive(type="channel") == {"type": "channel", "channel": "chat", "data": "Pesan"}
    assert ani.rest() == []


def test_command_private_message_reaches_its_receiver_alone(pair):
    ani, budi = pair
    ani.type(
        "ws.send(JSON.stringify("
        f'{{ command: "private_message", to: "{budi.id}", message: "Pesan" }}));'
    )
    assert budi.receive(type="private") == {"type": "private", "message": "Pesan"}
    assert ani.rest() == []


def test_commands_are_forbidden_to_a_page_where_only_operators_may(run, join):
    client = join(run(RAKIT_WS_COMMAND_ACCESS="operators", RAKIT_WS_OPERATOR_TOKEN="rahasia"))
    client.type('ws.send(JSON.stringify({ command: "broadcast", message: "x" }));')
    assert client.receive(type="error")["code"] == "forbidden"
    client.type('ws.send(JSON.stringify({ event: "auth", token: "rahasia" }));')
    client.type('ws.send(JSON.stringify({ command: "broadcast", message: "x" }));')
    client.receive(type="broadcast", message="x")


def test_console_of_the_servers_own_address_may_command_and_an_empty_tab_may_not(server, new_page):
    connect = """(url) => new Promise((resolve) => {
        const ws = new WebSocket(url);
        ws.onopen = () => ws.send(JSON.stringify({ command: "broadcast", message: "x", id: 1 }));
        ws.onmessage = (event) => {
            const answer = JSON.parse(event.data);
            if (answer.id) resolve(answer.code ?? answer.type);
        };
        ws.onclose = (event) => resolve(event.code);
    })"""
    page = new_page()
    page.goto(f"http://{server.address}/")
    assert page.inner_text("body").strip() == "this is a WebSocket server"
    assert page.evaluate(connect, server.urls[0]) == "ack"
    assert new_page().evaluate(connect, server.urls[0]) == "forbidden"


# --- The manual: presence ---------------------------------------------------------------------


def test_presence_lists_pages_as_they_come_and_go(pair):
    ani, budi = pair
    presence = budi.receive_presence(2)
    assert [user["id"] for user in presence["users"]] == [ani.id, budi.id]
    for user in presence["users"]:
        assert list(user) == ["id", "name", "email", "connected_at"]
        assert (user["name"], user["email"]) == ("Guest", None)
        assert abs(user["connected_at"] - ani.page.evaluate("Date.now() / 1000")) < 60
    budi.page.close()
    assert [user["id"] for user in ani.receive_presence(1)["users"]] == [ani.id]


# --- What a browser sees of the end -----------------------------------------------------------


def test_stopping_server_closes_with_1001_and_exits_with_0(server, pair):
    assert server.end(signal.SIGTERM) == 0
    assert [client.closed() for client in pair] == [(1001, "the server stops", True)] * 2


def test_killed_server_is_seen_as_1006(server, join):
    client = join(server)
    server.end(signal.SIGKILL)
    assert client.closed() == (1006, "", False)


def test_message_over_the_limit_is_closed_with_1009(run, join):
    client = join(run(RAKIT_WS_MAX_BUFFER_SIZE="1000"))
    client.type('ws.send(JSON.stringify({ message: "x".repeat(1000) }));')
    code, reason, clean = client.closed()
    assert (code, clean) == (1009, True)
    assert reason


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("ws.close()", (1005, "", True)),
        ("ws.close(1000)", (1000, "", True)),
        ("ws.close(4321, 'sampai jumpa')", (4321, "", True)),
    ],
)
def test_close_of_the_page_is_answered_in_kind(server, join, call, expected):
    client = join(server)
    client.type(call)
    assert client.closed() == expected


def test_page_answers_pings_and_stays(run, join):
    client = join(run(RAKIT_WS_PING_INTERVAL="0.1", RAKIT_WS_PING_TIMEOUT="0.4"))
    client.page.wait_for_timeout(1500)
    assert client.rest() == []


def test_page_of_another_origin_is_refused(run, visit):
    page = visit("client.html", run(RAKIT_WS_ALLOWED_ORIGINS="https://example.com"))
    # A browser never tells a page why a handshake failed.
    assert page.wait_for_function("() => closed").json_value()["code"] == 1006
    assert page.evaluate("received") == []


def test_page_of_an_allowed_origin_is_let_in(run, join, site):
    join(run(RAKIT_WS_ALLOWED_ORIGINS=site.origin, RAKIT_WS_ORIGIN_REQUIRED="true"))


def test_subprotocol_is_agreed_on(run, join):
    client = join(run(RAKIT_WS_SUPPORTED_PROTOCOLS="rakit"))
    assert (
        client.page.evaluate(
            """() => new Promise((resolve) => {
            const other = new WebSocket(ws.url, ["chat", "rakit"]);
            other.onopen = () => resolve(other.protocol);
            other.onclose = () => resolve(null);
        })"""
        )
        == "rakit"
    )


# --- What a browser can send besides ----------------------------------------------------------


@pytest.mark.parametrize("chars", [125, 126, 65_535, 65_536, 1_000_000])
def test_message_of_any_length_arrives_whole(pair, chars):
    ani, budi = pair
    ani.type(f'ws.send(JSON.stringify({{ message: "x".repeat({chars - 1}) + "." }}));')
    assert budi.receive(type="message")["message"] == "x" * (chars - 1) + "."


def test_many_messages_arrive_in_order(pair):
    ani, budi = pair
    ani.type("for (let n = 0; n < 2000; n++) ws.send(JSON.stringify({ message: n }));")
    ani.type('ws.send(JSON.stringify({ message: "end" }));')
    budi.page.wait_for_function("() => received.at(-1).message === 'end'")
    messages = [each["message"] for each in budi.rest() if each["type"] == "message"]
    assert messages == [*range(2000), "end"]


@pytest.mark.parametrize(
    "text",
    [
        "Selamat pagi, é ß 漢字 🦜 👩\u200d👩\u200d👧",
        "\u202eאבג\u202c",
        "\u2028\u2029\0\x7f\ufeff",
        "</script>",
    ],
    ids=["scripts", "right-to-left", "separators", "markup"],
)
def test_text_arrives_as_it_was_typed(pair, text):
    ani, budi = pair
    ani.page.evaluate("(text) => ws.send(JSON.stringify({ message: text }))", text)
    assert budi.receive(type="message")["message"] == text


def test_channel_may_have_any_name(pair):
    ani, budi = pair
    name = 'obrolan "pagi" \\ 漢字 🦜'
    budi.page.evaluate(
        "(channel) => ws.send(JSON.stringify({ event: 'subscribe', channel }))", name
    )
    budi.rest()
    ani.page.evaluate(
        "(channel) => ws.send(JSON.stringify({ event: 'message', channel, data: null }))", name
    )
    assert budi.receive(type="channel") == {
        "type": "channel",
        "channel": name,
        "data": None,
        "client_id": ani.id,
    }


def test_object_arrives_equal(pair):
    ani, budi = pair
    data = {"list": [1, 2.5, -0.001, True, None, {}], "": "", "nested": {"a": {"b": ["c"]}}}
    ani.page.evaluate("(data) => ws.send(JSON.stringify({ message: data }))", data)
    assert budi.receive(type="message")["message"] == data


def test_plain_text_is_broadcast_as_a_string(pair):
    ani, budi = pair
    ani.type('ws.send("bukan JSON");')
    assert budi.receive(type="message")["message"] == "bukan JSON"


@pytest.mark.parametrize("data", ["new Uint8Array([1, 2, 3])", "new Blob(['{}'])"])
def test_binary_message_is_refused_and_the_page_stays(pair, data):
    ani, budi = pair
    ani.type(f"ws.send({data});")
    error = ani.receive(type="error")
    assert error["code"] == "unsupported_binary"
    assert error["message"]
    assert budi.rest() == []


def test_request_with_an_id_is_answered_once(server, join):
    client = join(server)
    client.type('ws.send(JSON.stringify({ message: "x", id: "pesan-1" }));')
    client.type('ws.send(JSON.stringify({ to: "nobody", message: "x", id: 2 }));')
    answers = [each for each in client.rest() if "id" in each]
    assert answers[0] == {"type": "ack", "id": "pesan-1", "delivered": 1}
    assert (answers[1]["id"], answers[1]["code"]) == (2, "unknown_client")
    assert len(answers) == 2
