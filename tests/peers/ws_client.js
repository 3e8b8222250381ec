// A client for test_peers.py, on the npm package ws. It does what it is told on standard input
// and tells what happens on standard output, one JSON object a line.
"use strict";

const readline = require("node:readline");
const WebSocket = require("ws");

const [url, ...protocols] = process.argv.slice(2);
const socket = new WebSocket(url, protocols);
const tell = (event) => process.stdout.write(JSON.stringify(event) + "\n");

socket.on("open", () => tell({ open: socket.protocol }));
socket.on("unexpected-response", (_request, response) => tell({ refused: response.statusCode }));
socket.on("message", (data) => tell({ message: data.toString() }));
socket.on("pong", (data) => tell({ pong: data.toString() }));
socket.on("close", (code, reason) => tell({ close: [code, reason.toString()] }));
socket.on("error", (error) => tell({ error: error.message }));

const actions = {
  send: (text) => socket.send(text),
  ping: (text) => socket.ping(text),
  close: ([code, reason]) => socket.close(code, reason),
};

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    for (const [action, argument] of Object.entries(JSON.parse(line))) {
      actions[action](argument);
    }
  })
  .on("close", () => process.exit(0));
