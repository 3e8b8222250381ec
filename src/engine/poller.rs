//! Which sockets are ready: epoll on Linux, the crate `polling` elsewhere. Level-triggered.

/// What to wait for on a socket. With epoll an error or a hang-up in both directions is reported
/// whatever this says; with kqueue only where something is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Bytes (or connections) to receive.
    pub read: bool,
    /// Room to send.
    pub write: bool,
    /// The peer's end, although nothing is received; only epoll can wait for it.
    pub end: bool,
}

impl Interest {
    /// Reading only.
    pub const READ: Self = Self { read: true, write: false, end: false };
    /// Nothing but the peer's end.
    pub const END: Self = Self { read: false, write: false, end: true };
}

/// A socket that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The key it was added with.
    pub key: u64,
    /// Receiving will not block: bytes, an end, or an error is there.
    pub readable: bool,
    /// Sending will not block.
    pub writable: bool,
    /// The peer has hung up (where its end was waited for: in one direction), or the socket failed.
    pub hung_up: bool,
}

/// Most sockets that one wait reports.
const MAX_READY: usize = 1024;

pub use imp::Poller;

#[cfg(all(target_os = "linux", not(rakit_ws_portable_poller)))]
mod imp {
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

    use rustix::event::epoll;
    use rustix::event::{EventfdFlags, Timespec, eventfd};

    use super::{Interest, MAX_READY, Ready};

    const WAKE_KEY: u64 = u64::MAX;

    /// An epoll instance. It can itself be polled: it is readable while some socket is ready.
    pub struct Poller {
        epoll: OwnedFd,
        waker: OwnedFd,
    }

    impl Poller {
        /// A poller that watches nothing.
        pub fn new() -> io::Result<Self> {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let key = epoll::EventData::new_u64(WAKE_KEY);
            epoll::add(&epoll, &waker, key, epoll::EventFlags::IN)?;
            Ok(Self { epoll, waker })
        }

        /// Watch a socket under `key`, which must not be `u64::MAX`.
        pub fn add(&self, socket: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
            let key = epoll::EventData::new_u64(key);
            Ok(epoll::add(&self.epoll, socket, key, flags(interest))?)
        }

        /// Watch for something else.
        pub fn modify(&self, socket: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
            let key = epoll::EventData::new_u64(key);
            Ok(epoll::modify(&self.epoll, socket, key, flags(interest))?)
        }

        /// Stop watching a socket. To be called before it is closed too: a copy of it in a forked
        /// process would keep it watched, under a key that may be used again.
        pub fn forget(&self, socket: impl AsFd) {
            // It can only fail for a socket that is not watched.
            let _ = epoll::delete(&self.epoll, socket);
        }

        /// Make the next wait return, and the poller readable until then.
        pub fn wake(&self) -> io::Result<()> {
            match rustix::io::write(&self.waker, &1_u64.to_ne_bytes()) {
                Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }

        /// Append the sockets that are ready now to `ready`. Never blocks.
        pub fn wait(&mut self, ready: &mut Vec<Ready>) -> io::Result<()> {
            let mut room = [const { MaybeUninit::uninit() }; MAX_READY];
            let now = Timespec::default();
            let events = match epoll::wait(&self.epoll, &mut room, Some(&now)) {
                Ok((events, _)) => events,
                Err(rustix::io::Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            for event in events {
                if event.data.u64() == WAKE_KEY {
                    rustix::io::read(&self.waker, &mut [0; 8])?;
                    continue;
                }
                let gone =
                    epoll::EventFlags::HUP | epoll::EventFlags::ERR | epoll::EventFlags::RDHUP;
                let flags = event.flags;
                ready.push(Ready {
                    key: event.data.u64(),
                    readable: flags.intersects(epoll::EventFlags::IN | gone),
                    writable: flags.contains(epoll::EventFlags::OUT),
                    hung_up: flags.intersects(gone),
                });
            }
            Ok(())
        }
    }

    impl AsFd for Poller {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.epoll.as_fd()
        }
    }

    impl AsRawFd for Poller {
        fn as_raw_fd(&self) -> RawFd {
            self.epoll.as_raw_fd()
        }
    }

    fn flags(interest: Interest) -> epoll::EventFlags {
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, interest.read);
        flags.set(epoll::EventFlags::OUT, interest.write);
        flags.set(epoll::EventFlags::RDHUP, interest.end);
        flags
    }
}

#[cfg(any(not(target_os = "linux"), rakit_ws_portable_poller))]
mod imp {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
    use std::time::Duration;

