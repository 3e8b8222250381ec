//! Who may speak for others: the proxies in front of this server.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

use crate::protocol::handshake::forwarded::{self, ForwardingHeader};
use crate::protocol::{Refusal, Request};

use super::listener::Address;

/// The word for every peer on a Unix socket.
const UNIX: &str = "unix";

/// The proxies that are believed, and the header that they write.
#[derive(Debug, Clone)]
pub struct Trust {
    proxies: Arc<[Proxy]>,
    /// What they write who asked into.
    pub header: ForwardingHeader,
}

/// An address or network, or `unix`: whoever connects over a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// On these addresses.
    Network(IpNet),
    /// On a Unix socket.
    Unix,
}

/// A text that names no proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address, no network and not \"unix\"")]
pub struct NoProxy(String);

/// Where a connection comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Who asks.
    pub peer: Address,
    /// The other end of our socket, where that is a proxy, which may speak for somebody.
    pub proxy: Option<Address>,
}

impl Default for Trust {
    /// Nobody speaks for others.
    fn default() -> Self {
        Self { proxies: Arc::new([]), header: ForwardingHeader::XForwardedFor }
    }
}

impl Trust {
    /// Believe these.
    pub fn set_proxies(&mut self, proxies: Vec<Proxy>) {
        self.proxies = proxies.into();
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.proxies.is_empty()
    }

    /// Whether this peer speaks for others.
    pub fn covers(&self, peer: &Address) -> bool {
        match peer.ip() {
            Some(ip) => self.covers_ip(ip),
            None => self.proxies.contains(&Proxy::Unix),
        }
    }

    fn covers_ip(&self, ip: IpAddr) -> bool {
        self.proxies.iter().any(|proxy| match proxy {
            Proxy::Network(network) => network.contains(&ip),
            Proxy::Unix => false,
        })
    }

    /// Put the client of `request` into `origin`, if it came through a proxy that is believed.
    /// True where that is somebody else than was known. Refuses as [`forwarded::client`] does.
    pub fn identify(&self, origin: &mut Origin, request: &Request) -> Result<bool, Refusal> {
        if !self.covers(&origin.peer) {
            return Ok(false);
        }
        // Perhaps it speaks for itself; but then it does not say so.
        origin.proxy.get_or_insert_with(|| origin.peer.clone());
        let hop = forwarded::client(request, self.header, |ip| self.covers_ip(ip))?;
        if let Some(hop) = hop {
            origin.peer = hop.into();
        }
        Ok(hop.is_some())
    }
}

impl FromStr for Proxy {
    type Err = NoProxy;

    fn from_str(text: &str) -> Result<Self, NoProxy> {
        if text == UNIX {
            return Ok(Self::Unix);
        }
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let network = address.or_else(|_| text.parse()).map_err(|_| NoProxy(text.to_owned()))?;
        Ok(Self::Network(canonical(network)))
    }
}

/// Peers are known as IPv4 where they can be: so are networks (`::ffff:10.0.0.0/104`).
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    let v4 = mapped.and_then(|(address, prefix_len)| Ipv4Net::new(address, prefix_len).ok());
    v4.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(proxies: &[&str]) -> Trust {
        let mut trust = Trust::default();
        trust.set_proxies(proxies.iter().map(|text| text.parse().unwrap()).collect());
        trust
    }

    fn inet(ip: &str) -> Address {
        Address::Inet((ip.parse::<IpAddr>().unwrap().to_canonical(), 80).into())
    }

    #[test]
    fn networks_cover_their_addresses_and_no_others() {
        let trust = trust(&["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::ffff:172.16.0.0/108"]);
        for ip in [
            "10.0.0.0",
            "10.255.255.255",
            "192.0.2.1",
            "2001:db8:ffff::1",
            "172.31.0.1",
            "::ffff:10.0.0.1",
        ] {
            assert!(trust.covers(&inet(ip)), "{ip}");
        }
        for ip in ["9.255.255.255", "11.0.0.0", "192.0.2.2", "2001:db9::1", "172.32.0.1", "::a00:1"]
        {
            assert!(!trust.covers(&inet(ip)), "{ip}");
        }
        assert!(!trust.covers(&Address::Unix(None)));
    }

    #[test]
    fn unix_sockets_are_believed_on_request() {
        assert!(trust(&["unix"]).covers(&Address::Unix(None)));
        assert!(!trust(&["unix"]).covers(&inet("127.0.0.1")));
        assert!(!Trust::default().covers(&Address::Unix(None)));
    }

    #[test]
    fn what_is_no_network_is_none() {
        for text in
            ["", "localhost", "10.0.0.0/33", "10.0.0", "::1/129", "10.0.0.1:80", "[::1]", "UNIX"]
        {
            assert_eq!(text.parse::<Proxy>(), Err(NoProxy(text.to_owned())));
        }
    }
}
