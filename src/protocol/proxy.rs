//! The PROXY protocol, versions 1 and 2: what a proxy says ahead of all else (`HAProxy`,
//! `doc/proxy-protocol.txt`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1, with its end of line (§2.1).
pub const MAX_V1_BYTES: usize = 107;

/// Longest header of version 2 that is taken, with its extensions; it could say 65,551.
pub const MAX_V2_BYTES: usize = 4096;

/// What begins version 2 (§2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part of version 2: signature, version and command, family, length.
const V2_HEAD_BYTES: usize = 16;

/// What begins version 1.
const V1_START: &[u8] = b"PROXY ";

/// Who the proxy speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A client on IPv4 or IPv6; an IPv4-mapped address is given as IPv4.
    Inet(SocketAddr),
    /// A client on a Unix socket of the proxy's machine.
    Unix,
    /// Nobody: the proxy itself connects (LOCAL), or does not know (UNKNOWN, UNSPEC).
    Unknown,
}

/// A header that breaks the protocol. The connection is to be aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Reads a header that may come in any pieces.
#[derive(Debug, Default)]
pub struct Reader {
    head: Vec<u8>,
}

/// What a piece has completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All of the piece belongs to the header, and more is to come.
    Incomplete,
    /// The header, and how many bytes of the piece belong to it.
    Complete(Source, usize),
}

impl Reader {
    /// Take the next piece; of [`MAX_V2_BYTES`] one is always complete or wrong.
    ///
    /// Fails at the byte that proves it wrong, but for what is inside a line or a block of
    /// addresses, which is read when it is whole.
    pub fn receive(&mut self, piece: &[u8]) -> Result<Progress, Malformed> {
        let before = self.head.len();
        self.head.extend_from_slice(piece);
        let Some((source, len)) = parse(&self.head)? else { return Ok(Progress::Incomplete) };
        Ok(Progress::Complete(source, len.saturating_sub(before)))
    }
}

/// Read a header from the beginning of `input`: who, and its length; `None` while bytes are missing.
fn parse(input: &[u8]) -> Result<Option<(Source, usize)>, Malformed> {
    let begins = |start: &[u8]| {
        let len = start.len().min(input.len());
        input.get(..len) == start.get(..len)
    };
    if begins(SIGNATURE) {
        return parse_v2(input);
    }
    if begins(V1_START) {
        return parse_v1(input);
    }
    Err(Malformed("no PROXY header"))
}

/// A line of text (§2.1).
fn parse_v1(input: &[u8]) -> Result<Option<(Source, usize)>, Malformed> {
    let most = input.get(..MAX_V1_BYTES).unwrap_or(input);
    let Some(end) = most.iter().position(|byte| *byte == b'\n') else {
        if input.len() >= MAX_V1_BYTES {
            return Err(Malformed("PROXY line over 107 bytes"));
        }
        return Ok(None);
    };
    let line = most.get(V1_START.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let source = line.and_then(source_of_line).ok_or(Malformed("malformed PROXY line"))?;
    Ok(Some((source, end + 1)))
}

fn source_of_line(line: &str) -> Option<Source> {
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Source::Unknown); // What follows is to be ignored.
    }
    let (source, destination) = (words.next()?, words.next()?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    let _ = destination_port;
    let ip: IpAddr = match family {
        "TCP4" => {
            destination.parse::<Ipv4Addr>().ok()?;
            source.parse::<Ipv4Addr>().ok()?.into()
        }
        "TCP6" => {
            destination.parse::<Ipv6Addr>().ok()?;
            source.parse::<Ipv6Addr>().ok()?.into()
        }
        _ => return None,
    };
    words.next().is_none().then(|| inet(ip, source_port))
}

/// A port without leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_sound = text.bytes().all(|byte| byte.is_ascii_digit())
        && !(text.len() > 1 && text.starts_with('0'));
    if is_sound { text.parse().ok() } else { None }
}

/// A block of binary addresses, and extensions, which are skipped (§2.2).
fn parse_v2(input: &[u8]) -> Result<Option<(Source, usize)>, Malformed> {
    let rest = input.get(SIGNATURE.len()..).unwrap_or_default();
    if let Some(version) = rest.first()
        && version >> 4 != 2
    {
        return Err(Malformed("PROXY version is not 2"));
    }
    let &[command, family, high, low, ..] = rest else { return Ok(None) };
    let len = V2_HEAD_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_V2_BYTES {
        return Err(Malformed("PROXY header over 4096 bytes"));
    }
    let Some(block) = input.get(V2_HEAD_BYTES..len) else { return Ok(None) };
    let source = match command & 0x0F {
        0 => Source::Unknown,
        1 => source_of_block(family, block)?,
        _ => return Err(Malformed("unknown PROXY command")),
    };
    Ok(Some((source, len)))
}

fn source_of_block(family: u8, block: &[u8]) -> Result<Source, Malformed> {
    const TRUNCATED: Malformed = Malformed("PROXY addresses are cut off");
    match family {
        // TCP over IPv4: two addresses, two ports.
        0x11 => {
            let (address, rest) = block.split_first_chunk::<4>().ok_or(TRUNCATED)?;
            let port =
                rest.get(4..8).and_then(|ports| ports.first_chunk::<2>()).ok_or(TRUNCATED)?;
            Ok(inet(Ipv4Addr::from(*address).into(), u16::from_be_bytes(*port)))
        }
        // TCP over IPv6.
        0x21 => {
            let (address, rest) = block.split_first_chunk::<16>().ok_or(TRUNCATED)?;
            let port =
                rest.get(16..20).and_then(|ports| ports.first_chunk::<2>()).ok_or(TRUNCATED)?;
            Ok(inet(Ipv6Addr::from(*address).into(), u16::from_be_bytes(*port)))
        }
        // A stream over a Unix socket: two paths of 108 bytes, which say nothing outside of it.
        0x31 => block.get(..216).map(|_| Source::Unix).ok_or(TRUNCATED),
        // UNSPEC: the receiver should use what it sees itself.
        0x00 => Ok(Source::Unknown),
        // Datagrams, and what does not exist.
        _ => Err(Malformed("unknown PROXY family")),
    }
}

