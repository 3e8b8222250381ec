"""
README.md, README.id.md and the pages in docs/: what stands there works, and is so.

    python tests/test_readme.py            writes the generated parts anew (`make docs`)
    README_COMMANDS=all pytest tests/test_readme.py      runs what builds and installs, too
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import rakit_ws
from rakit_ws import Client, CloseCode, ErrorCode, Server
from rakit_ws.codes import BUILT_IN_COMMANDS
from rakit_ws.hub.events import EVENTS
from rakit_ws.reference import options_reference, options_table

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "README.id.md"]
PAGES = [
    page for name in (".", "docs", "benches", "examples") for page in (ROOT / name).glob("*.md")
]

# Neither settings of the server nor a proxy, which loopback must not go through.
ENVIRONMENT = {
    key: value
    for key, value in os.environ.items()
    if not key.startswith("RAKIT_WS_") and not key.lower().endswith("_proxy")
    if key != "README_COMMANDS"
}
TIMEOUT_S = 15
PORTS = ("6001", "8000", "9001")

SERVER = re.compile(r"python (-m rakit_ws run|examples/\w+\.py|\w+\.py)\b")
SHORT = re.compile(r"curl |python -m rakit_ws (check|version)\b")
TYPED_INTO = re.compile(r"python -m websockets ")
HEAVY = re.compile(r"make \w+$|pip install \.$")
NOT_RUN = {"nginx", "yaml"}

TABLE = re.compile(
    r"(?<=<!-- options: written by `make docs` -->\n\n).*(?=\n<!-- /options -->)", re.DOTALL
)
RULE = "|---|---|---|---|\n"


# --- What is generated ------------------------------------------------------------------------


def readme_with_options(text):
    """Return README.md with the table of options as it should be."""
    return TABLE.sub(lambda _: options_table(), text)


def options_page(text):
    """Return docs/options.md as it should be: its introduction stays."""
    introduction = text[: text.index("\n## ") + 1]
    sections = options_reference()
    return introduction + sections[sections.index("\n## ") + 1 :]


GENERATED = {"README.md": readme_with_options, "docs/options.md": options_page}


def write():
    """Write the generated parts of the documentation anew."""
    for name, made_of in GENERATED.items():
        path = ROOT / name
        path.write_text(made_of(path.read_text("utf-8")), "utf-8")


@pytest.mark.parametrize("name", GENERATED)
def test_generated_parts_are_up_to_date(name):
    text = (ROOT / name).read_text("utf-8")
    up_to_date = GENERATED[name](text) == text
    assert up_to_date, f"{name} is not what config.py says: run `make docs`"


def test_the_table_has_a_row_for_each_option():
    assert TABLE.search((ROOT / "README.md").read_text("utf-8"))[0].count("\n| `") == len(
        options_table().split(RULE)[1].splitlines()
    )


# --- Blocks -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block; `name` is that of the file that its first line says it is."""

    path: Path
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.path.name}:{self.line}"

    @property
    def name(self):
        first = re.match(r"# ([\w.]+)\n", self.text)
        return first and first[1]

    @property
    def commands(self):
        """The lines of a shell block without their comments."""
        lines = (line.split(" #")[0].strip() for line in self.text.splitlines())
        return [line for line in lines if line]


@cache
def blocks(path):
    """Return the fenced blocks of a page."""
    fence = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
    text = path.read_text("utf-8")
    found = []
    for match in fence.finditer(text):
        indent, language, content = match.groups()
        content = re.sub(f"^{indent}", "", content, flags=re.MULTILINE)
        found.append(Block(path, text.count("\n", 0, match.start()) + 2, language, content))
    return found


# --- Following a README -----------------------------------------------------------------------


class Program:
    """Something that is typed into."""

    def __init__(self, command, directory):
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._printed = b""

    def type(self, text):
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def until(self, text):
        """Wait until it has printed this."""
        deadline = time.monotonic() + TIMEOUT_S
        output = self._process.stdout.fileno()
        while text.encode() not in self._printed:
            ready, _, _ = select.select([output], [], [], max(0, deadline - time.monotonic()))
            piece = os.read(output, 65536) if ready else b""
            assert piece, f"no {text!r} in {self._printed.decode()}"
            self._printed += piece

    def end(self):
        self._process.kill()
        self._process.communicate()


