"""A user is more than a connection: all its clients, found by its id."""

from __future__ import annotations

import pytest

from conftest import until
from rakit_ws import UsageError, User
from raw_client import close

ANI, BUDI = User("42", "Ani", "ani@example.com"), User("7", "Budi")
BY_TOKEN = {"ani": ANI, "budi": BUDI}


@pytest.fixture
def enter(connect):
    """Connect a client as somebody; None: a guest."""

    async def connected(server, who=None):
        return await connect(server, headers=[("X-Token", who)] if who else [])

    return connected


@pytest.fixture
async def people(make_server, serve):
    """Start servers that know Ani and Budi by a token."""

    async def start(server=None, **settings):
        server = server or make_server(**settings)
        server.authenticate(lambda request: BY_TOKEN.get(request.header("x-token")))
        return await serve(server)

    return start


def private(sender, message):
    return {"type": "private", "client_id": sender.id, "message": message}


async def test_message_to_a_user_reaches_all_its_clients_and_nobody_else(people, enter):
    server = await people()
    first, second = await enter(server, "ani"), await enter(server, "ani")
    budi, guest = await enter(server, "budi"), await enter(server)
    await budi.send({"to": {"user": "42"}, "message": {"hi": 1.0}, "id": 1})
    assert await budi.receive() == {"type": "ack", "id": 1, "delivered": 2}
    for ani in (first, second):
        assert await ani.receive() == private(budi, {"hi": 1.0})
    for each in (first, second, budi, guest):
        await each.fence()


async def test_id_of_a_user_may_be_given_as_a_number(people, enter):
    server = await people()
    ani, guest = await enter(server, "ani"), await enter(server)
    await guest.send({"to": {"user": 42, "more": None}, "message": "x"})
    assert await ani.receive() == private(guest, "x")


async def test_message_to_oneself_as_a_user_comes_back(people, enter):
    server = await people()
    ani = await enter(server, "ani")
    await ani.send({"to": {"user": "42"}, "message": 1, "id": 1})
    assert [(await ani.receive())["type"] for _ in range(2)] == ["private", "ack"]


@pytest.mark.parametrize("user", ["43", "", "042", " 42", "4" * 10_000, "🦀", -1])
async def test_user_that_is_not_here_is_an_unknown_client(people, enter, user):
    server = await people()
    ani = await enter(server, "ani")
    answer = await ani.ask({"to": {"user": user}, "message": 1})
    assert (answer["type"], answer["code"]) == ("error", "unknown_client")


@pytest.mark.parametrize(
    "receiver",
    [
        {},
        {"user": None},
        {"user": True},
        {"user": 4.5},
        {"user": ["42"]},
        {"user": {}},
        {"client": "x"},
        [],
        ["42"],
        42,
        None,
        True,
        {"user": 2**63},
    ],
)
async def test_receiver_that_is_neither_is_a_bad_request_and_nobody_is_told(
    people, enter, receiver
):
    server = await people()
    ani = await enter(server, "ani")
    answer = await ani.ask({"to": receiver, "message": "secret"})
    assert (answer["type"], answer["code"]) == ("error", "bad_request")
    await ani.fence()


async def test_half_a_character_does_not_hide_whom_a_message_is_for(people, enter):
    server = await people()
    ani, guest = await enter(server, "ani"), await enter(server)
    await guest.send('{"to":{"user":"42"},"message":"\\ud83d"}')
    assert '"message":"\\ud83d"' in await ani.receive_text()


async def test_message_without_content_to_a_user_is_a_bad_request(people, enter):
    server = await people()
    ani = await enter(server, "ani")
    answer = await ani.ask({"to": {"user": "42"}})
    assert answer["code"] == "bad_request"


@pytest.mark.parametrize(
    ("audience", "guest", "user", "operator"),
    [
        ("everyone", True, True, True),
        ("users", False, True, False),
        ("operators", False, False, True),
        ("nobody", False, False, False),
    ],
)
async def test_option_says_who_may_send_to_users(
    people, enter, connect, audience, guest, user, operator
):
    server = await people(user_messages=audience, operator_token="t" * 20)
    ani = await enter(server, "ani")
    bearer = await connect(server, headers=[("Authorization", "Bearer " + "t" * 20)])
    senders = [
        (await enter(server), guest),
        (await enter(server, "budi"), user),
        (bearer, operator),
    ]
    for sender, may in senders:
        for receiver in ("42", "nobody"):
            answer = await sender.ask({"to": {"user": receiver}, "message": 1})
            if not may:  # whether the user is here is not told then
                assert answer["code"] == "forbidden"
            else:
                assert ("delivered" in answer) == (receiver == "42")
        if may:
            assert await ani.receive() == private(sender, 1)
        await sender.send({"to": ani.id, "message": 2})  # by its id it is an address
        assert await ani.receive() == private(sender, 2)
        command = {"command": "private_message", "to": {"user": "42"}, "message": 3}
        assert (await sender.ask(command))["type"] == "ack"
        assert (await ani.receive())["message"] == 3
    assert server.counters["user_message_refusals"] == 2 * [guest, user, operator].count(False)


