"""
A chat: the server, and a page for it that needs nothing but a browser.

python examples/chat.py, then open the address that it prints in two windows.
"""

from __future__ import annotations

import argparse
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rakit_ws import RakitWsError, Server

PAGE = Path(__file__).with_name("chat.html")


class PageHandler(BaseHTTPRequestHandler):
    """Answers `GET /` with the page."""

    page = b""
    timeout = 10  # Browsers open connections in advance; one that asks for nothing is closed.

    def do_GET(self) -> None:
        """Answer a request."""
        if self.path.partition("?")[0] != "/":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.page)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
        """Say nothing: the chat has a log of its own."""


def main() -> int:
    """Run the chat until it is stopped; return the exit code."""
    parser = argparse.ArgumentParser(description="A chat with a page for the browser.")
    parser.add_argument("--host", default="127.0.0.1", help="where both listen")
    parser.add_argument("--port", type=int, default=6001, help="port of the chat; 0: a free one")
    parser.add_argument("--page-port", type=int, default=8000, help="port of the page; likewise")
    arguments = parser.parse_args()
    server = Server(host=arguments.host, port=arguments.port, log_level="warning")

    @server.on("start")
    def started(server: Server) -> None:
        chat = server.addresses[0]
        PageHandler.page = page_for(port=chat.rpartition(":")[2])
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        print(f"chat server: ws://{chat}")
        print(f"chat page:   http://{arguments.host}:{pages.server_port}/", flush=True)

    try:
        with ThreadingHTTPServer((arguments.host, arguments.page_port), PageHandler) as pages:
            return server.run()
    except (OSError, RakitWsError) as fault:
        parser.exit(1, f"{parser.prog}: {fault}\n")


def page_for(port: str) -> bytes:
    """Return the page, made to connect to the chat on this port of the page's own host."""
    return PAGE.read_text("utf-8").replace('data-port="6001"', f'data-port="{port}"').encode()


if __name__ == "__main__":
    raise SystemExit(main())
