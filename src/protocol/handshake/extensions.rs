//! The offers of `Sec-WebSocket-Extensions` (RFC 6455 §9.1).
//!
//! [`deflate`](crate::protocol::deflate) chooses among them, and answers with parameters of its own.

use super::is_token;

/// One extension that the client would use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer<'a> {
    /// The registered name, `permessage-deflate` for one.
    pub name: &'a str,
    /// Parameters in their order; a quoted value comes without its quotes.
    pub parameters: Vec<(&'a str, Option<&'a str>)>,
}

/// Read the value of one `Sec-WebSocket-Extensions` line; `None` if it breaks the grammar.
pub fn parse(value: &str) -> Option<Vec<Offer<'_>>> {
    list_elements(value).map(offer).collect()
}

/// The elements of a comma-separated list; empty ones are skipped (RFC 9110 §5.6.1.2).
fn list_elements(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(trimmed).filter(|element| !element.is_empty())
}

fn offer(element: &str) -> Option<Offer<'_>> {
    let mut parts = element.split(';').map(trimmed);
    let name = parts.next().filter(|name| is_token(name.as_bytes()))?;
    Some(Offer { name, parameters: parts.map(parameter).collect::<Option<_>>()? })
}

fn parameter(text: &str) -> Option<(&str, Option<&str>)> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (trimmed(name), Some(unquoted(trimmed(value))?)),
        None => (text, None),
    };
    is_token(name.as_bytes()).then_some((name, value))
}

/// A parameter's value: a token, or one in quotes (RFC 6455 §9.1 allows nothing else there).
fn unquoted(value: &str) -> Option<&str> {
    let inner = value.strip_prefix('"').map_or(Some(value), |rest| rest.strip_suffix('"'))?;
    is_token(inner.as_bytes()).then_some(inner)
}

fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_keep_their_order_and_parameters() {
        let offers = parse(
            "permessage-deflate; client_max_window_bits; server_max_window_bits=\"10\", x-custom",
        )
        .unwrap();
        assert_eq!(offers.len(), 2);
        assert_eq!(offers[0].name, "permessage-deflate");
        assert_eq!(
            offers[0].parameters,
            [("client_max_window_bits", None), ("server_max_window_bits", Some("10"))]
        );
        assert_eq!(offers[1], Offer { name: "x-custom", parameters: vec![] });
    }

    #[test]
    fn what_breaks_the_grammar_is_none() {
        for value in ["a b", "a;", "a; =1", "a; b=", "a; b=\"1", "a; b=\"1 2\"", "\"a\""] {
            assert_eq!(parse(value), None, "{value}");
        }
        assert_eq!(parse(" , ,"), Some(vec![]));
    }
}
