"""
Hooks and a command of one's own.

python -m rakit_ws run --app examples.hooks:server

From any browser console:

    const ws = new WebSocket("ws://127.0.0.1:6001");
    ws.onmessage = (event) => console.log(JSON.parse(event.data));
    ws.onopen = () => ws.send(JSON.stringify({command: "time", zone: "Asia/Jakarta", id: 1}));
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, available_timezones

from rakit_ws import Client, Opcode, Refused, Server

ZONES = available_timezones()

server = Server(port=6001)


@server.on("connect")
async def connected(client: Client) -> None:
    """Let everyone in but those who ask for /private; tell the lobby who comes."""
    if client.path == "/private":
        raise Refused(403, "nobody may go there")
    await server.publish("lobby", {"joined": client.id})
    client.subscribe("lobby")


@server.on("disconnect")
def disconnected(client: Client) -> None:
    """Tell the lobby who has gone."""
    server.publish("lobby", {"left": client.id})


@server.on("receive")
def received(client: Client, opcode: int, payload: bytes) -> bool:
    """Take binary messages over; leave text to the server."""
    if opcode != Opcode.BINARY:
        return False
    client.send({"received_bytes": len(payload)})
    return True


@server.command("time")
def time(_client: Client, zone: str = "UTC") -> object:
    """Tell what time it is in a time zone: `{"command":"time","zone":"Asia/Jakarta","id":1}`."""
    if zone not in ZONES:
        return {"error": f"there is no time zone {zone}"}
    return {"zone": zone, "time": datetime.now(ZoneInfo(zone)).isoformat(timespec="seconds")}


if __name__ == "__main__":
    raise SystemExit(server.run())
