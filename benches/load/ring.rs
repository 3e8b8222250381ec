//! The frames that a connection sends, over and over, made before the clock runs.

use rakit_ws_core::protocol::{Kind, encoder};

use crate::compression;

/// Frames of one length, masked, one behind the other; after the last comes the first again.
#[derive(Debug)]
pub struct Ring {
    /// All frames twice, so that any run of up to `frames` of them is one slice.
    bytes: Vec<u8>,
    frames: usize,
    frame_bytes: usize,
}

impl Ring {
    /// One frame for each message. All messages must have the same length.
    pub fn new(kind: Kind, messages: &[Vec<u8>]) -> Self {
        let frame = |(message, key): (&Vec<u8>, _)| {
            encoder::any_frame(true, kind.opcode(), Some(key), message)
        };
        Self::of(&messages.iter().zip(keys()).map(frame).collect::<Vec<_>>())
    }

    /// The same, compressed. All messages must be compressed to the same length.
    pub fn deflated(kind: Kind, messages: &[Vec<u8>]) -> Self {
        Self::of(&compression::frames(kind, messages.iter().zip(keys())))
    }

    fn of(frames: &[Vec<u8>]) -> Self {
        let frame_bytes = frames.first().map_or(0, Vec::len);
        let alike = frames.iter().all(|frame| frame.len() == frame_bytes);
        assert!(alike, "frames of different lengths");
        let bytes = [frames.concat(), frames.concat()].concat();
        Self { bytes, frames: frames.len(), frame_bytes }
    }

    /// The length of one frame.
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// Up to `len` bytes from `at`, a position within the first round.
    pub fn slice(&self, at: usize, len: usize) -> &[u8] {
        &self.bytes[at..self.bytes.len().min(at + len)]
    }

    /// The position `count` bytes behind `at`, again within the first round.
    pub fn position_behind(&self, at: usize, count: usize) -> usize {
        (at + count) % (self.frames * self.frame_bytes)
    }
}

/// A masking key for each frame.
fn keys() -> impl Iterator<Item = [u8; 4]> {
    (1_u32..).map(|number| number.wrapping_mul(0x9E37_79B9).to_le_bytes())
}

/// How many different messages a connection sends with so many in flight: a burst is one slice of
/// the ring, and a server that mixes up or repeats messages is found out.
pub fn variety(in_flight: usize) -> usize {
    in_flight.max(4)
}

/// A text of this many bytes that compresses as well as what people write: to about a third.
pub fn varied_text(bytes: usize) -> String {
    let (mut text, mut random) = (String::new(), 1_u64);
    while text.len() < bytes {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = WORDS[usize::try_from(random >> 40).unwrap_or(0) % WORDS.len()];
        text.push_str(word);
        text.push_str(if random >> 60 == 0 { ", 4" } else { " " });
    }
    text.truncate(bytes);
    text
}

const WORDS: [&str; 64] = [
    "selamat",
    "pagi",
    "siang",
    "malam",
    "apa",
    "kabar",
    "terima",
    "kasih",
    "pesan",
    "baru",
    "untuk",
    "semua",
    "orang",
    "yang",
    "sudah",
    "masuk",
    "ruang",
    "obrolan",
    "kami",
    "tunggu",
    "besok",
    "jam",
    "sembilan",
    "di",
    "kantor",
    "pusat",
    "kota",
    "jangan",
    "lupa",
    "bawa",
    "dokumen",
    "penting",
    "nanti",
    "kita",
    "bahas",
    "rencana",
    "kerja",
    "bulan",
    "depan",
    "dengan",
    "tim",
    "lapangan",
    "hujan",
    "deras",
    "jalan",
    "macet",
    "mungkin",
    "terlambat",
    "sedikit",
    "mohon",
    "maaf",
    "atas",
    "ketidaknyamanan",
    "ini",
    "silakan",
    "hubungi",
    "nomor",
    "telepon",
    "atau",
    "surel",
    "resmi",
    "perusahaan",
    "segera",
    "ya",
];

/// A text of this many bytes that begins with `number`.
pub fn numbered_text(number: usize, bytes: usize) -> String {
    let mut text = format!("{number:05} ");
    while text.len() < bytes {
        text.push_str("selamat pagi, apa kabar? ");
    }
    text.truncate(bytes);
    text
}
