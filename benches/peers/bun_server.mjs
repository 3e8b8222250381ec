// A peer for the benches: Bun, whose server is uWebSockets. Echo with --echo, else channels.
//
// Written as its documentation advises for speed: the topics of the server itself, which frames
// (and compresses) a publication once, text as the string that JSON.parse() wants, binary as
// "nodebuffer"; with --deflate the shared compressor, which is without context takeover.

import { MAX_MESSAGE_BYTES, ack, clientId, deflates, echoes, port, publication } from "./wire.mjs";

function echo(socket, message) {
  socket.send(message, deflates);
}

function receive(socket, text) {
  const message = JSON.parse(text);
  if (message.event === "message") {
    server.publish(message.channel, publication(message, socket.data.id), deflates);
  } else if (message.event === "subscribe") {
    socket.subscribe(message.channel);
  }
  if (message.id !== undefined) {
    socket.send(ack(message), false);
  }
}

const server = Bun.serve({
  hostname: "127.0.0.1",
  port,
  fetch(request, server) {
    if (!server.upgrade(request, { data: { id: clientId() } })) {
      return new Response("", { status: 426 });
    }
  },
  websocket: {
    message: echoes ? echo : receive,
    perMessageDeflate: deflates ? { compress: "shared", decompress: "shared" } : false,
    maxPayloadLength: MAX_MESSAGE_BYTES,
    backpressureLimit: MAX_MESSAGE_BYTES,
    idleTimeout: 0,
  },
});
