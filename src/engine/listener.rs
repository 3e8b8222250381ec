//! Where connections come from.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::protocol::handshake::forwarded::Hop;
use rustix::net::{SocketAddrAny, SocketFlags};
use socket2::{Domain, SockAddr, Socket, Type};

/// Where a peer, or a listener, is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// IPv4 or IPv6; an IPv4 peer of a dual-stack listener is given as IPv4.
    Inet(SocketAddr),
    /// An address whose port nobody has told.
    Host(IpAddr),
    /// A Unix socket; a peer's has no path.
    Unix(Option<PathBuf>),
}

impl Address {
    /// The IP address, where there is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Inet(address) => Some(address.ip()),
            Self::Host(ip) => Some(*ip),
            Self::Unix(_) => None,
        }
    }

    fn of_peer(address: Option<SocketAddrAny>) -> Self {
        match address.and_then(|any| SocketAddr::try_from(any).ok()) {
            Some(inet) => Self::Inet(SocketAddr::new(inet.ip().to_canonical(), inet.port())),
            None => Self::Unix(None),
        }
    }
}

impl From<Hop> for Address {
    fn from(hop: Hop) -> Self {
        hop.port.map_or(Self::Host(hop.ip), |port| Self::Inet(SocketAddr::new(hop.ip, port)))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(formatter),
            Self::Host(IpAddr::V4(ip)) => ip.fmt(formatter),
            Self::Host(IpAddr::V6(ip)) => write!(formatter, "[{ip}]"),
            Self::Unix(Some(path)) => write!(formatter, "unix:{}", path.display()),
            Self::Unix(None) => formatter.write_str("unix:"),
        }
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct ListenError {
    address: String,
    error: io::Error,
}

/// A listening socket, non-blocking. A Unix socket's file is removed with it.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    address: Address,
    /// The inode of a Unix socket's file: by the end it may be a successor's.
    inode: Option<u64>,
}

impl Listener {
    /// Listen on `host`: an IPv4 or IPv6 address, a name (on every address of it that this
    /// machine has), or `unix:/path`. Port 0 lets the system choose, the same port for all addresses of a name.
    pub fn bind(host: &str, port: u16, backlog: i32) -> Result<Vec<Self>, ListenError> {
        if let Some(path) = host.strip_prefix("unix:") {
            let failed = |error| ListenError { address: host.to_owned(), error };
            return Ok(vec![Self::unix(Path::new(path), backlog).map_err(failed)?]);
        }
        let failed = |error| ListenError { address: format!("{host} port {port}"), error };
        let mut listeners: Vec<Self> = Vec::new();
        let mut unusable = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for mut address in (host, port).to_socket_addrs().map_err(failed)? {
            if let Some(Address::Inet(first)) = listeners.first().map(Self::address) {
                address.set_port(first.port());
            }
            if listeners.iter().any(|listener| listener.address == Address::Inet(address)) {
                continue;
            }
            match Self::inet(address, backlog) {
                Ok(listener) => listeners.push(listener),
                // `localhost` often has an IPv6 address where IPv6 is off.
                Err(error) if is_absent(&error) => unusable = error,
                Err(error) => return Err(failed(error)),
            }
        }
        if listeners.is_empty() { Err(failed(unusable)) } else { Ok(listeners) }
    }

    fn inet(address: SocketAddr, backlog: i32) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // `::` takes IPv4 too, as with most servers; any other address is IPv6 alone anyway.
            socket.set_only_v6(false)?;
        }
        // Accepted sockets inherit it on Linux and macOS.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        Self::start(socket, backlog)
    }

    fn unix(path: &Path, backlog: i32) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        Self::start(socket, backlog)
    }

    fn start(socket: Socket, backlog: i32) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.listen(backlog)?;
        let local = socket.local_addr()?;
        let address = match local.as_socket() {
            Some(inet) => Address::Inet(inet),
            None => Address::Unix(local.as_pathname().map(Path::to_owned)),
        };
        let inode = match &address {
            Address::Unix(Some(path)) => inode_of(path),
            Address::Unix(None) | Address::Inet(_) | Address::Host(_) => None,
        };
        Ok(Self { socket: socket.into(), address, inode })
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Why it cannot be used after all.
    pub fn failed(&self, error: io::Error) -> ListenError {
        ListenError { address: self.address.to_string(), error }
    }

    /// The next connection, non-blocking; `None` when none waits.
    pub fn accept(&self) -> io::Result<Option<(OwnedFd, Address)>> {
        match accept_nonblocking(self.socket.as_fd()) {
            Ok((socket, peer)) => Ok(Some((socket, Address::of_peer(peer)))),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Address::Unix(Some(path)) = &self.address
            && inode_of(path) == self.inode
        {
            // Somebody may have removed it before; there is nobody to tell otherwise.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(target_os = "linux")]
fn accept_nonblocking(
    listener: BorrowedFd<'_>,
) -> rustix::io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
}

#[cfg(not(target_os = "linux"))]
fn accept_nonblocking(
    listener: BorrowedFd<'_>,
) -> rustix::io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let (socket, peer) = rustix::net::acceptfrom(listener)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok((socket, peer))
}

fn inode_of(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).ok().map(|file| file.ino())
}

/// Whether this machine has no such address.
fn is_absent(error: &io::Error) -> bool {
    let absent = [rustix::io::Errno::ADDRNOTAVAIL, rustix::io::Errno::AFNOSUPPORT];
    rustix::io::Errno::from_io_error(error).is_some_and(|errno| absent.contains(&errno))
}

/// Remove the file of a Unix socket that nobody listens on any more; never any other file.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Ok(()); // Binding to another file fails with a clear error.
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn port_0_is_replaced_by_the_chosen_one_and_connections_arrive() {
        let listener = Listener::bind("127.0.0.1", 0, 16).unwrap().remove(0);
        let Address::Inet(address) = listener.address().clone() else { panic!() };
        assert!(listener.accept().unwrap().is_none());
        let client = TcpStream::connect(address).unwrap();
        let (_, peer) = listener.accept().unwrap().unwrap();
        assert_eq!(peer, Address::Inet(client.local_addr().unwrap()));
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_it() {
        let first = Listener::bind("127.0.0.1", 0, 16).unwrap().remove(0);
        let Address::Inet(address) = first.address() else { panic!() };
        let error = Listener::bind("127.0.0.1", address.port(), 16).unwrap_err();
        assert!(error.to_string().contains(&address.port().to_string()), "{error}");
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let path = std::env::temp_dir().join(format!("rakit-ws-test-{}.sock", std::process::id()));
        let host = format!("unix:{}", path.display());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let live = Listener::bind(&host, 0, 16).unwrap().remove(0);
        assert!(Listener::bind(&host, 0, 16).is_err());
        assert_eq!(live.address().to_string(), host);
        drop(live);
        assert!(!path.exists());
    }

    #[test]
    fn a_successors_unix_socket_is_left_alone() {
        let path = std::env::temp_dir().join(format!("rakit-ws-next-{}.sock", std::process::id()));
        let host = format!("unix:{}", path.display());
        let first = Listener::bind(&host, 0, 16).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = Listener::bind(&host, 0, 16).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let path = std::env::temp_dir().join(format!("rakit-ws-test-{}.txt", std::process::id()));
        std::fs::write(&path, "precious").unwrap();
        assert!(Listener::bind(&format!("unix:{}", path.display()), 0, 16).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
    }
}