class Walk:
    """
    Does what a README says, in an empty directory that the examples are in.

    Servers run until the next block that starts one. The ports that the text names are
    replaced by free ones.
    """

    def __init__(self, directory):
        self.directory = directory
        self.missing = set()
        self._ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self._servers = []
        self._console = None
        self._printed = None
        (directory / "examples").symlink_to(ROOT / "examples")

    def follow(self, block):
        text = self._with_free_ports(block.text)
        if block.language != "js":
            self._leave_console()
        if block.language == "sh":
            self._run_all(block.commands)
        elif block.language == "python":
            self._python(text, block.name)
        elif block.language == "toml":
            self._toml(text, block.name)
        elif block.language == "json":
            self._converse(map(json.loads, text.splitlines()))
        elif block.language == "js":
            self._javascript(text)
        elif block.language == "http":
            if self._printed is not None:
                assert self._printed == text
        else:
            assert block.language in NOT_RUN

    def end(self):
        self._leave_console()
        self._stop_servers()

    def _with_free_ports(self, text):
        return re.sub("|".join(PORTS), lambda match: self._ports[match[0]], text)

    # --- shell

    def _run_all(self, commands):
        if any(map(SERVER.match, commands)):
            self._stop_servers()
        for command in commands:
            self._run(command)

    def _run(self, command):
        words = shlex.split(self._with_free_ports(command))
        if HEAVY.match(command):
            return
        if not shutil.which(words[0]) and words[0] != "python":
            assert os.environ.get("CI") != "true", (
                f"there is no {words[0]}, and in CI there must be"
            )
            self.missing.add(words[0])
            self._printed = None
            return
        if words[0] == "python":
            words[0] = sys.executable
        if SERVER.match(command):
            self._serve(words + self._port_arguments(command))
        elif TYPED_INTO.match(command):
            self._type_into(words)
        else:
            assert SHORT.match(command), f"{command}: this test does not know how to run it"
            self._printed = self._output(words)

    def _port_arguments(self, command):
        if "rakit_ws run" in command:
            return ["--port", self._ports["6001"]]
        if "chat.py" in command:
            return ["--port", self._ports["6001"], "--page-port", self._ports["8000"]]
        return []

    def _serve(self, words):
        log = (self.directory / f"{len(list(self.directory.iterdir()))}.log").open("w")
        with log:
            process = subprocess.Popen(
                words, cwd=self.directory, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT
            )
        self._servers.append(process)
        port = self._ports["9001" if self._ports["9001"] in words else "6001"]
        assert listens(port, process), Path(log.name).read_text()

    def _stop_servers(self):
        servers, self._servers = self._servers, []
        for process in servers:
            process.send_signal(signal.SIGINT)
        # A loop of one's own leaves it to Python what Ctrl-C means.
        assert {exit_code(process) for process in servers} <= {0, -signal.SIGINT}

    def _output(self, words):
        finished = subprocess.run(
            words,
            cwd=self.directory,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout.replace("\r\n", "\n")

    def _type_into(self, words):
        client = Program(words, self.directory)
        try:
            client.until('"type":"welcome"')
            client.type('{"message": "typed"}\n')
            client.until('"message":"typed"')
        finally:
            client.end()

    # --- other languages

    def _python(self, text, name):
        path = self.directory / (name or "block.py")
        path.write_text(text, "utf-8")
        if not name:
            self._output([sys.executable, path.name])

    def _toml(self, text, name):
        path = self.directory / (name or "block.toml")
        path.write_text(text, "utf-8")
        assert Server.from_config(path).config.warnings() == []

    def _converse(self, lines):
        """Send the objects without `type`; receive those with one, in their order."""
        with connect(f"ws://127.0.0.1:{self._ports['6001']}", proxy=None) as client:
            for line in lines:
                if "type" not in line:
                    client.send(json.dumps(line))
                    continue
                received = messages(client, line)
                assert is_like(received[-1], line), f"{line} did not come; {received} did"

    def _javascript(self, text):
        if self._console is None:
            self._console = console(self.directory)
            if self._console is None:
                self.missing.add("node with WebSocket")
                return
        self._console.type(text)
        if "new WebSocket" in text:
            self._console.until("type: 'welcome'")
        for kind in ("message", "channel", "broadcast") if "ws.send" in text else ():
            self._console.until(f"type: '{kind}'")

    def _leave_console(self):
        if self._console:
            self._console.end()
            self._console = None


def exit_code(process):
    """Wait for the end of a process; None for one that had to be killed."""
    try:
        return process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def messages(client, wanted):
    """Receive until the message that is wanted has come, or nothing comes any more."""
    received = []
    with contextlib.suppress(TimeoutError):
        while not (received and is_like(received[-1], wanted)):
            received.append(json.loads(client.recv(timeout=TIMEOUT_S)))
    return received


def free_ports(count):
    """Return ports, as text, that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [str(each.getsockname()[1]) for each in sockets]


def listens(port, process, timeout_s=TIMEOUT_S):
    """Wait until somebody listens on a port; tell whether that came before the process's end."""
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(port)), timeout=TIMEOUT_S).close()
            return True
        time.sleep(0.02)
    return False