async def test_command_sends_to_a_user_in_the_servers_voice(people, enter):
    server = await people()
    ani, guest = await enter(server, "ani"), await enter(server)
    command = {"command": "private_message", "to": {"user": "42"}, "message": "hi"}
    assert (await guest.ask(command))["delivered"] == 1
    assert await ani.receive() == {"type": "private", "message": "hi"}
    assert (await guest.ask({**command, "to": {"user": "1"}}))["code"] == "unknown_client"


async def test_code_sends_to_a_user(people, enter):
    server = await people()
    first, second = await enter(server, "ani"), await enter(server, "ani")
    assert await server.send_user("42", {"n": 1}) == 2
    assert server.send_user(42, {"n": 2}) == 2
    assert server.send_user("1", "nobody") == 0
    with pytest.raises(UsageError, match="JSON can't hold"):
        server.send_user("42", object())
    for ani in (first, second):
        assert [(await ani.receive())["message"]["n"] for _ in range(2)] == [1, 2]
        await ani.fence()


async def test_clients_of_a_user_are_those_that_are_connected_oldest_first(people, enter):
    server = await people()
    first, second = await enter(server, "ani"), await enter(server, "ani")
    await enter(server, "budi")
    await enter(server)
    assert [each.id for each in server.clients_of("42")] == [first.id, second.id]
    assert server.clients_of("1") == []
    await first.send(close(1000))
    await until(lambda: len(server.clients_of(42)) == 1)
    assert [each.id for each in server.clients_of(42)] == [second.id]
    assert server.send_user("42", 1) == 1
    await second.send(close(1000))
    await until(lambda: not server.clients_of("42"))
    assert server.send_user("42", 1) == 0
    assert set(server._running.hub.by_user) == {"7"}  # nothing is kept of who is gone


async def test_user_that_code_sets_later_is_found_and_shown(people, enter):
    server = await people(presence={"enabled": True, "interval": 0})
    guest = await enter(server)
    assert [each["name"] for each in (await guest.receive())["users"]] == ["Guest"]
    (client,) = server.clients.values()
    client.user = ANI
    assert (client.user_id, client.name) == ("42", "Ani")
    assert [each["name"] for each in (await guest.receive())["users"]] == ["Ani"]
    assert server.send_user("42", "hi") == 1
    assert (await guest.receive())["message"] == "hi"
    client.user = BUDI
    assert (server.send_user("42", 1), server.send_user("7", 1)) == (0, 1)
    assert (await guest.receive())["message"] == 1
    assert [each["name"] for each in (await guest.receive())["users"]] == ["Budi"]
    client.user = None
    assert server.send_user("7", 1) == 0
    assert client.user_id is None
    assert [each["name"] for each in (await guest.receive())["users"]] == ["Guest"]


async def test_user_of_a_client_that_is_gone_is_nowhere(people, enter):
    server = await people()
    guest = await enter(server)
    (client,) = server.clients.values()
    await guest.send(close(1000))
    await until(lambda: not server.clients)
    client.user = ANI
    assert server.send_user("42", 1) == 0


async def test_user_of_a_refused_client_is_nowhere(make_server, people, dial):
    server = make_server()
    server.on("connect")(lambda client: False)
    await people(server)
    client = await dial(server)
    with pytest.raises(AssertionError, match="403"):
        await client.handshake(headers=[("X-Token", "ani")])
    assert server.clients_of("42") == []


async def test_users_may_be_any_objects(make_server, serve, connect):
    server = make_server()

    class Row:
        def __init__(self, id):  # noqa: A002
            self.id = id

    users = iter([Row(42), Row("42"), Row(None), Row(""), object()])

    @server.on("connect")
    def identified(client):
        client.user = next(users)

    await serve(server)
    for _ in range(5):
        await connect(server)
    assert [each.user_id for each in server.clients.values()] == ["42", "42", None, None, None]
    assert len(server.clients_of("42")) == 2


async def test_user_whose_id_raises_is_let_in_and_logged(
    make_server, serve, connect, logged_errors
):
    server = make_server()

    class Detached:
        @property
        def id(self):
            raise RuntimeError("the session of this row is closed")

    @server.on("connect")
    def identified(client):
        client.user = Detached()

    await serve(server)
    client = await connect(server)
    await client.fence()
    assert logged_errors() == ["user without an id"]


async def test_send_hooks_see_each_client_of_a_user(make_server, people, enter):
    server = make_server()
    seen = []

    @server.on("send")
    def sent(client, opcode, payload):
        if b"private" in payload:
            seen.append((client.id, payload))

    await people(server)
    first, second = await enter(server, "ani"), await enter(server, "ani")
    server.send_user("42", 1)
    expected = b'{"type":"private","message":1}'
    assert seen == [(first.id, expected), (second.id, expected)]
