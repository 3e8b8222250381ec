//! Which of a client's offers is accepted, and how (RFC 7692 §5, §7.1).

use std::fmt;

use super::{MAX_WINDOW_BITS, MIN_WINDOW_BITS};
use crate::protocol::handshake::extensions::Offer;

/// The registered name of the extension.
pub const NAME: &str = "permessage-deflate";

const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// What this server would like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether its messages may refer to earlier ones, unless the client is against it.
    pub server_context_takeover: bool,
    /// Whether the client's messages may.
    pub client_context_takeover: bool,
    /// The largest window that this server compresses with, 9 to 15.
    pub server_window_bits: u8,
    /// The largest window that a client may compress with, 9 to 15.
    pub client_window_bits: u8,
}

impl Default for Policy {
    /// Nothing is kept between messages.
    fn default() -> Self {
        Self {
            server_context_takeover: false,
            client_context_takeover: false,
            server_window_bits: MAX_WINDOW_BITS,
            client_window_bits: MAX_WINDOW_BITS,
        }
    }
}

/// What both endpoints do from now on. Its text is the element of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Each is of its own, as the parameters are.
pub struct Agreement {
    /// Whether what the server sends may refer to its earlier messages.
    pub server_context_takeover: bool,
    /// Whether what the client sends may.
    pub client_context_takeover: bool,
    /// Base-2 logarithm of the window that the server compresses with.
    pub server_window_bits: u8,
    /// The same for the client.
    pub client_window_bits: u8,
    /// Whether the response names the server's window.
    names_server_window: bool,
    /// Whether it names the client's.
    names_client_window: bool,
}

impl Policy {
    /// Accept the first offer that is sound. The others are declined, which is no fault of the
    /// handshake: without any, the connection goes on uncompressed (RFC 7692 §5.1).
    pub fn choose<'a>(self, offers: impl IntoIterator<Item = Offer<'a>>) -> Option<Agreement> {
        let mut ours = offers.into_iter().filter(|offer| offer.name == NAME);
        ours.find_map(|offer| Parameters::parse(&offer)).map(|parameters| self.accept(parameters))
    }

    fn accept(self, offer: Parameters) -> Agreement {
        let server = offer.server_max_window_bits;
        let client = offer.client_max_window_bits;
        let wanted = self.client_window_bits.min(client.value().unwrap_or(MAX_WINDOW_BITS));
        // A client that did not say that it can use a smaller window must not be told to (§7.1.2.2).
        let client_window_bits = if client.is_given() { wanted } else { MAX_WINDOW_BITS };
        Agreement {
            server_context_takeover: self.server_context_takeover
                && !offer.server_no_context_takeover,
            // Where it cannot use the window that is to be kept, none is kept.
            client_context_takeover: self.client_context_takeover
                && !offer.client_no_context_takeover
                && client_window_bits <= self.client_window_bits,
            server_window_bits: self.server_window_bits.min(server.unwrap_or(MAX_WINDOW_BITS)),
            client_window_bits,
            names_server_window: server.is_some(),
            names_client_window: client.is_given() && client_window_bits < MAX_WINDOW_BITS,
        }
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(NAME)?;
        if !self.server_context_takeover {
            write!(formatter, "; {SERVER_NO_CONTEXT_TAKEOVER}")?;
        }
        if !self.client_context_takeover {
            write!(formatter, "; {CLIENT_NO_CONTEXT_TAKEOVER}")?;
        }
        if self.names_server_window {
            write!(formatter, "; {SERVER_MAX_WINDOW_BITS}={}", self.server_window_bits)?;
        }
        if self.names_client_window {
            write!(formatter, "; {CLIENT_MAX_WINDOW_BITS}={}", self.client_window_bits)?;
        }
        Ok(())
    }
}

/// `client_max_window_bits` in an offer, where it may stand without a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ClientWindow {
    #[default]
    Absent,
    Any,
    AtMost(u8),
}

impl ClientWindow {
    fn is_given(self) -> bool {
        self != Self::Absent
    }

    fn value(self) -> Option<u8> {
        match self {
            Self::AtMost(bits) => Some(bits),
            Self::Absent | Self::Any => None,
        }
    }
}

/// The parameters of one offer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: ClientWindow,
}

