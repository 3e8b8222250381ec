//! How many connections come from each address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::full::{Full, Room};
use super::settings::Settings;

/// Connections over the limit of one address that are kept long enough to be told 503.
const MAX_OVER_LIMIT: usize = 8;

/// Counts of connections, kept only where there is a limit.
#[derive(Debug, Default)]
pub struct PerIp {
    counts: HashMap<IpAddr, u32>,
}

impl PerIp {
    /// Whether one more may come from `ip`; `None`, a proxy or a Unix socket, always may.
    pub fn room(&self, ip: Option<IpAddr>, settings: &Settings) -> Room {
        let Some(counted) = counted(ip, settings) else { return Room::Yes };
        let count = self.counts.get(&counted).copied().unwrap_or(0) as usize;
        Room::within(count, settings.max_connections_per_ip as usize, MAX_OVER_LIMIT, Full::PerIp)
    }

    /// One more is there.
    pub fn enter(&mut self, ip: Option<IpAddr>, settings: &Settings) {
        if let Some(counted) = counted(ip, settings) {
            *self.counts.entry(counted).or_default() += 1;
        }
    }

    /// One that had entered is gone.
    pub fn leave(&mut self, ip: Option<IpAddr>, settings: &Settings) {
        if let Some(counted) = counted(ip, settings)
            && let Some(count) = self.counts.get_mut(&counted)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&counted);
            }
        }
    }
}

/// The address that a connection counts for: an IPv6 client has a whole /64.
fn counted(ip: Option<IpAddr>, settings: &Settings) -> Option<IpAddr> {
    if settings.max_connections_per_ip == 0 {
        return None;
    }
    Some(match ip?.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    })
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
            let (settings, mut counts) = (settings(), PerIp::default());
            for (count, from) in same.into_iter().enumerate() {
                assert_eq!(counts.room(ip(same[0]), &settings), Room::Yes, "{count} of {LIMIT}");
                counts.enter(ip(from), &settings);
            }
            assert_eq!(counts.room(ip(same[1]), &settings), Room::ToBeTold(Full::PerIp));
            assert_eq!(counts.room(ip(other), &settings), Room::Yes);
            counts.leave(ip(same[2]), &settings);
            assert_eq!(counts.room(ip(same[0]), &settings), Room::Yes);
        }
    }

    #[test]
    fn eight_over_the_limit_are_told_and_the_next_is_not_even_that() {
        let (settings, mut counts) = (settings(), PerIp::default());
        let rooms: Vec<Room> = (0..=LIMIT + MAX_OVER_LIMIT)
            .map(|_| {
                let room = counts.room(ip("192.0.2.1"), &settings);
                counts.enter(ip("192.0.2.1"), &settings);
                room
            })
            .collect();
        let told = vec![Room::ToBeTold(Full::PerIp); MAX_OVER_LIMIT];
        assert_eq!(rooms, [vec![Room::Yes; LIMIT], told, vec![Room::No]].concat());
    }

    #[test]
    fn nothing_is_kept_of_those_who_left_nor_where_there_is_no_limit() {
        let (settings, mut counts) = (settings(), PerIp::default());
        counts.enter(ip("192.0.2.1"), &settings);
        counts.leave(ip("192.0.2.1"), &settings);
        counts.enter(None, &settings);
        counts.enter(ip("192.0.2.1"), &Settings::default());
        assert!(counts.counts.is_empty());
    }
}