fn inet(ip: IpAddr, port: u16) -> Source {
    Source::Inet(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let len = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &len, block].concat()
    }

    fn v2_ipv4() -> Vec<u8> {
        v2(0x21, 0x11, &[203, 0, 113, 7, 10, 0, 0, 2, 0x12, 0x67, 0x00, 0x50])
    }

    fn v2_ipv6(address: &str) -> Vec<u8> {
        let octets = address.parse::<Ipv6Addr>().unwrap().octets();
        v2(0x21, 0x21, &[&octets, [0_u8; 16].as_slice(), &[0x12, 0x67, 0x00, 0x50]].concat())
    }

    fn source(text: &str) -> Source {
        Source::Inet(text.parse().unwrap())
    }

    /// Sound headers and who they name.
    fn sound() -> Vec<(Vec<u8>, Source)> {
        let with_extensions = {
            let mut block = v2_ipv4()[16..].to_vec();
            block.extend([0x04, 0x00, 0x03, 1, 2, 3]);
            v2(0x21, 0x11, &block)
        };
        let longest = {
            let mut block = v2_ipv4()[16..].to_vec();
            block.resize(MAX_V2_BYTES - 16, 0xAA);
            v2(0x21, 0x11, &block)
        };
        let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        vec![
            (b"PROXY TCP4 203.0.113.7 10.0.0.2 4711 80\r\n".to_vec(), source("203.0.113.7:4711")),
            (b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n".to_vec(), source("[2001:db8::7]:4711")),
            (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 0 0\r\n".to_vec(), source("203.0.113.7:0")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Source::Unknown),
            (format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n").into_bytes(), Source::Unknown),
            (v2_ipv4(), source("203.0.113.7:4711")),
            (v2_ipv6("2001:db8::7"), source("[2001:db8::7]:4711")),
            (v2_ipv6("::ffff:203.0.113.7"), source("203.0.113.7:4711")),
            (v2(0x21, 0x31, &[b'/'; 216]), Source::Unix),
            (v2(0x21, 0x00, &[]), Source::Unknown),
            (v2(0x20, 0x00, &[]), Source::Unknown),
            (v2(0x20, 0x11, &[1; 12]), Source::Unknown),
            (with_extensions, source("203.0.113.7:4711")),
            (longest, source("203.0.113.7:4711")),
        ]
    }

    /// Read piece by piece; returns the source and how many bytes of all belong to the header.
    fn read(input: &[u8], size: usize) -> Result<Option<(Source, usize)>, Malformed> {
        let mut reader = Reader::default();
        let mut at = 0;
        for piece in input.chunks(size) {
            match reader.receive(piece)? {
                Progress::Incomplete => at += piece.len(),
                Progress::Complete(source, taken) => return Ok(Some((source, at + taken))),
            }
        }
        Ok(None)
    }

    #[test]
    fn sound_headers_are_read_however_they_are_cut_and_nothing_behind_them_is() {
        for (header, source) in sound() {
            let input = [header.as_slice(), b"GET / HTTP/1.1\r\n\r\nPROXY "].concat();
            for size in (1..40).chain([input.len()]) {
                assert_eq!(read(&input, size), Ok(Some((source, header.len()))), "cut by {size}");
            }
            for end in 0..header.len() {
                assert_eq!(read(&header[..end], header.len()), Ok(None), "{end} bytes");
            }
        }
    }

    #[test]
    fn the_longest_line_has_107_bytes() {
        let filled = |len: usize| {
            let padding = "x".repeat(len - "PROXY UNKNOWN \r\n".len());
            format!("PROXY UNKNOWN {padding}\r\n").into_bytes()
        };
        for len in [106, 107] {
            assert_eq!(read(&filled(len), 1), Ok(Some((Source::Unknown, len))));
        }
        let refused = Err(Malformed("PROXY line over 107 bytes"));
        assert_eq!(read(&filled(108), 1), refused);
        assert_eq!(read(&filled(108)[..107], 1), refused, "at the byte that proves it");
    }

    #[test]
    fn a_block_over_4096_bytes_is_refused_at_its_length() {
        let mut header = v2(0x21, 0x11, &[0; 4081]);
        header.truncate(16);
        assert_eq!(read(&header, 1), Err(Malformed("PROXY header over 4096 bytes")));
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        let lines = [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
            "PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 x\r\n",
            "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2  1\r\n",
            "\r\n\r\n\r\n",
            "\r\n\r\n\0\r\nQUIX\n",
            "PROXY UNKNOWNx\r\n",
        ];
        for line in lines {
            assert!(read(line.as_bytes(), line.len()).is_err(), "{line:?}");
        }
        let blocks = [
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x12, &[0; 12]),
            v2(0x21, 0x44, &[0; 12]),
        ];
        for block in blocks {
            assert!(read(&block, block.len()).is_err(), "{block:x?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_cutting_changes_nothing(
            start in prop::sample::select(vec![Vec::new(), SIGNATURE.to_vec(), V1_START.to_vec(), v2_ipv4()]),
            rest in prop::collection::vec(any::<u8>(), 0..200),
            size in 1..50_usize,
        ) {
            let input = [start, rest].concat();
            prop_assert_eq!(read(&input, size), read(&input, input.len().max(1)));
        }
    }
}
