//! A second decoder, slow and plain: it shares no code with the one under test.
//!
//! It is given all input at once, and reads it as RFC 6455 §5 tells it, frame by frame. Where a
//! fault can be known before its frame is whole, it is looked for there first, because that
//! decides which of two faults is reported.

use rakit_ws_core::protocol::Limits;

/// What the beginning of a frame says.
#[derive(Debug)]
pub enum Known {
    /// Not enough of it is there.
    Unknown,
    /// It is a breach of the protocol, whatever follows.
    Bad,
    Header(Beginning),
}

/// A header up to its masking key.
#[derive(Debug)]
pub struct Beginning {
    pub fin: bool,
    pub reserved: u8,
    pub opcode: u8,
    pub masked: bool,
    pub length: u64,
    /// Bytes before the masking key.
    pub size: usize,
}

/// Read a header up to its masking key (§5.2, §5.5).
pub fn header(input: &[u8]) -> Known {
    if input.len() < 2 {
        return Known::Unknown;
    }
    let opcode = input[0] % 16;
    let fin = input[0] >= 128;
    let short = input[1] % 128;
    if matches!(opcode, 3..=7 | 11..=15) || (opcode >= 8 && (!fin || short > 125)) {
        return Known::Bad;
    }
    let wide = match short {
        127 => 8,
        126 => 2,
        _ => 0,
    };
    if input.len() < 2 + wide {
        return Known::Unknown;
    }
    let extended =
        input[2..2 + wide].iter().fold(0_u128, |sum, byte| sum * 256 + u128::from(*byte));
    let length = if wide == 0 { u128::from(short) } else { extended };
    let shortest = if length < 126 {
        0
    } else if length < 65_536 {
        2
    } else {
        8
    };
    if wide != shortest || length >= 1 << 63 {
        return Known::Bad;
    }
    Known::Header(Beginning {
        fin,
        reserved: input[0] / 16 % 8,
        opcode,
        masked: input[1] >= 128,
        length: u64::try_from(length).unwrap(),
        size: 2 + wide,
    })
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Message(u8, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    Failed(u16),
}

/// Everything that `input` says to an endpoint, up to a Close or a fault.
pub fn decode(peer_masks: bool, limits: Limits, input: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    if let Err(code) = read_frames(peer_masks, limits, input, &mut seen) {
        seen.push(Seen::Failed(code));
    }
    seen
}

fn read_frames(
    peer_masks: bool,
    limits: Limits,
    mut input: &[u8],
    seen: &mut Vec<Seen>,
) -> Result<(), u16> {
    let mut message: Option<(u8, Vec<u8>)> = None;
    let mut fragments = 0;
    loop {
        if matches!(header(input.get(..2).unwrap_or_default()), Known::Bad) {
            return Err(1002);
        }
        early_faults(peer_masks, message.as_ref(), input)?;
        if input.len() >= 2 && input[0] % 16 < 8 && fragments >= limits.max_fragments {
            return Err(1008);
        }
        let header = match header(input) {
            Known::Unknown => return Ok(()),
            Known::Bad => return Err(1002),
            Known::Header(header) => header,
        };
        let so_far = message.as_ref().map_or(0, |(_, text)| text.len() as u64);
        if header.opcode < 8
            && u128::from(so_far) + u128::from(header.length) > limits.max_message_bytes.into()
        {
            return Err(1009);
        }
        let size = header.size + if header.masked { 4 } else { 0 };
        if input.len() < size {
            return Ok(());
        }
        let key: Vec<u8> = input[header.size..size].to_vec();
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let there = length.min(input.len() - size);
        let payload: Vec<u8> = input[size..size + there]
            .iter()
            .enumerate()
            .map(|(at, byte)| if key.is_empty() { *byte } else { byte ^ key[at % 4] })
            .collect();
        let whole = there == length;
        input = &input[size + there..];
        if header.opcode >= 8 {
            if !whole {
                return Ok(());
            }
            match header.opcode {
                9 => seen.push(Seen::Ping(payload)),
                10 => seen.push(Seen::Pong(payload)),
                _ => {
                    seen.push(close(&payload)?);
                    return Ok(());
                }
            }
            continue;
        }
        fragments += 1;
        let (opcode, text) = message.get_or_insert((header.opcode, Vec::new()));
        text.extend_from_slice(&payload);
        if *opcode == 1 {
            check_utf8(text, whole && header.fin)?;
        }
        if !whole {
            return Ok(());
        }
        if header.fin {
            let (opcode, text) = message.take().unwrap();
            seen.push(Seen::Message(opcode, text));
            fragments = 0;
        }
    }
}

/// What the first two bytes prove to be wrong for this endpoint, now (§5.1, §5.2, §5.4).
fn early_faults(
    peer_masks: bool,
    message: Option<&(u8, Vec<u8>)>,
    input: &[u8],
) -> Result<(), u16> {
    let [first, second, ..] = input else { return Ok(()) };
    let continues = first % 16 == 0;
    let data = first % 16 < 8;
    let wrong = (first / 16 % 8 != 0)
        || (*second >= 128) != peer_masks
        || (data && continues != message.is_some());
    if wrong { Err(1002) } else { Ok(()) }
}

/// Fails where a text is not UTF-8, or cannot become it (§8.1).
fn check_utf8(text: &[u8], ended: bool) -> Result<(), u16> {
    match std::str::from_utf8(text) {
        Ok(_) => Ok(()),
        Err(error) if error.error_len().is_none() && !ended => Ok(()),
        Err(_) => Err(1007),
    }
}

/// The payload of a Close (§5.5.1, §7.4).
fn close(payload: &[u8]) -> Result<Seen, u16> {
    if payload.is_empty() {
        return Ok(Seen::Close(1005, String::new()));
    }
    if payload.len() == 1 {
        return Err(1002);
    }
    let code = u16::from(payload[0]) * 256 + u16::from(payload[1]);
    let registered = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    if !registered.contains(&code) && !(3000..5000).contains(&code) {
        return Err(1002);
    }
    let reason = String::from_utf8(payload[2..].to_vec()).map_err(|_| 1007_u16)?;
    Ok(Seen::Close(code, reason))
}
