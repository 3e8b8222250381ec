// The JSON of channels, as far as the benches need it: what the JavaScript peers have in common.

import { randomBytes } from "node:crypto";

const words = process.argv.slice(2);

export const port = Number(words[words.indexOf("--port") + 1]);
export const echoes = words.includes("--echo");
export const deflates = words.includes("--deflate");
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

export function clientId() {
  return Array.from(randomBytes(16), (byte) => ALPHABET[byte % ALPHABET.length]).join("");
}

/** What the subscribers of a channel get; keys in the order in which rakit_ws sends them. */
export function publication(message, id) {
  return JSON.stringify({
    type: "channel",
    channel: message.channel,
    data: message.data,
    client_id: id,
  });
}

export function ack(message) {
  return JSON.stringify({ type: "ack", id: message.id, channel: message.channel });
}