    use super::{Interest, MAX_READY, Ready};

    /// A poller of the crate `polling`. It can itself be polled.
    #[derive(Debug)]
    pub struct Poller {
        poller: polling::Poller,
        events: polling::Events,
    }

    impl Poller {
        /// A poller that watches nothing.
        pub fn new() -> io::Result<Self> {
            let most =
                std::num::NonZeroUsize::new(MAX_READY).unwrap_or(std::num::NonZeroUsize::MIN);
            Ok(Self {
                poller: polling::Poller::new()?,
                events: polling::Events::with_capacity(most),
            })
        }

        /// Watch a socket under `key`, which must not be `u64::MAX`.
        pub fn add(&self, socket: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
            let event = event(key, interest);
            // SAFETY: `add` needs the socket to be deleted before it is closed. `Shard` calls
            // `forget` for each socket that it added before it drops it; where it is dropped
            // itself, this poller goes first.
            unsafe {
                self.poller.add_with_mode(
                    socket.as_fd().as_raw_fd(),
                    event,
                    polling::PollMode::Level,
                )
            }
        }

        /// Watch for something else.
        pub fn modify(&self, socket: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
            let event = event(key, interest);
            self.poller.modify_with_mode(socket, event, polling::PollMode::Level)
        }

        /// Stop watching a socket, which must be done before it is closed.
        pub fn forget(&self, socket: impl AsFd) {
            // It can only fail for a socket that is not watched.
            let _ = self.poller.delete(socket);
        }

        /// Make the next wait return, and the poller readable until then.
        pub fn wake(&self) -> io::Result<()> {
            self.poller.notify()
        }

        /// Append the sockets that are ready now to `ready`. Never blocks.
        pub fn wait(&mut self, ready: &mut Vec<Ready>) -> io::Result<()> {
            self.events.clear();
            self.poller.wait(&mut self.events, Some(Duration::ZERO))?;
            ready.extend(self.events.iter().map(|event| {
                let hung_up = event.is_interrupt() || event.is_err() == Some(true);
                Ready {
                    key: event.key as u64,
                    readable: event.readable || hung_up,
                    writable: event.writable,
                    hung_up,
                }
            }));
            Ok(())
        }
    }

    impl AsFd for Poller {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.poller.as_fd()
        }
    }

    impl AsRawFd for Poller {
        fn as_raw_fd(&self) -> RawFd {
            self.poller.as_raw_fd()
        }
    }

    #[allow(clippy::cast_possible_truncation)] // 64-bit platforms; a slot has 32 bits anyway.
    fn event(key: u64, interest: Interest) -> polling::Event {
        polling::Event::new(key as usize, interest.read, interest.write)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn ready(poller: &mut Poller) -> Vec<Ready> {
        let mut ready = Vec::new();
        poller.wait(&mut ready).unwrap();
        ready
    }

    #[test]
    fn a_socket_stays_ready_until_it_was_read() {
        let mut poller = Poller::new().unwrap();
        let (here, mut there) = UnixStream::pair().unwrap();
        poller.add(&here, 7, Interest::READ).unwrap();
        assert_eq!(ready(&mut poller), []);
        there.write_all(b"x").unwrap();
        for _ in 0..2 {
            let ready = ready(&mut poller);
            assert_eq!((ready[0].key, ready[0].readable, ready[0].writable), (7, true, false));
        }
        poller.forget(&here);
    }

    #[test]
    fn interest_can_change() {
        let mut poller = Poller::new().unwrap();
        let (here, _there) = UnixStream::pair().unwrap();
        poller.add(&here, 7, Interest::READ).unwrap();
        poller.modify(&here, 7, Interest { read: false, write: true, end: false }).unwrap();
        assert!(ready(&mut poller)[0].writable);
        poller.forget(&here);
    }

    #[test]
    fn waking_reports_no_socket() {
        let mut poller = Poller::new().unwrap();
        poller.wake().unwrap();
        assert_eq!(ready(&mut poller), []);
    }
}
