"""Users whom a URL of the application names: what it is asked, what it may answer, and how often."""

from __future__ import annotations

import asyncio
import gzip

import pytest
from aiohttp import web

from conftest import until
from rakit_ws import ConfigError, SourceDownError
from rakit_ws.auth.http import MAX_ANSWER_BYTES, MAX_CACHED, HttpSource
from rakit_ws.source_options import Http
from raw_client import request
from web_server import always, never, web_server

ANI = {"id": 7, "name": "Ani", "email": "ani@example.com", "role": "editor", "password": "x"}


class Handshake:
    """As much of a request as is looked at here."""

    def __init__(self, **headers):
        self.headers = headers

    def header(self, name):
        return self.headers.get(name)


class Time:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
async def application():
    async with web_server(always(ANI)) as server:
        yield server


@pytest.fixture
async def source_of():
    made = []

    def make(application, *, timeout_s=2.0, **settings):
        settings = {"url": application.url, **settings}
        source = HttpSource(Http(**settings), timeout_s=timeout_s, clock=Time(), wall_clock=Time())
        made.append(source)
        return source

    yield make
    for source in made:
        await source.aclose()


async def user(source, cookie="a=1", **headers):
    found = source.authenticate(Handshake(cookie=cookie, **headers))
    return await found if hasattr(found, "__await__") else found


# --- What is asked


async def test_cookies_are_passed_on_and_the_user_of_the_answer_is_taken(application, source_of):
    found = await user(source_of(application), "rakit_session=\xe9; x=1", authorization="Bearer x")
    assert (found.id, found.name, found.email, found.role) == (
        "7",
        "Ani",
        "ani@example.com",
        "editor",
    )
    assert dict(found.columns).keys() == {"name", "email", "role"}
    (asked,) = application.requests
    raw = {name.lower(): value for name, value in asked.raw_headers}
    assert raw[b"cookie"] == b"rakit_session=\xe9; x=1"
    assert b"authorization" not in raw
    assert raw[b"accept"] == b"application/json"
    assert raw[b"accept-encoding"] == b"identity"
    assert asked.method == "GET"


async def test_chosen_headers_are_passed_on_and_the_host_may_be_another(application, source_of):
    source = source_of(application, headers=["Authorization", "X-Tenant"], host="app.example:8443")
    await user(source, authorization="Basic QQ==", **{"x-tenant": "t"})
    (asked,) = application.requests
    assert (asked.headers["authorization"], asked.headers["x-tenant"]) == ("Basic QQ==", "t")
    assert "cookie" not in asked.headers
    assert asked.headers["host"] == "app.example:8443"


async def test_handshake_without_the_headers_is_a_guests_and_nobody_is_asked(
    application, source_of
):
    assert await user(source_of(application), None) is None
    assert application.requests == []


async def test_cookie_of_an_answer_does_not_go_out_with_the_next_question(application, source_of):
    application.answer = always(ANI, headers={"Set-Cookie": "theirs=secret; Path=/"})
    source = source_of(application, cache=0, headers=["cookie", "x-user"])
    await user(source, "a=1")
    await user(source, None, **{"x-user": "b"})
    assert [each.headers.get("cookie") for each in application.requests] == ["a=1", None]


# --- What is answered


@pytest.mark.parametrize("answer", [always(b"", status=each) for each in (204, 401, 403)])
async def test_answers_that_mean_nobody(application, source_of, answer):
    application.answer = answer
    assert await user(source_of(application)) is None


async def test_null_means_nobody(application, source_of):
    application.answer = always(None)
    assert await user(source_of(application)) is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (always(b"", status=500), "answered 500"),
        (always(b"", status=404), "answered 404"),
        (always(b"", status=302, headers={"Location": "/login"}), "answered 302"),
        (always(b"<html>"), "no JSON"),
        (always(b"[" * 5000), "no JSON"),
        (always(b"\xff"), "no JSON"),
        (always(gzip.compress(b'{"id":"7"}'), headers={"Content-Encoding": "gzip"}), "no JSON"),
        (always([]), "no JSON object"),
        (always({}), "no `id`"),
        (always({"id": None}), "no `id`"),
        (always({"id": 1.5}), "no `id`"),
        (always({"id": True}), "no `id`"),
        (always(b" " * (MAX_ANSWER_BYTES + 1)), "more than"),
    ],
)
async def test_any_other_answer_is_a_failure(application, source_of, answer, reason):
    application.answer = answer
    with pytest.raises(SourceDownError, match=reason):
        await user(source_of(application))
    assert len(application.requests) == 1  # no redirect is followed


