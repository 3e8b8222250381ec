"""`Server.reload` and SIGHUP: other settings while the server runs."""

from __future__ import annotations

import asyncio
import json
import signal
import textwrap

import pytest

from application import app
from conftest import quiet_server, until
from rakit_ws import ConfigError, Server, UsageError, User
from rakit_ws.config import Config, options
from raw_client import CONTINUATION, PONG, TEXT, RawClient, close, frame, request, text, within

START = """
port = 0
[presence]
enabled = false
"""


class Reloadable:
    """A server with its file."""

    def __init__(self, path):
        self.path = path
        self.write("")
        self.server = Server.from_config(path)

    def write(self, settings, tables=""):
        table = START if "[presence]" not in tables else "port = 0\n"
        self.path.write_text(f"{textwrap.dedent(settings)}\n{table}\n{textwrap.dedent(tables)}")

    def reload(self, settings, tables=""):
        self.write(settings, tables)
        return self.server.reload()


@pytest.fixture
async def reloadable(tmp_path, serve):
    reloadable = Reloadable(tmp_path / "settings.toml")
    await serve(reloadable.server)
    return reloadable


# --- users


USERS = """
    [auth]
    required = {required}
    timeout = {timeout}
"""


async def test_users_are_looked_up_as_the_new_configuration_says(reloadable, connect, dial):
    server = reloadable.server
    client = await connect(server)
    reloadable.reload("", USERS.format(required="true", timeout=4))
    guest = await dial(server)
    await guest.send(request())
    assert (await guest.read_response()).status == 401
    await client.fence()
    reloadable.reload("", USERS.format(required="false", timeout=4))
    await connect(server)


async def test_source_that_can_not_be_changes_nothing(reloadable, connect):
    with pytest.raises(ConfigError, match=r"rakit\.key: missing"):
        reloadable.reload("max_buffer_size = 100", '[auth]\nsources = ["rakit"]')
    assert reloadable.server.config.max_buffer_size != 100
    await connect(reloadable.server)


async def test_counts_of_users_outlive_a_reload(tmp_path, serve, connect):
    reloadable = Reloadable(tmp_path / "settings.toml")
    reloadable.server.authenticate(lambda request: User("1"))
    await serve(reloadable.server)
    await connect(reloadable.server)
    reloadable.reload("", USERS.format(required="true", timeout=1))
    await connect(reloadable.server)
    assert reloadable.server.counters["users_identified"] == 2


async def test_who_is_being_looked_up_is_so_where_it_has_begun(tmp_path, serve, dial):
    reloadable = Reloadable(tmp_path / "settings.toml")
    release = asyncio.Event()

    @reloadable.server.authenticate
    async def authenticate(client):
        await release.wait()
        return User("1")

    await serve(reloadable.server)
    client = await dial(reloadable.server)
    await client.send(request())
    await until(lambda: reloadable.server.counters["requested"] == 1)
    reloadable.reload("", USERS.format(required="true", timeout=1))
    release.set()
    assert (await client.read_response()).status == 101


# --- what is new is in force at once


async def test_limits_of_the_engine_hold_for_those_who_are_there(reloadable, connect):
    client = await connect(reloadable.server)
    reloadable.reload("max_buffer_size = 100")
    await client.send(text("a" * 101))
    assert (await client.receive_close())[0] == 1009


@pytest.mark.parametrize(
    ("setting", "sent", "code"),
    [
        ("max_fragments = 1", frame(TEXT, "x", fin=False) + frame(CONTINUATION), 1008),
        ("max_control_frames_per_second = 1", frame(PONG) * 2, 1008),
        ("rate_limit = 0.001\nrate_burst = 1", frame(TEXT, "x") * 3, 1008),
        ("max_errors = 1", frame(TEXT) * 2, 1008),
    ],
    ids=["fragments", "control frames", "messages", "errors"],
)
async def test_other_limits_hold_for_those_who_are_there_too(
    reloadable, connect, setting, sent, code
):
    reloadable.reload("max_errors = 0")
    client = await connect(reloadable.server)
    await client.send(frame(TEXT))
    assert (await client.receive())["type"] == "error"
    reloadable.reload(setting)
    await client.send(sent)
    assert (await client.receive_until_close())[1] == code


