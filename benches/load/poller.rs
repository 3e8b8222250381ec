//! Which sockets are ready.

pub use imp::{Poller, Ready};

#[cfg(target_os = "linux")]
mod imp {
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::time::Duration;

    use rustix::buffer::spare_capacity;
    use rustix::event::{Timespec, epoll};

    /// Most sockets that one wait reports.
    const MAX_READY: usize = 1024;

    /// An epoll instance, level-triggered. Sockets leave it by being closed.
    pub struct Poller {
        epoll: OwnedFd,
        events: Vec<epoll::Event>,
    }

    /// A socket that is ready.
    #[derive(Clone, Copy)]
    pub struct Ready(epoll::Event);

    impl Ready {
        /// The number it was added with.
        pub fn id(self) -> usize {
            usize::try_from(self.0.data.u64()).unwrap_or(usize::MAX)
        }

        /// Reading will tell something: bytes, an end, or an error.
        pub fn readable(self) -> bool {
            let flags = self.0.flags;
            let some = epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            flags.intersects(some)
        }
    }

    impl Poller {
        pub fn new() -> io::Result<Self> {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            Ok(Self { epoll, events: Vec::with_capacity(MAX_READY) })
        }

        /// Watch a socket for reading and writing.
        pub fn add(&self, socket: impl AsFd, id: usize) -> io::Result<()> {
            let both = epoll::EventFlags::IN | epoll::EventFlags::OUT;
            Ok(epoll::add(&self.epoll, socket, key(id), both)?)
        }

        /// Watch a socket for reading, and for writing if that is wanted.
        pub fn watch(&self, socket: impl AsFd, id: usize, writable: bool) -> io::Result<()> {
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, writable);
            Ok(epoll::modify(&self.epoll, socket, key(id), flags)?)
        }

        /// Wait; put what is ready into `ready` instead of what was there.
        pub fn wait(&mut self, ready: &mut Vec<Ready>, most: Duration) -> io::Result<()> {
            let timeout = Timespec::try_from(most).map_err(io::Error::other)?;
            match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            ready.clear();
            ready.extend(self.events.drain(..).map(Ready));
            Ok(())
        }
    }

    fn key(id: usize) -> epoll::EventData {
        epoll::EventData::new_u64(id as u64)
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::convert::Infallible;
    use std::io;
    use std::os::fd::AsFd;
    use std::time::Duration;

    /// Nothing: the generator needs epoll. It compiles, so that `cargo test` does.
    pub struct Poller(Infallible);

    /// Never there.
    #[derive(Debug, Clone, Copy)]
    pub struct Ready(Infallible);

    impl Ready {
        pub fn id(self) -> usize {
            match self.0 {}
        }

        pub fn readable(self) -> bool {
            match self.0 {}
        }
    }

    impl Poller {
        pub fn new() -> io::Result<Self> {
            Err(io::Error::new(io::ErrorKind::Unsupported, "the load generator needs Linux"))
        }

        pub fn add(&self, _socket: impl AsFd, _id: usize) -> io::Result<()> {
            match self.0 {}
        }

        pub fn watch(&self, _socket: impl AsFd, _id: usize, _writable: bool) -> io::Result<()> {
            match self.0 {}
        }

        pub fn wait(&mut self, _ready: &mut Vec<Ready>, _most: Duration) -> io::Result<()> {
            match self.0 {}
        }
    }
}
