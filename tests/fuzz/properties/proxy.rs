//! A PROXY header is read alike however it is cut, is never longer than it may be, and what it says
//! is what its text or its numbers say.

use std::net::{IpAddr, SocketAddr};

use rakit_ws_core::protocol::proxy::{MAX_V1_BYTES, MAX_V2_BYTES, Progress, Reader, Source};

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Read(Source, usize),
    Malformed,
    Incomplete,
}

/// The first byte says in which pieces the rest comes.
pub fn check(data: &[u8]) {
    let Some((&size, input)) = data.split_first() else { return };
    let whole = read(input, input.len());
    assert_eq!(read(input, 1 + usize::from(size)), whole, "cut");
    match whole {
        Outcome::Read(source, len) if input.starts_with(b"PROXY ") => {
            assert!(len <= MAX_V1_BYTES);
            check_text(source, std::str::from_utf8(&input[..len]).unwrap());
        }
        Outcome::Read(source, len) => check_numbers(source, &input[..len]),
        Outcome::Malformed => {}
        Outcome::Incomplete => assert!(input.len() < MAX_V2_BYTES, "it ends nowhere"),
    }
}

fn read(input: &[u8], size: usize) -> Outcome {
    let mut reader = Reader::default();
    let mut before = 0;
    for piece in input.chunks(size.max(1)) {
        match reader.receive(piece) {
            Ok(Progress::Incomplete) => before += piece.len(),
            Ok(Progress::Complete(source, taken)) => {
                assert!(taken <= piece.len());
                return Outcome::Read(source, before + taken);
            }
            Err(_) => return Outcome::Malformed,
        }
    }
    Outcome::Incomplete
}

/// Version 1: `PROXY TCP4 source destination port port`, in words.
fn check_text(source: Source, line: &str) {
    let words: Vec<&str> = line.strip_suffix("\r\n").unwrap().split(' ').collect();
    match source {
        Source::Inet(address) => {
            assert_eq!(words.len(), 6, "{line:?}");
            let ip: IpAddr = words[2].parse().unwrap();
            assert_eq!(ip.is_ipv4(), words[1] == "TCP4");
            assert_eq!(address, SocketAddr::new(ip.to_canonical(), words[4].parse().unwrap()));
        }
        Source::Unknown => assert_eq!(words[1], "UNKNOWN"),
        Source::Unix => panic!("version 1 has no Unix sockets"),
    }
}

/// Version 2: 12 bytes of signature, version and command, family, length; then the addresses.
fn check_numbers(source: Source, header: &[u8]) {
    assert!(header.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
    assert!(header.len() <= MAX_V2_BYTES);
    let length = usize::from(header[14]) * 256 + usize::from(header[15]);
    assert_eq!(header.len(), 16 + length);
    assert_eq!(header[12] >> 4, 2);
    match source {
        Source::Inet(SocketAddr::V4(address)) if header[13] >> 4 == 1 => {
            assert_eq!(address.ip().octets(), header[16..20]);
            assert_eq!(address.port().to_be_bytes(), header[24..26]);
        }
        Source::Inet(address) => {
            assert_eq!(header[13] >> 4, 2);
            let ip: [u8; 16] = header[16..32].try_into().unwrap();
            assert_eq!(address.ip(), IpAddr::from(ip).to_canonical());
            assert_eq!(address.port().to_be_bytes(), header[48..50]);
        }
        Source::Unix => assert_eq!(header[13] >> 4, 3),
        Source::Unknown => assert!(header[12] == 0x20 || header[13] >> 4 == 0),
    }
}
