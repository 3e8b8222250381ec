"""An HTTP server for tests: what it answers is a function of theirs, and it keeps what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class WebServer:
    """A server on a port of its own; `answer(request)` is a coroutine that tests may replace."""

    answer: object
    url: str = ""
    requests: list = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    async def handle(self, request):
        self.requests.append(request)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self.answer(request)
        finally:
            self.under_way -= 1


@contextlib.asynccontextmanager
async def web_server(answer):
    """Run a server for as long as the block runs."""
    server = WebServer(answer)
    # Stalled answers must not hold up the end of a test.
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}/"
    try:
        yield server
    finally:
        await runner.cleanup()


def always(body, *, status=200, headers=None):
    """Answer the same to everybody: JSON, or bytes as they are."""

    async def answer(request):
        if isinstance(body, bytes):
            return web.Response(body=body, status=status, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    return answer


async def never(request):
    """Answer nobody."""
    await asyncio.sleep(3600)
