"""Questions to HTTP servers: bounded in time and size, without cookies of their own."""

from __future__ import annotations

import asyncio
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, NamedTuple

import httpx

from rakit_ws.errors import SourceDownError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Answer(NamedTuple):
    """What an HTTP server has said."""

    status: int
    body: bytes


def new_client(timeout_s: float, *, connections: int, uses_proxies: bool) -> httpx.AsyncClient:
    """
    Make a client that opens up to `connections`.

    It follows no redirects, and keeps no cookie of an answer: that would go out with the next
    question, which is about somebody else. `uses_proxies`: those of the environment.
    """
    return httpx.AsyncClient(
        timeout=timeout_s,
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"Accept-Encoding": "identity"},
        follow_redirects=False,
        trust_env=uses_proxies,
    )


async def ask(
    client: httpx.AsyncClient,
    url: str,
    headers: Sequence[tuple[bytes, bytes]] = (),
    *,
    timeout_s: float,
    max_bytes: int,
) -> Answer:
    """
    Return the answer to a GET, within `timeout_s` in all.

    Raises:
        SourceDownError: there was none in time, or one of more than `max_bytes`.

    """
    try:
        return await asyncio.wait_for(_ask(client, url, headers, max_bytes), timeout_s)
    except (asyncio.TimeoutError, httpx.TimeoutException):
        raise SourceDownError(f"no answer within {timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as fault:
        raise SourceDownError(f"{type(fault).__name__}: {fault}") from fault


async def _ask(
    client: httpx.AsyncClient, url: str, headers: Sequence[tuple[bytes, bytes]], max_bytes: int
) -> Answer:
    body = bytearray()
    async with client.stream("GET", url, headers=list(headers)) as response:
        # As it comes: what is compressed could be anything as large as it likes.
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > max_bytes:
                raise SourceDownError(f"an answer of more than {max_bytes} bytes")
        return Answer(response.status_code, bytes(body))