def console(directory):
    """Start a JavaScript console; None where there is none that has `WebSocket`."""
    node = shutil.which("node")
    if node is None:
        return None
    command = [node, "--experimental-websocket", "--no-warnings"]
    has_websocket = subprocess.run(
        [*command, "-p", "typeof WebSocket"], capture_output=True, text=True, timeout=TIMEOUT_S
    )
    return Program([*command, "-i"], directory) if has_websocket.stdout == "function\n" else None


def is_like(received, shown):
    """Tell whether a message is as shown: `…` is any text, a time any time."""
    if isinstance(shown, dict) and isinstance(received, dict):
        return list(received) == list(shown) and all(
            is_like(received[key], value) for key, value in shown.items()
        )
    if isinstance(shown, list) and isinstance(received, list):
        return len(received) == len(shown) and all(map(is_like, received, shown))
    if isinstance(shown, str) and isinstance(received, str):
        return re.fullmatch(re.escape(shown).replace("…", ".+"), received) is not None
    if isinstance(shown, int | float) and shown > 1e9:
        return type(received) is type(shown) and received > 1e9
    return received == shown


@pytest.fixture
def walk(tmp_path):
    walk = Walk(tmp_path)
    yield walk
    walk.end()


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_everything_in_the_readme_works_in_its_order(path, walk):
    for block in blocks(path):
        print(block)  # pytest shows it where this fails
        walk.follow(block)
    if walk.missing:
        pytest.skip(f"the rest works, but there is no {', no '.join(sorted(walk.missing))} here")


def test_both_readmes_have_the_same_blocks_and_commands():
    def shape(path):
        return [
            (block.language, block.language == "sh" and block.commands) for block in blocks(path)
        ]

    english, indonesian = map(shape, READMES)
    assert indonesian == english


# --- What builds and installs -----------------------------------------------------------------


def heavy_commands():
    found = {
        command: None
        for path in READMES
        for block in blocks(path)
        if block.language == "sh"
        for command in block.commands
        if HEAVY.match(command)
    }
    return list(found)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", heavy_commands())
def test_commands_that_build_and_install(command):
    if command in ("make check", "make test", "pip install ."):
        # CI runs these by itself, and `make test` would come here again.
        assert command in (ROOT / ".ci" / "run").read_text("utf-8")
    elif os.environ.get("README_COMMANDS") != "all":
        pytest.skip("takes minutes; README_COMMANDS=all runs it, as CI does")
    elif command == "make run":
        serve_with_make()
    else:
        subprocess.run(command.split(), cwd=ROOT, env=ENVIRONMENT, check=True)


