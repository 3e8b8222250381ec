//! The JSON of channels, as bytes to send and bytes to recognise.

use serde_json::json;

use crate::ring::{numbered_text, varied_text};

/// One publication in so many is compared with what was sent; of the others only the length.
const SAMPLE: usize = 16;

/// How the publications that arrive on a connection look, learned from the first.
///
/// They come from one sender to one channel, so all have one length and the payload in one place.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    len: usize,
    data_at: usize,
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Publication,
    Ack,
    /// Welcome, presence and whatever else may come by itself.
    Other,
}

impl Said {
    /// Tell by the first key, which is `type` in all that a server says. `Err` holds its error.
    pub fn by(payload: &[u8]) -> Result<Self, String> {
        let Some(rest) = payload.strip_prefix(br#"{"type":""#) else { return Ok(Self::Other) };
        match rest {
            [b'c', b'h', b'a', b'n', b'n', b'e', b'l', b'"', ..] => Ok(Self::Publication),
            [b'a', b'c', b'k', b'"', ..] => Ok(Self::Ack),
            [b'e', b'r', b'r', b'o', b'r', b'"', ..] => {
                Err(format!("the server answers {}", String::from_utf8_lossy(payload)))
            }
            _ => Ok(Self::Other),
        }
    }
}

/// The request to hear a channel, to be answered by an ack.
pub fn subscription(channel: &str) -> String {
    json!({"event": "subscribe", "channel": channel, "id": 1}).to_string()
}

/// The `data` of so many publications, all of one length.
pub fn payloads(count: usize, text_bytes: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| format!(r#"{{"text":"{}"}}"#, numbered_text(number, text_bytes)).into_bytes())
        .collect()
}

/// The `data` of so many publications that are to be compressed: one and the same, so that they
/// have one length then too.
pub fn compressible(count: usize, text_bytes: usize) -> Vec<Vec<u8>> {
    vec![format!(r#"{{"text":"{}"}}"#, varied_text(text_bytes)).into_bytes(); count]
}

/// The message that publishes this payload.
pub fn message(channel: &str, data: &[u8]) -> Vec<u8> {
    let head = format!(r#"{{"event":"message","channel":"{channel}","data":"#);
    [head.as_bytes(), data, b"}"].concat()
}

impl Layout {
    /// Learn from the first publication, which must hold the channel and the payload as sent.
    pub fn of(publication: &[u8], channel: &str, data: &[u8]) -> Result<Self, String> {
        let named = format!(r#""channel":"{channel}""#);
        match (find(publication, named.as_bytes()), find(publication, data)) {
            (Some(_), Some(data_at)) => Ok(Self { len: publication.len(), data_at }),
            _ => Err(format!("not what was published: {}", String::from_utf8_lossy(publication))),
        }
    }

    /// Check publication `number` of a connection.
    pub fn check(self, number: usize, publication: &[u8], data: &[u8]) -> Result<(), String> {
        if publication.len() != self.len {
            return Err(format!("{} bytes instead of {}", publication.len(), self.len));
        }
        if number.is_multiple_of(SAMPLE) && !publication[self.data_at..].starts_with(data) {
            return Err(format!("publication {number} has other data"));
        }
        Ok(())
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
