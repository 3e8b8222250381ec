//! How many connections come from each address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::full::{Full, Room};
use super::settings::Settings;

/// Connections over the limit of one address that are kept long enough to be told 503.
const MAX_OVER_LIMIT: usize = 8;

/// Counts of connections; those of several shards may be one.
///
/// A shard that is alone keeps them only where there is a limit. Several, who learn of another
/// limit one after the other, always do.
#[derive(Debug, Clone, Default)]
pub struct PerIp {
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
    always: bool,
}

impl PerIp {
    /// Counts that are to be shared.
    pub fn of_several() -> Self {
        Self { always: true, ..Self::default() }
    }

    /// Whether they are kept while there is no limit, too.
    pub fn are_kept_always(&self) -> bool {
        self.always
    }

    /// One more is there. Tells whether it may be; `None`, a proxy or a Unix socket, always may.
    /// Also one that may not has to [`leave`](Self::leave).
    pub fn enter(&self, ip: Option<IpAddr>, settings: &Settings) -> Room {
        let Some(counted) = self.counted(ip, settings) else { return Room::Yes };
        let mut counts = self.counts();
        let count = counts.entry(counted).or_default();
        *count += 1;
        if settings.max_connections_per_ip == 0 {
            return Room::Yes;
        }
        let (before, most) = (*count as usize - 1, settings.max_connections_per_ip as usize);
        Room::within(before, most, MAX_OVER_LIMIT, Full::PerIp)
    }

    /// One that had entered is gone.
    pub fn leave(&self, ip: Option<IpAddr>, settings: &Settings) {
        let Some(counted) = self.counted(ip, settings) else { return };
        let mut counts = self.counts();
        if let Some(count) = counts.get_mut(&counted) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&counted);
            }
        }
    }

    /// The address that a connection counts for: an IPv6 client has a whole /64.
    fn counted(&self, ip: Option<IpAddr>, settings: &Settings) -> Option<IpAddr> {
        if settings.max_connections_per_ip == 0 && !self.always {
            return None;
        }
        Some(match ip?.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }

    /// Nothing can fail between lock and unlock and leave them half changed.
    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 3;

    fn settings() -> Settings {
        Settings { max_connections_per_ip: 3, ..Settings::default() }
    }

    fn ip(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn an_ipv6_client_is_its_64_and_an_ipv4_client_its_address() {
        for (same, other) in [
            (["2001:db8::1", "2001:db8::2", "2001:db8::ffff:ffff:ffff:ffff"], "2001:db8:0:1::1"),
            (["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"], "192.0.2.2"),
        ] {
            let (settings, counts) = (settings(), PerIp::default());
            for (count, from) in same.into_iter().enumerate() {
                assert_eq!(counts.enter(ip(from), &settings), Room::Yes, "{count} of {LIMIT}");
            }
            assert_eq!(counts.enter(ip(same[1]), &settings), Room::ToBeTold(Full::PerIp));
            assert_eq!(counts.enter(ip(other), &settings), Room::Yes);
            counts.leave(ip(same[1]), &settings);
            counts.leave(ip(same[2]), &settings);
            assert_eq!(counts.enter(ip(same[0]), &settings), Room::Yes);
        }
    }

    #[test]
    fn eight_over_the_limit_are_told_and_the_next_is_not_even_that() {
        let (settings, counts) = (settings(), PerIp::default());
        let rooms: Vec<Room> = (0..=LIMIT + MAX_OVER_LIMIT)
            .map(|_| counts.enter(ip("192.0.2.1"), &settings))
            .collect();
        let told = vec![Room::ToBeTold(Full::PerIp); MAX_OVER_LIMIT];
        assert_eq!(rooms, [vec![Room::Yes; LIMIT], told, vec![Room::No]].concat());
    }

    #[test]
    fn nothing_is_kept_of_those_who_left_nor_where_there_is_no_limit() {
        let (settings, counts) = (settings(), PerIp::default());
        counts.enter(ip("192.0.2.1"), &settings);
        counts.leave(ip("192.0.2.1"), &settings);
        counts.enter(None, &settings);
        counts.enter(ip("192.0.2.1"), &Settings::default());
        assert!(counts.counts().is_empty());
    }

    #[test]
    fn a_limit_that_comes_later_finds_what_several_shards_have_counted_together() {
        let (settings, counts) = (settings(), PerIp::of_several());
        let others = counts.clone();
        for counts in [&counts, &others, &counts] {
            assert_eq!(counts.enter(ip("192.0.2.1"), &Settings::default()), Room::Yes);
        }
        assert_eq!(others.enter(ip("192.0.2.1"), &settings), Room::ToBeTold(Full::PerIp));
    }
}
