//! A request is read alike however it is cut, is what the HTTP parser says that it is, and what
//! was accepted keeps the rules of RFC 6455 §4.2.1.

use rakit_ws_core::protocol::handshake::{Progress, Request, RequestReader};

/// Most bytes of a header block; the engine's default.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// What came of it: headers and how many bytes they took, a status, or more is needed.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Read(Vec<(Vec<u8>, Vec<u8>)>, usize),
    Refused(u16),
    Incomplete,
}

/// The first byte says in which pieces the rest comes.
pub fn check(data: &[u8]) {
    let Some((&size, input)) = data.split_first() else { return };
    let whole = read(input, input.len());
    let cut = read(input, 1 + usize::from(size));
    // What is wrong with the lines themselves may be refused before their end, or with it. Where
    // a block is nonsense and too long, either is true.
    let faulty = |outcome: &Outcome| matches!(outcome, Outcome::Refused(400 | 431));
    let unfinished = |outcome: &Outcome| *outcome == Outcome::Incomplete || faulty(outcome);
    if whole != cut {
        assert!(faulty(&whole) || faulty(&cut), "{whole:?} {cut:?}");
        assert!(unfinished(&whole) && unfinished(&cut), "{whole:?} {cut:?}");
    }
}

fn read(input: &[u8], size: usize) -> Outcome {
    let mut reader = RequestReader::default();
    let mut before = 0;
    for piece in input.chunks(size.max(1)) {
        match reader.receive(piece, MAX_HEAD_BYTES) {
            Ok(Progress::Incomplete) => before += piece.len(),
            Ok(Progress::Complete(request, taken)) => {
                assert!(taken <= piece.len());
                let end = before + taken;
                assert!(end <= MAX_HEAD_BYTES);
                check_accepted(&request, &input[..end]);
                let headers = request.headers().map(|(name, value)| (name.into(), value.into()));
                return Outcome::Read(headers.collect(), end);
            }
            Err(refusal) => {
                assert!([400, 405, 426, 431].contains(&refusal.status), "{}", refusal.status);
                assert!(!refusal.reason.contains(['\r', '\n']));
                return Outcome::Refused(refusal.status);
            }
        }
    }
    assert!(before < MAX_HEAD_BYTES, "431 is due");
    Outcome::Incomplete
}

/// Against a parser of the whole block, and rules that are looked up by hand.
fn check_accepted(request: &Request, head: &[u8]) {
    let mut lines = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Request::new(&mut lines);
    assert_eq!(parsed.parse(head), Ok(httparse::Status::Complete(head.len())));
    assert_eq!(parsed.method, Some("GET"));
    assert_eq!(parsed.version, Some(1));
    assert_eq!(parsed.path.map(str::as_bytes), Some(request.target()));
    let theirs = parsed.headers.iter().map(|line| (line.name.as_bytes(), line.value));
    assert!(request.headers().eq(theirs));

    let value = |name: &str| {
        let mut values = parsed.headers.iter().filter(|line| line.name.eq_ignore_ascii_case(name));
        let value = values.next().map(|line| line.value);
        assert!(values.next().is_none(), "{name} twice");
        value
    };
    assert!(value("host").is_some_and(|host| !host.is_empty()));
    assert_eq!(value("sec-websocket-version"), Some(&b"13"[..]));
    assert_eq!(value("sec-websocket-key").map(<[u8]>::len), Some(24));
    assert!(request.path().starts_with(b"/") || !request.target().starts_with(b"/"));
    // What is not listed here must not panic either.
    let _ = request.offered_extensions().count();
}
