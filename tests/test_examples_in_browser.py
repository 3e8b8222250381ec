"""The examples in headless Chromium, the chat being used as people use it."""

from __future__ import annotations

import signal
import subprocess
import sys
import zoneinfo
from pathlib import Path

import pytest
from playwright.sync_api import expect

pytest_plugins = ["browser"]

CHAT = Path(__file__).parent.parent / "examples" / "chat.py"
TIMEOUT_S = 15


# --- hooks.py --------------------------------------------------------------------------------


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


# --- chat.py ----------------------------------------------------------------------------------


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
    return launch(CHAT, "--port", "0", "--page-port", "0", urls=2)


@pytest.fixture
def enter(new_page, chat):
    """Open the chat page as one more person."""

    def open_page():
        page = new_page()
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
        [sys.executable, CHAT, "--port", "0", "--page-port", port],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert second.returncode == 1
    assert second.stderr.startswith("chat.py: ")
    assert second.stderr.count("\n") == 1
