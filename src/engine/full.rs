//! What there is no room for.

use crate::protocol::Refusal;

use super::counters::Counters;

/// The limit that a handshake is over. It is answered 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// `max_connections`.
    Connections,
    /// `max_connections_per_ip`.
    PerIp,
    /// `max_undecided_handshakes`.
    Undecided,
    /// `max_memory`, of which over three quarters are held.
    Memory,
}

impl Full {
    /// The answer to the handshake.
    pub fn refusal(self) -> Refusal {
        let reason = match self {
            Self::Connections => "too many connections",
            Self::PerIp => "too many connections from here",
            Self::Undecided => "too many handshakes under way",
            Self::Memory => "the server is short of memory",
        };
        Refusal::new(503, reason)
    }

    /// Count a handshake that was answered so.
    pub fn count(self, counters: &mut Counters) {
        let counter = match self {
            Self::Connections => &mut counters.over_max_connections,
            Self::PerIp => &mut counters.over_max_connections_per_ip,
            Self::Undecided => &mut counters.over_max_undecided,
            Self::Memory => &mut counters.over_max_memory,
        };
        *counter += 1;
    }
}

/// Whether one more connection is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It is.
    Yes,
    /// Only to be answered 503.
    ToBeTold(Full),
    /// It is aborted.
    No,
}

impl Room {
    /// Room for one more than `count`, if that is below `most`; `slack` more are told.
    pub fn within(count: usize, most: usize, slack: usize, full: Full) -> Self {
        match count {
            count if count < most => Self::Yes,
            count if count < most + slack => Self::ToBeTold(full),
            _ => Self::No,
        }
    }
}