async def test_answer_of_the_greatest_size_is_read(application, source_of):
    application.answer = always(b'{"id":"7"}'.ljust(MAX_ANSWER_BYTES))
    assert (await user(source_of(application))).id == "7"


async def test_answer_that_does_not_come_or_does_not_end_is_a_failure(application, source_of):
    application.answer = never
    with pytest.raises(SourceDownError, match=r"within 0\.05 s"):
        await user(source_of(application, timeout_s=0.05))

    async def trickle(asked):
        response = web.StreamResponse()
        await response.prepare(asked)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    application.answer = trickle
    with pytest.raises(SourceDownError, match=r"within 0\.1 s"):
        await user(source_of(application, timeout_s=0.1))


async def test_application_that_is_not_there_is_a_failure(application, source_of):
    with pytest.raises(SourceDownError, match="ConnectError"):
        await user(source_of(application, url="http://127.0.0.1:1/"))


async def test_user_of_an_answer_may_have_channels_and_an_end(application, source_of):
    application.answer = always({"id": "7", "channels": ["private-7"], "expires_at": 1001})
    found = await user(source_of(application))
    assert (found.channels, found.expires_at) == (("private-7",), 1001)
    application.answer = always({"id": "7", "expires_at": 1000})
    assert await user(source_of(application)) is None


# --- How often


async def test_user_is_kept_for_the_same_headers_only_and_only_so_long(application, source_of):
    source = source_of(application, cache=5)
    await user(source, "a=1")
    await user(source, "a=1")
    assert len(application.requests) == 1
    await user(source, "a=2")
    assert len(application.requests) == 2
    source._clock.now_s += 5
    await user(source, "a=1")
    assert len(application.requests) == 3


async def test_headers_that_only_look_the_same_joined_are_others(application, source_of):
    source = source_of(application, headers=["x-a", "x-b"])
    await user(source, None, **{"x-a": "1", "x-b": "23"})
    await user(source, None, **{"x-a": "12", "x-b": "3"})
    await user(source, None, **{"x-a": "123"})
    assert len(application.requests) == 3


async def test_no_header_is_kept(application, source_of):
    source = source_of(application)
    await user(source, "rakit_session=secret")
    assert len(source._cached) == 1
    assert "secret" not in repr(source._cached)


async def test_nothing_is_kept_without_a_cache(application, source_of):
    source = source_of(application, cache=0)
    await user(source)
    await user(source)
    assert len(application.requests) == 2


async def test_nobody_is_not_kept_as_a_login_changes_it(application, source_of):
    source = source_of(application)
    application.answer = always(None)
    assert await user(source) is None
    application.answer = always(ANI)
    assert (await user(source)).id == "7"


async def test_failure_is_not_kept(application, source_of):
    source = source_of(application)
    application.answer = always(b"", status=500)
    with pytest.raises(SourceDownError):
        await user(source)
    application.answer = always(ANI)
    assert (await user(source)).id == "7"


async def test_oldest_user_goes_when_too_many_are_kept(application, source_of):
    source = source_of(application)
    for number in range(MAX_CACHED):
        source._keep(str(number).encode(), number)
    assert len(source._cached) == MAX_CACHED
    await user(source)
    assert len(source._cached) == MAX_CACHED
    assert b"0" not in source._cached
    assert b"1" in source._cached


async def test_equal_questions_that_come_together_are_one(application, source_of):
    source = source_of(application, cache=0)
    found = await asyncio.gather(*(user(source) for _ in range(20)))
    assert {each.id for each in found} == {"7"}
    assert len(application.requests) == 1


async def test_at_most_so_many_questions_are_under_way(application, source_of):
    release = asyncio.Event()

    async def later(asked):
        await release.wait()
        return web.json_response({"id": asked.headers["cookie"]})

    application.answer = later
    source = source_of(application, max_requests=3)
    waiting = [asyncio.ensure_future(user(source, f"u={number}")) for number in range(12)]
    await until(lambda: application.under_way == 3)
    for _ in range(20):
        await asyncio.sleep(0)
    assert application.under_way == 3
    release.set()
    found = await asyncio.gather(*waiting)
    assert [each.id for each in found] == [f"u={number}" for number in range(12)]
    assert application.most_under_way == 3