async def test_limits_of_channels_and_json_hold_for_those_who_are_there(reloadable, connect):
    client = await connect(reloadable.server)
    await client.ask({"event": "subscribe", "channel": "c"})
    reloadable.reload("max_channels = 1\nmax_json_depth = 2")
    answer = await client.ask({"event": "subscribe", "channel": "d"})
    assert answer["code"] == "too_many_channels"
    await client.send(text({"message": [[1]]}))
    assert (await client.receive())["code"] == "bad_request"


async def test_times_of_the_engine_hold_for_those_who_are_there(reloadable, connect):
    client = await connect(reloadable.server)
    reloadable.reload("ping_interval = 0.05\nping_timeout = 0.1")
    while (received := await client.read_frame()).opcode == 9:
        pass
    assert received.payload[:2] == (4008).to_bytes(2, "big")


async def test_origins_hosts_and_path_hold_for_the_next_handshake(reloadable, connect, dial):
    server = reloadable.server
    member = await connect(server, headers=[("Origin", "https://old.example")])
    reloadable.reload(
        """
        allowed_origins = ["https://new.example"]
        allowed_hosts = ["localhost"]
        path = "/ws"
        """
    )
    await connect(server, "/ws", headers=[("Origin", "https://new.example")])
    for target, origin, status in [
        ("/ws", "https://old.example", 403),
        ("/", "https://new.example", 404),
    ]:
        client = await dial(server)
        with pytest.raises(AssertionError, match=f"status={status}"):
            await client.handshake(target, headers=[("Origin", origin)])
    await member.fence()


async def test_channels_per_client_and_plain_text_hold_at_once(reloadable, connect):
    client = await connect(reloadable.server)
    reloadable.reload('max_channels_per_client = 0\nplain_text = "reject"')
    answer = await client.ask({"event": "subscribe", "channel": "c"})
    assert answer["code"] == "too_many_channels"
    await client.send(b"\x81\x85\0\0\0\0plain")
    assert (await client.receive())["code"] == "bad_request"


async def test_who_may_give_commands_changes_for_those_who_are_there(reloadable, connect):
    client = await connect(reloadable.server)
    command = {"command": "broadcast_to_channel", "channel": "c", "message": 1}
    assert (await client.ask(command))["type"] == "ack"
    reloadable.reload('command_access = "operators"')
    assert (await client.ask(command))["code"] == "forbidden"
    reloadable.reload('command_access = "everyone"')
    assert (await client.ask(command))["type"] == "ack"


async def test_operator_by_a_token_that_is_no_more_is_none(reloadable, connect):
    rules = 'command_access = "operators"\noperator_token = "{}"'
    command = {"command": "broadcast_to_channel", "channel": "c", "message": 1}
    reloadable.reload(rules.format("the first one 1234".replace(" ", "-")))
    header = [("Authorization", "Bearer the-first-one-1234")]
    by_header = await connect(reloadable.server, headers=header)
    by_message = await connect(reloadable.server)
    assert (await by_message.ask({"event": "auth", "token": "the-first-one-1234"}))["type"] == "ack"
    by_hook = await connect(reloadable.server)
    reloadable.server.clients[by_hook.id].is_operator = True
    for client in (by_header, by_message, by_hook):
        assert (await client.ask(command))["type"] == "ack"
    plan = reloadable.reload(rules.format("the-second-one-5678"))
    assert plan.changed == {"operator_token": "(hidden) -> (hidden)"}
    assert (await by_header.ask(command))["code"] == "forbidden"
    assert (await by_message.ask(command))["code"] == "forbidden"
    assert (await by_hook.ask(command))["type"] == "ack"
    assert (await by_message.ask({"event": "auth", "token": "the-second-one-5678"}))[
        "type"
    ] == "ack"
    assert (await by_message.ask(command))["type"] == "ack"


