"""
Headless Chromium as the client: the manual's JavaScript as written, and the chat example.

The servers run in processes of their own, as users start them. Skipped where there is no
Chromium, but not in CI.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zoneinfo
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parent.parent
PAGES = Path(__file__).parent / "pages"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
# No sandbox: CI runs as root. No traffic but the tests' own.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("RAKIT_WS_")}
TIMEOUT_S = 15
MIB = 1 << 20

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true",
    reason="there is no Chromium on this machine",
)


# --- Servers and pages ------------------------------------------------------------------------


class Process:
    """A server in a process of its own; `addresses` are the URLs that it printed so far."""

    def __init__(self, *command, urls, **environment):
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**ENVIRONMENT, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed = []
        self.urls = []
        for line in self._process.stdout:
            self.printed.append(line)
            self.urls += re.findall(r"(?:ws|http)://[\w.:]+", line)
            if len(self.urls) == urls:
                break
        else:
            pytest.fail(f"never said where it listens: {''.join(self.printed)}")
        # What else it says must not fill the pipe.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with self._process.stdout as lines:
            self.printed.extend(lines)

    @property
    def address(self):
        return self.urls[0].removeprefix("ws://")

    def end(self, number=signal.SIGTERM):
        self._process.send_signal(number)
        self._reader.join(TIMEOUT_S)
        return self._process.wait(TIMEOUT_S)


@pytest.fixture
def launch():
    """Start servers that end with the test; one that logged an error fails it."""
    with contextlib.ExitStack() as stack:

        def start(*command, urls=1, **environment):
            process = Process(*command, urls=urls, **environment)
            stack.callback(end, process)
            return process

        yield start


def end(process):
    process.end(signal.SIGKILL)
    assert not [line for line in process.printed if re.search("(?i)error|traceback", line)]


@pytest.fixture
def run(launch):
    """Start `python -m rakit_ws run` with settings from the environment."""
    return partial(launch, "-m", "rakit_ws", "run", "--port", "0")


@pytest.fixture(scope="module")
def chromium():
    """Start the browser, for all tests here: as long as it runs no asyncio loop can."""
    if CHROMIUM is None:
        pytest.fail("there is no Chromium on this machine, and in CI there must be")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def browser(chromium):
    """Open pages that are closed with the test; an uncaught exception in one fails it."""
    faults = []
    with chromium.new_context() as context:
        context.set_default_timeout(TIMEOUT_S * 1000)
        context.on("weberror", lambda fault: faults.append(fault.error))
        yield context
    assert faults == []


class Site(ThreadingHTTPServer):
    """Serves tests/pages; the manual's address in them becomes that of `websocket`."""

    websocket = ""

    @property
    def origin(self):
        return f"http://127.0.0.1:{self.server_port}"


class SiteHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        page = (PAGES / self.path[1:]).read_text().replace("127.0.0.1:6001", self.server.websocket)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    with Site(("127.0.0.1", 0), SiteHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def visit(browser, site):
    """Open a page of tests/pages that connects to a server."""

    def open_page(name, server):
        site.websocket = server.address
        page = browser.new_page()
        page.goto(f"{site.origin}/{name}")
        return page

    return open_page


class Client:
    """A page with the manual's client; `id` is what the server calls it."""

    def __init__(self, page):
        self.page = page
        self.id = self.receive(type="welcome")["client_id"]

    def type(self, line):
        """Run a line of JavaScript, as one types it into the console."""
        self.page.evaluate(f"() => {{ {line} }}")

    def receive(self, **expected):
        """Wait for the first message with these values, take it out and return it."""
        return self.page.wait_for_function(
            """(expected) => {
                const fits = (message) => Object.entries(expected).every(
                    ([key, value]) => JSON.stringify(message[key]) === JSON.stringify(value));
                const index = received.findIndex(fits);
                return index >= 0 && received.splice(index, 1)[0];
            }""",
            arg=expected,
        ).json_value()

    def receive_presence(self, count):
        return self.receive(type="presence", count=count)

    def rest(self):
        """
        Return what has come and was not taken yet, without presence.

        The answer to a message of its own comes behind everything that was sent to it before.
        """
        self.type("ws.send(JSON.stringify({ ping: 1, id: 'fence' }));")
        self.receive(type="pong", id="fence")
        messages = self.page.evaluate("() => received.splice(0)")
        return [message for message in messages if message["type"] != "presence"]

    def closed(self):
        """Wait for the close event; return its code, its reason and whether it was clean."""
        event = self.page.wait_for_function("() => closed").json_value()
        return event["code"], event["reason"], event["clean"]


@pytest.fixture
def join(visit):
    """Open pages with the manual's client, connected to a server."""
    return lambda server: Client(visit("client.html", server))


@pytest.fixture
def server(run):
    return run()


@pytest.fixture
def pair(server, join):
    """Two pages that are connected to the same server."""
    return join(server), join(server)


# --- The manual: messages ---------------------------------------------------------------------


def test_basic_chat_greets_and_lists_who_is_online(server, browser, site):
    site.websocket = server.address
    first, second = browser.new_page(), browser.new_page()

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


# --- The example with hooks -------------------------------------------------------------------


@pytest.fixture
def hooked(launch):
    """Start the server of examples/hooks.py."""
    return launch("-m", "rakit_ws", "run", "--port", "0", "--app", "examples.hooks:server")


def test_connect_hook_tells_the_lobby(hooked, join):
    ani = join(hooked)
    budi = join(hooked)
    assert ani.receive(type="channel")["data"] == {"joined": budi.id}
    budi.page.close()
    assert ani.receive(type="channel")["data"] == {"left": budi.id}


def test_receive_hook_takes_binary_messages_over(hooked, join):
    client = join(hooked)
    client.type("ws.send(new Uint8Array(3000));")
    assert client.receive(type="private")["message"] == {"received_bytes": 3000}


@pytest.mark.skipif(
    "Asia/Jakarta" not in zoneinfo.available_timezones(), reason="no time zones on this machine"
)
def test_command_of_the_application_answers_its_id(hooked, join):
    client = join(hooked)
    client.type('ws.send(JSON.stringify({ command: "time", zone: "Asia/Jakarta", id: 1 }));')
    result = client.receive(type="ack", id=1)["result"]
    assert result["zone"] == "Asia/Jakarta"
    assert result["time"].endswith("+07:00")


# --- The chat example, used as people use it --------------------------------------------------


class Person:
    """Somebody in front of the chat page. What is looked for is what is written on it."""

    def __init__(self, page):
        self.page = page
        self.sees_state("Connected")
        you = page.locator("#people li", has_text="(you)")
        self.name = you.locator(".name").inner_text().removesuffix(" (you)")

    def writes(self, text):
        box = self.page.get_by_label("Your message")
        box.fill(text)
        self.page.get_by_role("button", name="Send").click()

    def opens(self, name):
        self.page.get_by_role("navigation").get_by_role("button", name=name).click()

    def joins(self, channel):
        self.page.get_by_label("Name of a channel to join").fill(channel)
        self.page.get_by_label("Name of a channel to join").press("Enter")
        self.sees_title(f"#{channel}")

    def sees(self, *texts):
        """Wait until exactly these messages stand there, oldest first."""
        expect(self.page.locator("#messages .text")).to_have_text(list(texts))

    def sees_title(self, text):
        expect(self.page.locator("#title")).to_have_text(text)

    def sees_state(self, text):
        expect(self.page.get_by_role("status")).to_contain_text(text, timeout=TIMEOUT_S * 1000)

    def sees_people(self, *names):
        expect(self.page.locator("#people .name")).to_have_text(list(names))

    def sees_new(self, name, count):
        """Wait until a conversation says that it has this many unread messages."""
        row = self.page.locator("nav li", has_text=name)
        expect(row.locator(".unread")).to_have_text([str(count)] if count else [])


@pytest.fixture
def chat(launch):
    return launch("examples/chat.py", "--port", "0", "--page-port", "0", urls=2)


@pytest.fixture
def enter(browser, chat):
    """Open the chat page as one more person."""

    def open_page():
        page = browser.new_page()
        page.goto(chat.urls[1])
        return Person(page)

    return open_page


def test_people_in_the_chat_talk_to_everyone(enter):
    ani, budi = enter(), enter()
    ani.writes("Selamat pagi!")
    budi.sees("Selamat pagi!")
    budi.writes("Pagi 🦜\nApa kabar?")
    ani.sees("Selamat pagi!", "Pagi 🦜\nApa kabar?")
    expect(ani.page.locator("#messages .mine .text")).to_have_text(["Selamat pagi!"])
    expect(ani.page.locator("#messages .by").nth(1)).to_contain_text(budi.name)


def test_markup_in_the_chat_is_shown_as_text(enter):
    ani, budi = enter(), enter()
    markup = "<img src=x onerror=document.title='gone'><b>bold</b>"
    ani.writes(markup)
    budi.sees(markup)
    assert budi.page.locator("#messages").locator("img, b").count() == 0
    assert budi.page.title() == "Chat"


def test_chat_lists_people_as_they_come_and_go(enter):
    ani = enter()
    ani.sees_people(f"{ani.name} (you)")
    budi = enter()
    ani.sees_people(f"{ani.name} (you)", budi.name)
    budi.sees_people(ani.name, f"{budi.name} (you)")
    budi.page.close()
    ani.sees_people(f"{ani.name} (you)")


def test_private_message_in_the_chat_is_seen_by_two(enter):
    ani, budi, citra = enter(), enter(), enter()
    ani.opens(budi.name)
    ani.writes("Hanya untukmu")
    ani.sees("Hanya untukmu")
    budi.sees_new(ani.name, 1)
    budi.opens(ani.name)
    budi.sees("Hanya untukmu")
    budi.sees_new(ani.name, 0)
    budi.writes("Terima kasih")
    ani.sees("Hanya untukmu", "Terima kasih")
    expect(citra.page.locator(".unread")).to_have_count(0)
    citra.sees()


def test_person_who_has_gone_cannot_be_written_to(enter):
    ani, budi = enter(), enter()
    ani.opens(budi.name)
    ani.writes("Halo")
    ani.sees("Halo")
    budi.page.close()
    ani.sees_people(f"{ani.name} (you)", f"{budi.name} (gone)")
    expect(ani.page.get_by_label("Your message")).to_be_disabled()
    ani.sees("Halo")


def test_channel_in_the_chat_is_heard_until_it_is_left(enter):
    ani, budi = enter(), enter()
    ani.joins("catur")
    budi.joins("catur")
    ani.writes("Main?")
    budi.sees("Main?")
    ani.opens("Everyone")
    budi.writes("Ayo!")
    ani.sees_new("catur", 1)
    ani.opens("catur")
    ani.sees("Main?", "Ayo!")
    ani.page.get_by_role("button", name="Leave channel").click()
    ani.sees_title("Everyone")
    budi.writes("Halo?")
    budi.sees("Main?", "Ayo!", "Halo?")
    ani.writes("Sampai jumpa")
    ani.sees("Sampai jumpa")
    expect(ani.page.locator("#channels .name")).to_have_text(["Everyone"])


def test_chat_page_comes_back_when_the_server_does(enter, chat, launch):
    ani = enter()
    ani.joins("catur")
    assert chat.end(signal.SIGTERM) == 0
    ani.sees_state("The server is restarting. Trying again in")
    expect(ani.page.get_by_label("Your message")).to_be_disabled()
    launch("-m", "rakit_ws", "run", "--port", chat.address.rpartition(":")[2])
    ani.sees_state("Connected")
    # It has joined its channel again: a message there comes back to it.
    ani.writes("Masih di sini")
    ani.sees("Masih di sini")


def test_chat_page_that_was_disconnected_waits_for_its_person(chat, enter, join):
    ani = enter()
    operator = join(chat)
    users = operator.receive_presence(2)["users"]
    target = next(user["id"] for user in users if user["id"] != operator.id)
    operator.type(f'ws.send(JSON.stringify({{ command: "disconnect", client_id: "{target}" }}));')
    ani.sees_state("You were disconnected.")
    expect(ani.page.get_by_role("status")).not_to_contain_text("Trying again")
    ani.page.get_by_role("button", name="Connect now").click()
    ani.sees_state("Connected")


def test_chat_page_fits_a_phone(enter):
    ani = enter()
    ani.page.set_viewport_size({"width": 360, "height": 640})
    ani.writes("kata-yang-sangat-panjang" * 20)
    ani.sees("kata-yang-sangat-panjang" * 20)
    overflow = "() => document.documentElement.scrollWidth - innerWidth"
    assert ani.page.evaluate(overflow) <= 0
    ani.page.get_by_role("button", name="Conversations").click()
    ani.joins("catur")
    expect(ani.page.get_by_label("Your message")).to_be_visible()


def test_page_port_in_use_is_one_line(chat):
    port = chat.urls[1].strip("/").rpartition(":")[2]
    second = subprocess.run(
        [sys.executable, "examples/chat.py", "--port", "0", "--page-port", port],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert second.returncode == 1
    assert second.stderr.startswith("chat.py: ")
    assert second.stderr.count("\n") == 1
