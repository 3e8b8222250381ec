// A peer for the benches: ws on Node. Echo with --echo, else channels.
//
// Written as its documentation advises for speed: its optional native addon (bufferutil), no
// tracking of clients that is not needed, a publication made a Buffer once and sent to a Set of
// subscribers.

import { WebSocketServer } from "ws";

import { MAX_MESSAGE_BYTES, ack, clientId, deflates, echoes, port, publication } from "./wire.mjs";

const TEXT = { binary: false };
const channels = new Map();

function echo(socket) {
  socket.on("message", (data, binary) => socket.send(data, { binary }));
}

function hub(socket) {
  const id = clientId();
  const heard = [];
  socket.on("message", (data) => receive(socket, id, heard, JSON.parse(data)));
  socket.on("close", () => heard.forEach((channel) => channels.get(channel).delete(socket)));
}

function receive(socket, id, heard, message) {
  if (message.event === "message") {
    const bytes = Buffer.from(publication(message, id));
    for (const subscriber of channels.get(message.channel) ?? []) {
      subscriber.send(bytes, TEXT);
    }
  } else if (message.event === "subscribe") {
    if (!channels.has(message.channel)) channels.set(message.channel, new Set());
    channels.get(message.channel).add(socket);
    heard.push(message.channel);
  }
  if (message.id !== undefined) {
    socket.send(ack(message));
  }
}

const server = new WebSocketServer({
  host: "127.0.0.1",
  port,
  backlog: 4096,
  clientTracking: false,
  maxPayload: MAX_MESSAGE_BYTES,
  perMessageDeflate: deflates && {
    serverNoContextTakeover: true,
    clientNoContextTakeover: true,
    threshold: 0,
  },
});
server.on("connection", (socket) => {
  socket.on("error", () => {});
  (echoes ? echo : hub)(socket);
});