async def test_token_that_changes_while_a_hook_decides_does_not_make_an_operator(
    tmp_path, serve, dial
):
    reloadable = Reloadable(tmp_path / "settings.toml")
    rules = 'command_access = "operators"\noperator_token = "{}"'
    asked, decided = asyncio.Event(), asyncio.Event()

    @reloadable.server.on("connect")
    async def connecting(client):
        asked.set()
        await decided.wait()

    await serve(reloadable.server)
    reloadable.reload(rules.format("the-first-one-1234"))
    client = await dial(reloadable.server)
    header = [("Authorization", "Bearer the-first-one-1234")]
    shaking = asyncio.ensure_future(client.handshake(headers=header))
    await within(asked.wait())
    reloadable.reload(rules.format("the-second-one-5678"))
    decided.set()
    await shaking
    await client.receive()
    assert (await client.ask({"command": "presence"}))["code"] == "forbidden"


async def test_presence_is_told_when_it_is_turned_on_or_shows_other_fields(reloadable, connect):
    client = await connect(reloadable.server)
    fields = "[presence]\ninterval = 0\nfields = {}"
    reloadable.reload("", fields.format('["name"]'))
    presence = await client.receive()
    assert set(presence["users"][0]) == {"id", "name", "connected_at"}
    reloadable.reload("", fields.format('["email"]'))
    presence = await client.receive()
    assert set(presence["users"][0]) == {"id", "email", "connected_at"}
    reloadable.reload("", "[presence]\nenabled = false")
    await connect(reloadable.server)
    await client.fence()


# --- what does not change


async def test_messages_under_way_and_in_mailboxes_survive_a_reload(tmp_path, serve, connect):
    reloadable = Reloadable(tmp_path / "settings.toml")
    go_on = asyncio.Event()

    @reloadable.server.on("receive")
    async def received(client, opcode, payload):
        await go_on.wait()

    await serve(reloadable.server)
    client = await connect(reloadable.server)
    whole = text({"message": "cut"})
    await client.send(*(text({"message": number}) for number in range(10)), whole[:7])
    member = reloadable.server.clients[client.id]
    await until(lambda: member.mailbox is not None and len(member.mailbox) == 9)
    reloadable.reload("max_channels_per_client = 3")
    go_on.set()
    await client.send(whole[7:])
    seen = [(await client.receive())["message"] for _ in range(11)]
    assert seen == [*range(10), "cut"]


async def test_what_needs_a_restart_stays_and_is_named(reloadable, connect, caplog):
    before = reloadable.server.addresses
    caplog.set_level("INFO", "rakit_ws")
    reloadable.path.write_text(
        'host = "127.0.0.2"\nport = 1\nmax_connections = 7\nloop = "asyncio"'
    )
    plan = reloadable.server.reload()
    assert set(plan.postponed) == {"host", "port", "loop"}
    assert plan.changed == {"max_connections": "0 -> 7", "presence.enabled": "false -> true"}
    assert reloadable.server.addresses == before
    assert (reloadable.server.config.port, reloadable.server.config.max_connections) == (0, 7)
    lines = [record.getMessage() for record in caplog.records]
    assert 'reloaded max_connections="0 -> 7" presence.enabled="false -> true"' in lines
    assert any(line.startswith('restart needed host="') for line in lines)
    await connect(reloadable.server)
    assert reloadable.server.reload().changed == {}
    assert "reloaded changed=nothing" in caplog.records[-2].getMessage()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("max_connections = -1", "max_connections: -1 is wrong"),
        ("max_conections = 1", "unknown key"),
        ("max_connections = ", "not TOML"),
        (None, "can't be read"),
    ],
)
async def test_wrong_configuration_changes_nothing(reloadable, connect, wrong, complaint):
    before = reloadable.server.config
    if wrong is None:
        reloadable.path.unlink()
    else:
        reloadable.write(f"max_buffer_size = 1\n{wrong}")
    with pytest.raises(ConfigError, match=complaint):
        reloadable.server.reload()
    assert reloadable.server.config is before
    await (await connect(reloadable.server)).fence()


