//! How the vectors write bytes.

use serde_json::Value;

/// Hexadecimal text, or a list of that and `{"repeat", "times"}`.
pub fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => unhex(text),
        Value::Array(parts) => parts.iter().flat_map(bytes).collect(),
        Value::Object(repeat) => {
            let times = usize::try_from(repeat["times"].as_u64().unwrap()).unwrap();
            unhex(repeat["repeat"].as_str().unwrap()).repeat(times)
        }
        other => panic!("{other}"),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}
