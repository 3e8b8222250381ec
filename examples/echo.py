"""Echo every message, text and binary, as it came: what conformance and load tools talk to.

python examples/echo.py --port 9001
"""

import argparse

from rakit_ws import Client, Server


def main() -> int:
    """Run the server until it is stopped."""
    parser = argparse.ArgumentParser(description="A raw echo server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--log-level", default="warning")
    parser.add_argument("--no-compression", action="store_true")
    parser.add_argument("--certificate", default="", help="PEM file: speak TLS")
    parser.add_argument("--key", default="", help="PEM file of its private key")
    arguments = parser.parse_args()
    server = Server(
        host=arguments.host,
        port=arguments.port,
        log_level=arguments.log_level,
        tls={"certificate": arguments.certificate, "key": arguments.key},
        welcome=False,
        presence={"enabled": False},
        compression={"enabled": not arguments.no_compression},
        # The conformance suite sends 16 MiB in one message, and one of 65,536 fragments with an
        # empty one behind them.
        max_buffer_size=16 * 1024 * 1024,
        max_fragments=1 << 17,
        max_send_buffer=32 * 1024 * 1024,
    )

    @server.on("start")
    def started(server: Server) -> None:
        print(f"listening on {', '.join(server.addresses)}", flush=True)

    @server.on("receive")
    def echo(client: Client, opcode: int, payload: bytes) -> bool:
        client.send_frame(opcode, payload)
        return True

    return server.run()


if __name__ == "__main__":
    raise SystemExit(main())