async def test_only_a_running_server_with_a_source_is_reloaded(tmp_path):
    reloadable = Reloadable(tmp_path / "settings.toml")
    with pytest.raises(UsageError, match="not running"):
        reloadable.server.reload()
    async with quiet_server() as server:
        with pytest.raises(UsageError, match="given by code"):
            server.reload()
    async with reloadable.server as server:
        server.stop()
        with pytest.raises(UsageError, match="stops"):
            server.reload()


def test_only_where_and_on_what_it_runs_needs_a_restart():
    assert {each.key for each in options() if not each.reloadable} == {
        "host",
        "port",
        "shards",
        "loop",
        "compat",
    }


async def test_configure_takes_the_next_source_along():
    wanted = Config(port=0, max_connections=3)
    server = Server()
    server.configure(Config(port=0), source=lambda: wanted)
    async with server:
        assert server.reload().changed == {"max_connections": "0 -> 3"}


# --- SIGHUP, in a process of its own

APP = """
from rakit_ws.cli import main
raise SystemExit(main(["run", "--port", "0", "--config", CONFIG, "--log-level", "info"]))
"""


async def test_sighup_reloads_what_run_was_given_and_a_wrong_file_harms_nobody(tmp_path):
    file, log = tmp_path / "settings.toml", tmp_path / "server.log"
    settings = f'logging_output = "file"\nlog_file = {json.dumps(str(log))}\n'
    file.write_text(settings)

    async def logged(words, count=1):
        await until(lambda: log.read_text().count(words) >= count)
        return next(line for line in log.read_text().splitlines() if words in line)

    script = APP.replace("CONFIG", repr(str(file)))
    with app(tmp_path, script) as (process, address):
        client = await RawClient.open(address)
        await client.handshake()
        await client.receive()

        file.write_text(f"{settings}port = 7\nmax_buffer_size = 1000\nlog_level = 'debug'\n")
        process.send_signal(signal.SIGHUP)
        # Flags are stronger than the file, as they were at the start.
        line = await logged("reloaded max_buffer_size")
        assert 'max_buffer_size="1048576 -> 1000"' in line
        assert "port" not in line
        assert "log_level" not in line

        file.write_text(f"{settings}max_buffer_size = 0\n")
        process.send_signal(signal.SIGHUP)
        assert "max_buffer_size: 0 is wrong" in await logged("not reloaded")

        log.rename(tmp_path / "old.log")
        file.write_text(f"{settings}max_buffer_size = 1000\nlog_format = 'json'\n")
        process.send_signal(signal.SIGHUP)
        await until(log.exists)
        line = json.loads(await logged('"reloaded"'))
        assert line["log_format"] == '"text" -> "json"'

        await client.fence()
        await client.send(text("a" * 1001))
        while (received := await client.read_frame()).opcode != 8:
            pass
        assert received.payload[:2] == (1009).to_bytes(2, "big")
        await client.send(close(1009))
        await client.aclose()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


async def test_sighup_does_not_end_a_server_that_has_its_settings_from_code(tmp_path):
    script = """
        from rakit_ws import Server

        server = Server(port=0)

        @server.on("start")
        def start(server):
            print(server.addresses[0], flush=True)

        raise SystemExit(server.run())
        """
    with app(tmp_path, textwrap.dedent(script)) as (process, address):
        process.send_signal(signal.SIGHUP)
        lines = iter(process.stdout.readline, "")
        assert any('not reloaded reason="the configuration was given' in line for line in lines)
        client = await RawClient.open(address)
        await client.handshake()
        await client.aclose()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0
