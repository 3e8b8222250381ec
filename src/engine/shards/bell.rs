//! A descriptor that one thread makes readable for another: an eventfd on Linux, a pair of sockets
//! elsewhere.

pub use imp::Bell;

#[cfg(all(target_os = "linux", not(rakit_ws_portable_poller)))]
mod imp {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    use rustix::event::{EventfdFlags, eventfd};

    /// Readable from [`ring`](Self::ring) until [`silence`](Self::silence).
    #[derive(Debug)]
    pub struct Bell(OwnedFd);

    impl Bell {
        /// One that was not rung.
        pub fn new() -> io::Result<Self> {
            Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
        }

        /// Make it readable.
        pub fn ring(&self) {
            // It can only fail where it has been rung 2⁶⁴ times: it is readable then.
            let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        }

        /// Make it no longer readable.
        pub fn silence(&self) {
            // Fails where it was not rung.
            let _ = rustix::io::read(&self.0, &mut [0; 8]);
        }
    }

    impl AsFd for Bell {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

#[cfg(any(not(target_os = "linux"), rakit_ws_portable_poller))]
mod imp {
    use std::io::{self, Read, Write};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;

    /// Readable from [`ring`](Self::ring) until [`silence`](Self::silence).
    #[derive(Debug)]
    pub struct Bell {
        here: UnixStream,
        there: UnixStream,
    }

    impl Bell {
        /// One that was not rung.
        pub fn new() -> io::Result<Self> {
            let (here, there) = UnixStream::pair()?;
            here.set_nonblocking(true)?;
            there.set_nonblocking(true)?;
            Ok(Self { here, there })
        }

        /// Make it readable.
        pub fn ring(&self) {
            // It can only fail where it has been rung so often that its buffer is full: it is
            // readable then.
            let _ = (&self.there).write(&[1]);
        }

        /// Make it no longer readable.
        pub fn silence(&self) {
            let mut rings = [0; 64];
            while matches!((&self.here).read(&mut rings), Ok(count) if count == rings.len()) {}
        }
    }

    impl AsFd for Bell {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.here.as_fd()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_readable(bell: &Bell) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(bell.as_fd(), PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn it_is_readable_until_it_is_silenced_however_often_it_was_rung() {
        let bell = Bell::new().unwrap();
        assert!(!is_readable(&bell));
        for rings in [1, 2, 1000] {
            (0..rings).for_each(|_| bell.ring());
            assert!(is_readable(&bell));
            bell.silence();
            assert!(!is_readable(&bell));
            bell.silence();
        }
    }
}
