"""The guide, as it is written: its nginx, its configuration and its page, with a Rakit application."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from identities import Authority
from rakit_backends import free_port
from rakit_ws.layers import load
from raw_client import request, text
from test_application import folder, needs_php  # noqa: F401 - a fixture
from test_rakit import GUARD, cookie, record, session_file

pytest_plugins = ["browser"]

DOCS = Path(__file__).parent.parent / "docs"
GUIDES = ["guide-rakit.md", "guide-rakit.id.md"]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
ANI_S_SESSION = "C3d4" * 10
START_S = 15

needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

# Where things are when nginx and its temporary files are a test's.
WRAPPER = """
daemon off; pid {folder}/pid; worker_processes 1; {user}
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    {servers}
}}
"""


def block(guide, language):
    (found,) = re.findall(
        rf"^```{language}\n(.*?)^```$", (DOCS / guide).read_text(), re.MULTILINE | re.DOTALL
    )
    return found


def without_comments(text):
    return re.sub(r"\s*(?:#|//) .*", "", text)


@pytest.mark.parametrize("language", ["toml", "ini", "nginx", "html", "php"])
def test_guides_in_both_languages_have_the_same_blocks(language):
    english, indonesian = (without_comments(block(guide, language)) for guide in GUIDES)
    assert english == indonesian
    assert english.strip()


def test_guides_have_the_same_steps_and_rows():
    counts = [
        [
            len(re.findall(pattern, (DOCS / guide).read_text(), re.MULTILINE))
            for pattern in ("^## ", r"^\|", "^- ")
        ]
        for guide in GUIDES
    ]
    assert counts[0] == counts[1]


def test_configuration_of_the_guide_is_one(folder, tmp_path):  # noqa: F811
    file = tmp_path / "rakit_ws.toml"
    file.write_text(block(GUIDES[0], "toml").replace("/var/www/application", str(folder)))
    config = load(file=file)
    assert (config.path, config.presence.group_by) == ("/ws", "user")
    assert config.auth.sources == ("rakit",)
    assert config.warnings() == []


def test_unit_starts_what_there_is():
    unit = block(GUIDES[0], "ini")
    assert "-m rakit_ws run --config /etc/rakit_ws.toml" in unit
    assert block(GUIDES[0], "toml").startswith("# /etc/rakit_ws.toml\n")


# --- All of it, for real


class Stage:
    """nginx with TLS in front of a server in front of an application, as the guide has them."""

    def __init__(self, application, directory, launch):
        self.application = application
        self._directory = directory
        self.port, self.plain_port, server_port = free_port(), free_port(), free_port()
        self.host = f"localhost:{self.port}"
        self.origin = f"https://{self.host}"
        self.identity = Authority().issue(directory)
        self.server = self._start_server(launch, server_port)
        self._write_nginx(server_port)

    def _start_server(self, launch, port):
        text = block(GUIDES[0], "toml")
        text = text.replace("https://app.example.com", self.origin)
        text = text.replace("/var/www/application", str(self.application))
        (self._directory / "rakit_ws.toml").write_text(text)
        return launch(
            *("-m", "rakit_ws", "run", "--config", str(self._directory / "rakit_ws.toml")),
            RAKIT_WS_PORT=str(port),
            RAKIT_WS_AUTH_RECHECK_INTERVAL="0.2",
            RAKIT_WS_PRESENCE_GRACE="0.2",
        )

    def _write_nginx(self, server_port):
        servers = block(GUIDES[0], "nginx")
        for written, here in [
            ("listen 80;", f"listen 127.0.0.1:{self.plain_port};"),
            ("listen 443 ssl;", f"listen 127.0.0.1:{self.port} ssl;"),
            ("app.example.com;", "localhost;"),
            ("127.0.0.1:6001", f"127.0.0.1:{server_port}"),
            ("/var/www/application", str(self.application)),
            ("/etc/letsencrypt/live/app.example.com/fullchain.pem", str(self.identity.certificate)),
            ("/etc/letsencrypt/live/app.example.com/privkey.pem", str(self.identity.key)),
            ("unix:/run/php/php-fpm.sock", f"unix:{self._directory}/no-php.sock"),
        ]:
            assert written in servers
            servers = servers.replace(written, here)
        user = "user root;" if os.geteuid() == 0 else ""
        (self._directory / "fastcgi_params").write_text("")
        (self._directory / "nginx.conf").write_text(
            WRAPPER.format(folder=self._directory, user=user, servers=servers)
        )

    @contextlib.contextmanager
    def nginx(self):
        errors = self._directory / "error.log"
        words = ["-p", str(self._directory), "-c", str(self._directory / "nginx.conf")]
        process = subprocess.Popen([NGINX, *words, "-e", str(errors)], stderr=subprocess.PIPE)
        try:
            deadline = time.monotonic() + START_S
            while not accepts(self.port):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline, errors.read_text()
                time.sleep(0.02)
            yield self
        finally:
            process.terminate()
            process.wait(START_S)
            process.stderr.close()

    def get(self, path, *, port=None):
        """Return the status and the headers of an answer to a GET."""
        if port is None:
            context = self.identity.context()
            connection = http.client.HTTPSConnection("localhost", self.port, context=context)
        else:
            connection = http.client.HTTPConnection("localhost", port)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.headers

    def shake(self, headers, *, target="/ws"):
        """Shake hands through nginx; return the status and what comes behind it first."""
        raw = socket.create_connection(("localhost", self.port), timeout=START_S)
        with self.identity.context().wrap_socket(raw, server_hostname="localhost") as client:
            client.sendall(request(target, host=self.host, headers=headers))
            received = b""
            while b"\r\n\r\n" not in received:
                more = client.recv(4096)
                assert more, received
                received += more
            status = int(received.split(b" ")[1])
            while status == 101 and b'"type":"presence"' not in received:
                received += client.recv(4096)
            return status, received

    def command(self, headers):
        """Give a command through nginx; return the answer."""
        raw = socket.create_connection(("localhost", self.port), timeout=START_S)
        with self.identity.context().wrap_socket(raw, server_hostname="localhost") as client:
            client.sendall(request("/ws", host=self.host, headers=headers))
            client.sendall(text({"command": "broadcast", "message": "x", "id": 7}))
            received = b""
            while b'"id":7' not in received:
                more = client.recv(4096)
                assert more, received
                received += more
            return received


def accepts(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def stage(folder, tmp_path, launch):  # noqa: F811
    directory = tmp_path / "stage"
    directory.mkdir()
    (folder / "application/config/application.php").write_text(
        "<?php return ['url' => 'https://x.example'];"
    )
    ani = record(b"i:2;", session_id=ANI_S_SESSION)
    session_file(folder / "storage/sessions", ANI_S_SESSION).write_bytes(GUARD + ani)
    (folder / "assets").mkdir()
    (folder / "assets/online.html").write_text(block(GUIDES[0], "html"))
    with Stage(folder, directory, launch).nginx() as stage:
        yield stage


@needs_nginx
def test_logged_in_page_is_its_user_behind_nginx_with_tls(stage):
    headers = [("Cookie", cookie()), ("Origin", stage.origin)]
    status, received = stage.shake(headers)
    assert status == 101
    assert b'"name":"Budi Santoso"' in received


@needs_nginx
def test_page_of_another_site_is_refused_behind_nginx(stage):
    for origin in ("https://evil.example", "http://localhost", "https://localhost", "null"):
        assert stage.shake([("Cookie", cookie()), ("Origin", origin)])[0] == 403
    assert stage.shake([("Cookie", cookie()), ("Origin", stage.origin)], target="/other")[0] == 502


@needs_nginx
def test_nobody_behind_nginx_may_give_commands(stage):
    for forged in ([], [("X-Forwarded-For", "127.0.0.1")], [("Forwarded", "for=127.0.0.1")]):
        assert b'"code":"forbidden"' in stage.command([("Origin", stage.origin), *forged])


@needs_nginx
def test_nothing_of_the_application_but_its_assets_is_served_as_a_file(stage):
    assert stage.get("/assets/online.html")[0] == 200
    for path in (
        "/key.php",
        "/paths.php",
        "/application/config/database.php",
        "/storage/database/application.sqlite",
        f"/storage/sessions/{session_file(Path()).name}",
        "/assets/../key.php",
        "/assets/..%2fkey.php",
        "/assets../key.php",
        "/",
    ):
        status, headers = stage.get(path)
        # 502: PHP is asked, which is not there; nginx has no file to give.
        assert status in (404, 502), path
    status, headers = stage.get("/online", port=stage.plain_port)
    assert (status, headers["Location"]) == (301, "https://localhost/online")


@needs_nginx
def test_page_shows_who_is_online_and_who_has_logged_out_no_more(stage, chromium):
    with contextlib.ExitStack() as stack:

        def open_page(session):
            context = chromium.new_context(ignore_https_errors=True)
            stack.callback(context.close)
            name, _, value = cookie(session).partition("=")
            context.add_cookies([{"name": name, "value": value, "url": stage.origin}])
            page = context.new_page()
            page.set_default_timeout(START_S * 1000)
            page.goto(f"{stage.origin}/assets/online.html")
            return page

        def shows(page, *names):
            page.wait_for_function(
                """(names) => JSON.stringify([...document.querySelectorAll("#online li")].map(
                    (item) => item.textContent).sort()) === JSON.stringify(names)""",
                arg=sorted(names),
            )

        budi = open_page("A1b2" * 10)
        shows(budi, "Budi Santoso")
        ani = open_page(ANI_S_SESSION)
        name = ani_s_name(stage)
        shows(budi, "Budi Santoso", name)
        shows(ani, "Budi Santoso", name)
        ani.reload()
        shows(ani, "Budi Santoso", name)
        session_file(stage.application / "storage/sessions", ANI_S_SESSION).unlink()
        shows(budi, "Budi Santoso", "Guest")  # her page has loaded anew, with nobody logged in


def ani_s_name(stage):
    import sqlite3

    with contextlib.closing(
        sqlite3.connect(stage.application / "storage/database/application.sqlite")
    ) as connection:
        return connection.execute("SELECT name FROM users WHERE id = 2").fetchone()[0]