async def test_who_gives_up_ends_the_question_only_if_nobody_else_waits(application, source_of):
    application.answer = never
    source = source_of(application)
    first, second = (asyncio.ensure_future(user(source)) for _ in range(2))
    await until(lambda: application.under_way == 1)
    first.cancel()
    await asyncio.wait([first])
    assert application.under_way == 1
    second.cancel()
    await asyncio.wait([second])
    await until(lambda: not source._questions)
    application.answer = always(ANI)
    assert (await user(source)).id == "7"


# --- Looking again


async def test_recheck_asks_whatever_is_kept(application, source_of):
    source = source_of(application)
    known = await user(source)
    again = await source.recheck(Handshake(cookie="a=1"), known)
    assert again == known
    application.answer = always(b"", status=401)
    assert await source.recheck(Handshake(cookie="a=1"), known) is None
    assert await user(source) is None  # forgotten, too


# --- Configurations that can't be


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": ""}, "http.url: missing"),
        ({"url": "app.example/me"}, "https://"),
        ({"url": "http://:80/"}, "https://"),
        ({"url": "http://a.example:99999/"}, "https://"),
        ({"url": "http://a.example/ x"}, "https://"),
        ({"url": "http://a.example/#x"}, "https://"),
        ({"headers": ["Host"]}, "connection's own"),
        ({"headers": ["Sec-WebSocket-Key"]}, "connection's own"),
        ({"headers": ["a b"]}, "connection's own"),
        ({"host": "a b"}, "address"),
        ({"max_requests": 0}, "1 to 1000"),
    ],
)
async def test_configuration_that_can_not_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        HttpSource(Http(**{"url": "http://a.example/", **settings}), timeout_s=1)


@pytest.mark.parametrize(
    ("url", "is_open"),
    [
        ("http://127.0.0.1:8000/me", False),
        ("http://[::1]/me", False),
        ("http://localhost/me", False),
        ("https://app.example/me", False),
        ("http://app.example/me", True),
    ],
)
def test_cookies_in_the_clear_are_warned_of(make_server, url, is_open):
    warnings = make_server(http={"url": url}, jwt={"keys_url": url}).config.warnings()
    assert [("http.url" in text, "jwt.keys_url" in text) for text in warnings] == (
        [(False, True), (True, False)] if is_open else []
    )


# --- In a server


@pytest.fixture
async def serve_application(serve, application):
    async def start(*, auth=None, **http):
        return await serve(
            auth={"sources": ["http"], **(auth or {})}, http={"url": application.url, **http}
        )

    return start


def with_cookie(**headers):
    pairs = {"Cookie": "a=1", **headers}
    return {"headers": list(pairs.items())}


async def status(client, **headers):
    await client.send(request(**with_cookie(**headers)))
    return (await client.read_response()).status


async def test_client_is_the_user_of_its_cookie(serve_application, connect):
    server = await serve_application()
    await connect(server, **with_cookie())
    (client,) = server.clients.values()
    assert (client.user_id, client.name) == ("7", "Ani")


async def test_page_of_another_site_gets_nowhere_with_the_cookie(serve_application, dial):
    server = await serve_application()
    assert await status(await dial(server), Origin="https://evil.example") == 403
    assert server.counters["cross_site_refusals"] == 1


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [("Basic QQ==", 403), ("negotiate QQ==", 403), ("Bearer x", 101), ("Token x", 101)],
)
async def test_credentials_that_browsers_send_by_themselves_are_as_cookies(
    serve_application, dial, scheme, expected
):
    client = await dial(await serve_application(headers=["authorization"]))
    headers = [("Authorization", scheme), ("Origin", "https://evil.example")]
    await client.send(request(headers=headers))
    assert (await client.read_response()).status == expected


async def test_application_that_hangs_holds_up_only_who_waits_for_it(
    serve_application, application, connect, dial
):
    application.answer = never
    server = await serve_application(auth={"timeout": 0.3})
    guest = await connect(server)
    waiting = await dial(server)
    await waiting.send(request(**with_cookie()))
    await until(lambda: application.under_way)
    assert (await guest.ask({"ping": 1}))["type"] == "pong"
    await connect(server)
    assert (await waiting.read_response()).status == 503
    assert server.counters["user_source_failures"] == 1


async def test_client_is_closed_when_the_application_knows_it_no_more(
    serve_application, application, connect
):
    server = await serve_application(auth={"recheck_interval": 0.05})
    client = await connect(server, **with_cookie())
    application.answer = always(b"", status=401)
    assert await client.receive_close() == (4001, "the session has ended")
