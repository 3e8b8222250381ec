"""Every example of the framework's manual does what the manual promises, as it is written there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rakit_ws import Server
from raw_client import close, text


@pytest.fixture
async def trio(serve, connect):
    """Connect three clients to a server with default settings; their presences are read."""
    server = await serve(Server(port=0))
    clients = [await connect(server) for _ in range(3)]
    for client in clients:
        while (await client.receive()).get("count") != len(clients):
            pass
    return clients


async def nothing_more(clients):
    for client in clients:
        await client.fence()


async def test_message_to_everyone(trio):
    await trio[0].send(text("""{"message":"Halo semua!"}"""))
    for client in trio:
        assert await client.receive() == {
            "type": "message",
            "client_id": trio[0].id,
            "message": "Halo semua!",
        }
    await nothing_more(trio)


async def test_private_message(trio):
    await trio[0].send(
        text("""{"to":"client_id","message":"Halo!"}""".replace("client_id", trio[1].id))
    )
    received = await trio[1].receive()
    assert (received["client_id"], received["message"]) == (trio[0].id, "Halo!")
    await nothing_more(trio)


async def test_channel(trio):
    for client in trio[:2]:
        await client.send(text("""{"event":"subscribe","channel":"chat"}"""))
        await client.fence()
    await trio[2].send(text("""{"event":"message","channel":"chat","data":"Halo channel!"}"""))
    for client in trio[:2]:
        received = await client.receive()
        assert (received["channel"], received["data"]) == ("chat", "Halo channel!")
        assert received["client_id"] == trio[2].id
    await nothing_more(trio)


async def test_command_broadcast(trio):
    await trio[0].send(text("""{"command": "broadcast", "message": "text"}"""))
    for client in trio:
        assert (await client.receive())["message"] == "text"
    await nothing_more(trio)


async def test_command_disconnect(trio):
    sent = """{"command": "disconnect", "client_id": "id"}""".replace('"id"', f'"{trio[1].id}"')
    await trio[0].send(text(sent))
    assert await trio[1].receive_close() == (4000, "disconnected by command")
    await trio[1].send(close(4000))
    assert await trio[1].at_end()
    for client in (trio[0], trio[2]):
        presence = await client.receive()
        assert [user["id"] for user in presence["users"]] == [trio[0].id, trio[2].id]


async def test_command_presence(trio):
    await trio[0].send(text("""{"command": "presence"}"""))
    for client in trio:
        received = await client.receive()
        assert received["type"] == "presence"
        assert [user["id"] for user in received["users"]] == [each.id for each in trio]
    await nothing_more(trio)


async def test_command_broadcast_to_channel(trio):
    await trio[1].ask({"event": "subscribe", "channel": "name"})
    sent = """{"command": "broadcast_to_channel", "channel": "name", "message": "text"}"""
    await trio[0].send(text(sent))
    received = await trio[1].receive()
    assert (received["channel"], received["data"]) == ("name", "text")
    await nothing_more(trio)


async def test_command_private_message(trio):
    sent = """{"command": "private_message", "to": "client_id", "message": "text"}"""
    await trio[0].send(text(sent.replace("client_id", trio[1].id)))
    assert (await trio[1].receive())["message"] == "text"
    await nothing_more(trio)


async def test_ping_is_swallowed(trio):
    await trio[0].send(text("""{"ping":1}"""))
    await nothing_more(trio)


@pytest.fixture
def connecting_at(monkeypatch):
    """Let all clients connect at the same time: a Unix time stamp, with a fraction."""
    now_s = 1795446000.75
    monkeypatch.setattr("rakit_ws.hub.client.time", SimpleNamespace(time=lambda: now_s))
    return now_s


async def test_presence_lists_users_as_the_manual_shows_them(connecting_at, trio):
    await trio[0].send({"command": "presence"})
    presence = await trio[2].receive()
    assert set(presence) == {"type", "users", "count"}
    assert isinstance(presence["users"], list)
    for user in presence["users"]:
        assert list(user) == ["id", "name", "email", "connected_at"]
        assert user["name"] == "Guest"
        assert user["email"] is None
        assert isinstance(user["connected_at"], int)
        assert user["connected_at"] == int(connecting_at)


async def test_basic_chat_greets_in_the_segment_that_opens_it(serve, dial):
    """The manual's page sends as soon as it is open, and parses whatever comes as JSON."""
    server = await serve(Server(port=0))
    page = await dial(server)
    await page.handshake()
    await page.send(text("""{"message":"Halo!"}"""))
    kinds = [(await page.receive())["type"] for _ in range(3)]
    assert sorted(kinds) == ["message", "presence", "welcome"]
    assert kinds[0] == "welcome"
