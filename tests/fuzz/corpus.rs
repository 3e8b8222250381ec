//! Where the mutations begin.

use rakit_ws_core::protocol::deflate::Deflater;
use serde_json::Value;

#[path = "../vectors/bytes.rs"]
mod vector;

use vector::bytes;

/// Larger ones say nothing that these do not say, and cost most of the time.
const MOST_BYTES: usize = 5_000;

/// What a target for frames takes: its three bytes of settings, and the input of each vector.
pub fn frames() -> Vec<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/frames.json");
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let inputs = vectors.as_array().unwrap().iter().map(|vector| {
        let role = u8::from(vector["role"] == "client");
        [vec![role, 200, 3], bytes(&vector["input"])].concat()
    });
    inputs.filter(|input| input.len() <= MOST_BYTES).collect()
}

/// What a target for handshakes takes: its byte of settings, and a request.
pub fn requests() -> Vec<Vec<u8>> {
    const SOUND: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\n";
    let lines = [
        "",
        "Sec-WebSocket-Protocol: chat, superchat\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
        "Sec-WebSocket-Extensions: a; b=\"c\", permessage-deflate; server_max_window_bits=10\r\n",
        "Origin: https://www.example.com\r\nCookie: session=%7B%7D; a=b\r\n",
        "X-Forwarded-For: 192.0.2.1, 2001:db8::1\r\nForwarded: for=\"[2001:db8::1]:80\"\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Authorization: Bearer abc\r\n",
    ];
    let many = "X: y\r\n".repeat(94);
    let long = format!("X-Long: {}\r\n", "z".repeat(16_000));
    let sound = lines.into_iter().chain([many.as_str(), long.as_str()]);
    let sound = sound.map(|line| format!("{SOUND}{line}\r\n"));
    let others = [
        "GET http://example.com/ HTTP/1.1\nHost: a\n\n".to_owned(),
        "POST / HTTP/1.0\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ];
    let whole = sound.chain(others).map(|text| [&[7][..], text.as_bytes()].concat());
    // A client that does not wait for the answer.
    let eager = format!("{SOUND}\r\n");
    whole
        .chain([[&[64][..], eager.as_bytes(), b"\x81\x85\x00\x00\x00\x00hello"].concat()])
        .collect()
}

/// What a target for PROXY headers takes: its byte of settings, and what a proxy sends first.
pub fn proxied() -> Vec<Vec<u8>> {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let lines = [
        "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n",
        "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\nGET / HTTP/1.1\r\n",
        "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n",
        "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 0 70000\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ];
    // Command, family, what follows.
    let blocks: [(u8, u8, &[u8]); 6] = [
        (0x21, 0x11, b"\xc0\0\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb"),
        (0x21, 0x11, b"\xc0\0\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb\x04\0\x01\0"),
        (0x21, 0x21, &[7; 36]),
        (0x21, 0x31, &[b'/'; 216]),
        (0x20, 0x00, b""),
        (0x21, 0x00, b"\x03\0\x04abcd"),
    ];
    let blocks = blocks.map(|(command, family, rest)| {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest, b"GET"].concat()
    });
    let all = lines.into_iter().map(|line| line.as_bytes().to_vec()).chain(blocks);
    all.map(|input| [&[3][..], &input].concat()).collect()
}

/// What a target for inflating takes: its two bytes of settings, and compressed messages.
pub fn compressed() -> Vec<Vec<u8>> {
    const BLOCK: &[u8] = b"the quick brown fox jumps over the lazy dog, and the dog over the fox. ";
    let random: Vec<u8> = {
        let mut random = fastrand::Rng::with_seed(7692);
        std::iter::repeat_with(|| random.u8(..)).take(700).collect()
    };
    let messages =
        [vec![], b"Hello".to_vec(), BLOCK.to_vec(), BLOCK.repeat(12), vec![0; 9_000], random];
    let ours = messages.iter().flat_map(|message| {
        [0, 1, 6, 9].map(|level| {
            let mut out = Vec::new();
            Deflater::new(15, level, 8, false).compress(message, &mut out);
            out
        })
    });
    let by_hand: [&[u8]; 5] = [
        b"\x00",
        // Stored, fixed, and one that is final with more behind it (RFC 7692 §7.2.3).
        b"\x00\x05\x00\xfa\xffHello\x00",
        b"\xf2\x48\xcd\xc9\xc9\x07\x00",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    ];
    let all = ours.chain(by_hand.map(<[u8]>::to_vec));
    all.map(|payload| [&[14, 5][..], &payload].concat()).collect()
}
