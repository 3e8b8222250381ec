"""
What the tests with headless Chromium share: servers in processes of their own, pages, people.

A plugin of the test modules that name it in `pytest_plugins`. Where there is no Chromium they are
skipped, but not in CI.
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
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

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


# --- Servers ----------------------------------------------------------------------------------


class Process:
    """A server in a process of its own; `urls` are those that it printed so far."""

    def __init__(self, *command, urls, patience_s=TIMEOUT_S, **environment):
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
        self._said_enough = threading.Event()
        # What else it says must not fill the pipe.
        self._reader = threading.Thread(target=self._read, args=(urls,), daemon=True)
        self._reader.start()
        self._said_enough.wait(patience_s)
        if len(self.urls) < urls:
            self.end(signal.SIGKILL)
            pytest.fail(f"never said where it listens: {''.join(self.printed)}")

    def _read(self, urls):
        with self._process.stdout as lines:
            for line in lines:
                self.printed.append(line)
                if len(self.urls) < urls:
                    self.urls += re.findall(r"(?:ws|http)://[\w.:]+", line)
                if len(self.urls) >= urls:
                    self._said_enough.set()
        # It says nothing more: no need to wait.
        self._said_enough.set()

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
    assert not [line for line in process.printed if re.search(r"\bERROR\b|Traceback", line)]


@pytest.fixture
def run(launch):
    """Start `python -m rakit_ws run` with settings from the environment."""
    return partial(launch, "-m", "rakit_ws", "run", "--port", "0")


# --- Pages ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    """Start the browser, for all tests here: as long as it runs no asyncio loop can."""
    if CHROMIUM is None:
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium):
    """Open pages that are closed with the test; an uncaught exception in one fails it."""
    faults = []
    with contextlib.ExitStack() as stack:

        def open_page():
            # A window of its own: a tab behind another one draws once a second.
            page = stack.enter_context(chromium.new_page())
            page.set_default_timeout(TIMEOUT_S * 1000)
            page.on("pageerror", lambda fault: faults.append(fault))
            return page

        yield open_page
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
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def visit(new_page, site):
    """Open a page of tests/pages that connects to a server."""

    def open_page(name, server):
        site.websocket = server.address
        page = new_page()
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