impl Parameters {
    /// Read an offer; `None` if it must be declined (RFC 7692 §7.1): a parameter that is unknown
    /// or comes twice, or a value that is missing, out of place, or not 8 to 15 as written there.
    fn parse(offer: &Offer<'_>) -> Option<Self> {
        let mut parameters = Self::default();
        for &(name, value) in &offer.parameters {
            let is_new = match (name, value) {
                (SERVER_NO_CONTEXT_TAKEOVER, None) => {
                    !std::mem::replace(&mut parameters.server_no_context_takeover, true)
                }
                (CLIENT_NO_CONTEXT_TAKEOVER, None) => {
                    !std::mem::replace(&mut parameters.client_no_context_takeover, true)
                }
                (SERVER_MAX_WINDOW_BITS, Some(value)) => {
                    parameters.server_max_window_bits.replace(window_bits(value)?).is_none()
                }
                (CLIENT_MAX_WINDOW_BITS, value) => {
                    let window = match value {
                        Some(value) => ClientWindow::AtMost(window_bits(value)?),
                        None => ClientWindow::Any,
                    };
                    let before = std::mem::replace(&mut parameters.client_max_window_bits, window);
                    before == ClientWindow::Absent
                }
                _ => false,
            };
            if !is_new {
                return None;
            }
        }
        Some(parameters)
    }
}

/// 8 to 15 in decimal digits without leading zeros (RFC 7692 §7.1.2.1).
fn window_bits(value: &str) -> Option<u8> {
    let is_plain = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    let bits = value.parse().ok().filter(|_| is_plain)?;
    (MIN_WINDOW_BITS..=MAX_WINDOW_BITS).contains(&bits).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::handshake::extensions;

    const TAKES_OVER: Policy = Policy {
        server_context_takeover: true,
        client_context_takeover: true,
        server_window_bits: 15,
        client_window_bits: 15,
    };

    fn answer(policy: Policy, offers: &str) -> Option<String> {
        policy.choose(extensions::parse(offers).unwrap()).map(|agreement| agreement.to_string())
    }

    fn answered(policy: Policy, offers: &str, expected: &str) {
        assert_eq!(answer(policy, offers).as_deref(), Some(expected), "{offers}");
    }

    #[test]
    fn by_default_nothing_is_taken_over() {
        let expected = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "x-other; a=1, permessage-deflate",
        ] {
            answered(Policy::default(), offer, expected);
        }
    }

    #[test]
    fn each_parameter_of_section_7_1_is_answered() {
        for (offer, expected) in [
            ("permessage-deflate", "permessage-deflate"),
            (
                "permessage-deflate; server_no_context_takeover",
                "permessage-deflate; server_no_context_takeover",
            ),
            (
                "permessage-deflate; client_no_context_takeover",
                "permessage-deflate; client_no_context_takeover",
            ),
            (
                "permessage-deflate; server_max_window_bits=10",
                "permessage-deflate; server_max_window_bits=10",
            ),
            (
                "permessage-deflate; server_max_window_bits=\"8\"",
                "permessage-deflate; server_max_window_bits=8",
            ),
            (
                "permessage-deflate; server_max_window_bits=15",
                "permessage-deflate; server_max_window_bits=15",
            ),
            ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
            ("permessage-deflate; client_max_window_bits=15", "permessage-deflate"),
            (
                "permessage-deflate; client_max_window_bits=9; server_max_window_bits=12; \
                 client_no_context_takeover; server_no_context_takeover",
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=12; client_max_window_bits=9",
            ),
        ] {
            answered(TAKES_OVER, offer, expected);
        }
    }

    #[test]
    fn windows_are_no_larger_than_ours_and_the_clients_is_only_named_where_it_may_be() {
        let policy = Policy { server_window_bits: 11, client_window_bits: 10, ..TAKES_OVER };
        for (offer, expected) in [
            // It would keep 32 KiB for a client that cannot be told to use less.
            ("permessage-deflate", "permessage-deflate; client_no_context_takeover"),
            (
                "permessage-deflate; client_max_window_bits; server_max_window_bits=15",
                "permessage-deflate; server_max_window_bits=11; client_max_window_bits=10",
            ),
            (
                "permessage-deflate; client_max_window_bits=12; server_max_window_bits=9",
                "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
            ),
            (
                "permessage-deflate; client_max_window_bits=8",
                "permessage-deflate; client_max_window_bits=8",
            ),
        ] {
            answered(policy, offer, expected);
        }
    }

    #[test]
    fn bad_offers_are_declined() {
        for parameters in [
            "unknown",
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=010",
            "server_max_window_bits=+9",
            "server_max_window_bits=9.0",
            "server_max_window_bits=265",
            "server_max_window_bits=9; server_max_window_bits=9",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=08",
            "client_max_window_bits; client_max_window_bits",
            "client_max_window_bits=9; client_max_window_bits",
        ] {
            let offer = format!("permessage-deflate; {parameters}");
            assert_eq!(answer(TAKES_OVER, &offer), None, "{parameters}");
        }
        assert_eq!(answer(TAKES_OVER, "x-webkit-deflate-frame"), None);
    }

    #[test]
    fn the_first_sound_offer_is_taken() {
        answered(
            TAKES_OVER,
            "permessage-deflate; server_max_window_bits=99, \
             permessage-deflate; server_max_window_bits=9, permessage-deflate",
            "permessage-deflate; server_max_window_bits=9",
        );
    }
}