def serve_with_make():
    """Run `make run` until it serves, then press Ctrl-C."""
    (port,) = free_ports(1)
    environment = {**ENVIRONMENT, "RAKIT_WS_PORT": port}
    process = subprocess.Popen(["make", "run"], cwd=ROOT, env=environment, start_new_session=True)
    try:
        assert listens(port, process, timeout_s=1500)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(TIMEOUT_S)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_targets_of_make_exist(path):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text("utf-8"), re.MULTILINE)
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    assert set(named) <= set(targets)


# --- The pages of docs/ -----------------------------------------------------------------------


def page(name):
    return (ROOT / "docs" / name).read_text("utf-8")


def in_first_column(text):
    """Return the words in code style in the first column of the page's tables."""
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return [word for row in rows for word in re.findall(r"`(\w+)", row)]


async def test_counters_page_lists_exactly_the_counters():
    async with Server(port=0) as server:
        assert in_first_column(page("counters.md")) == list(server.counters)


def test_hooks_page_has_a_section_for_each_event():
    headings = re.findall(r"^### `(\w+)\(", page("hooks.md"), re.MULTILINE)
    assert sorted(headings) == sorted(EVENTS)


@pytest.mark.parametrize("kind", [Client, Server])
def test_hooks_page_tells_what_a_client_and_a_server_have(kind):
    text = page("hooks.md")
    start = text.index(f"## What a {kind.__name__.lower()} has")
    listed = set(in_first_column(text[start : text.index("\n## ", start)]))
    listed -= {"config"}  # it is set by __init__
    inner = {
        # The engine's and the inbox's, and what the page describes elsewhere.
        Client: {"error_budget", "handle", "mailbox", "retire", "signature"},
        Server: {"command", "configure", "from_config", "on", "run", "serve_forever", "settings"},
    }
    public = {name for name in dir(kind) if not name.startswith("_")}
    assert listed == public - inner[kind]


async def test_examples_of_the_hooks_page_work(tmp_path, monkeypatch, capsys):
    code = "\n".join(block.text for block in blocks(ROOT / "docs" / "hooks.md"))
    path = tmp_path / "hooks_page.py"
    path.write_text(code.replace("port=6001", "port=0"), "utf-8")
    spec = importlib.util.spec_from_file_location("hooks_page", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "hooks_page", module)
    spec.loader.exec_module(module)
    async with module.server as server:
        url = f"ws://{server.addresses[0]}"
        with pytest.raises(InvalidStatus, match="401"):
            await connect_async(url, additional_headers={"X-Token": "wrong"}, proxy=None)
        headers = {"X-Token": "not-a-secret"}
        async with connect_async(url, additional_headers=headers, proxy=None) as client:
            await client.recv()
            assert json.loads(await client.recv())["message"] == "welcome back"
            await client.send('{"command": "add", "a": 1, "b": 2, "id": 7}')
            await client.send(b"binary")
            received = [await client.recv() for _ in range(3)]
            assert '{"type":"ack","id":7,"result":3}' in received
            assert b"binary" in received
            assert any('"name":"Ani"' in str(each) for each in received)
    printed = capsys.readouterr().out
    assert f"listening on {url.removeprefix('ws://')}\n" in printed
    assert re.search(r"^bytes sent: [1-9]", printed, re.MULTILINE)


def test_protocol_page_names_every_code_and_command():
    text = page("protocol.md")
    reported_only = {CloseCode.NO_STATUS, CloseCode.ABNORMAL, CloseCode.UNSUPPORTED}
    words = [
        *ErrorCode,
        *BUILT_IN_COMMANDS,
        *(str(int(code)) for code in set(CloseCode) - reported_only),
    ]
    assert [word for word in words if str(word) not in text] == []


def test_json_of_the_protocol_page_is_json():
    for block in blocks(ROOT / "docs" / "protocol.md"):
        if block.language == "json":
            json.loads(block.text)


def test_changelog_has_this_version():
    assert f"## [{rakit_ws.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


# --- Links ------------------------------------------------------------------------------------


def anchors(path):
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(
        r"^\[[^]]+\]: (\S+)", text, re.MULTILINE
    )
    for target in targets:
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


if __name__ == "__main__":
    write()
