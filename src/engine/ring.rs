//! Sends to many sockets that share one system call: `io_uring`, on Linux from 6.1 on.
//!
//! The system does the same for each of them as for a `send`. Saved is that every `send` is a system
//! call of its own.

/// Most bytes of one of them: of more, the call is not what costs.
pub const MOST_BYTES: usize = 4096;

pub use imp::{Queue, Ring};

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(rakit_ws_portable_poller)
))]
mod imp {
    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd};

    use io_uring::{IoUring, opcode, types};
    use rustix::net::SendFlags;

    use super::MOST_BYTES;

    /// Sends of one call.
    const MOST_SENDS: usize = 64;

    /// Bytes of all of them.
    const ROOM_BYTES: usize = 16 * MOST_BYTES;

    /// A queue of sends, if the system has that; made at its first use, by the thread that uses it.
    #[derive(Default)]
    pub enum Ring {
        /// Nobody has asked.
        #[default]
        Untried,
        /// There is none: the system is too old, or does not allow it (a container's seccomp does
        /// not), or it has failed.
        Missing,
        /// There is one.
        Ready(Box<Queue>),
    }

    impl Ring {
        /// The queue, if there is one.
        pub fn queue(&mut self) -> Option<&mut Queue> {
            if matches!(self, Self::Untried) {
                *self = Queue::new().map_or(Self::Missing, |queue| Self::Ready(Box::new(queue)));
            }
            match self {
                Self::Ready(queue) => Some(queue),
                Self::Untried | Self::Missing => None,
            }
        }

        /// Do without it from now on: it has failed.
        pub fn give_up(&mut self) {
            if let Self::Ready(queue) = std::mem::replace(self, Self::Missing) {
                // What it was to send is not freed: the system may have begun to read that.
                Box::leak(queue);
            }
        }
    }

    /// Sends that are to be made.
    pub struct Queue {
        ring: IoUring,
        /// What they send, one behind the other.
        room: Box<[u8]>,
        used: usize,
        count: usize,
    }

    impl Queue {
        fn new() -> io::Result<Self> {
            let mut builder = IoUring::builder();
            builder.setup_single_issuer().setup_defer_taskrun();
            #[allow(clippy::cast_possible_truncation)] // 64
            let ring = builder.build(MOST_SENDS as u32)?;
            Ok(Self { ring, room: vec![0; ROOM_BYTES].into_boxed_slice(), used: 0, count: 0 })
        }

        /// Whether one more may be queued.
        pub fn has_room(&self) -> bool {
            self.count < MOST_SENDS && self.used + MOST_BYTES <= ROOM_BYTES
        }

        /// Queue a send, if there is room: of what `fill` leaves at the beginning of
        /// [`MOST_BYTES`], so many bytes as it says. [`send`](Self::send) names it by `key`.
        pub fn push(
            &mut self,
            key: u32,
            socket: BorrowedFd<'_>,
            fill: impl FnOnce(&mut [u8]) -> usize,
        ) {
            let Some(room) = self.room.get_mut(self.used..self.used + MOST_BYTES) else { return };
            let len = fill(room).min(MOST_BYTES);
            #[allow(clippy::cast_possible_truncation)] // At most 4096.
            let send = opcode::Send::new(types::Fd(socket.as_raw_fd()), room.as_ptr(), len as u32)
                .flags((SendFlags::DONTWAIT | SendFlags::NOSIGNAL).bits().cast_signed())
                .build()
                .user_data(u64::from(key));
            // SAFETY: the bytes must stay until the system has sent them, which is before `send`
            // returns: it does not wait for a socket (DONTWAIT) and leaves nothing for later. If it
            // fails, `give_up` keeps them for ever. They do not move: `room` is never replaced.
            if unsafe { self.ring.submission().push(&send) }.is_ok() {
                self.used += len;
                self.count += 1;
            }
        }

        /// Make the sends that were queued. `sent` learns which of them took how many bytes, one or
        /// more; the others failed, or their socket is full. After an error, which says nothing
        /// about a socket, the owner has to give up; those that `sent` does not know were not made.
        pub fn send(&mut self, mut sent: impl FnMut(u32, usize)) -> io::Result<()> {
            while self.count > 0 {
                let entered = self.ring.submit_and_wait(self.count);
                for done in self.ring.completion() {
                    self.count -= 1;
                    #[allow(clippy::cast_possible_truncation)] // It was one of 32 bits.
                    let key = done.user_data() as u32;
                    if let Ok(count @ 1..) = usize::try_from(done.result()) {
                        sent(key, count);
                    }
                }
                match entered {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            self.used = 0;
            Ok(())
        }
    }
}

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(rakit_ws_portable_poller)
)))]
mod imp {
    use std::io;
    use std::os::fd::BorrowedFd;

    /// No system but Linux has this.
    #[derive(Default)]
    pub struct Ring;

    impl Ring {
        /// There is none.
        pub fn queue(&mut self) -> Option<&mut Queue> {
            None
        }

        /// There is none anyway.
        pub fn give_up(&mut self) {}
    }

    /// What is not there.
    pub enum Queue {}

    impl Queue {
        /// Never asked.
        pub fn has_room(&self) -> bool {
            match *self {}
        }

        /// Never called.
        pub fn push(&mut self, _: u32, _: BorrowedFd<'_>, _: impl FnOnce(&mut [u8]) -> usize) {
            match *self {}
        }

        /// Never called.
        pub fn send(&mut self, _: impl FnMut(u32, usize)) -> io::Result<()> {
            match *self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A ring; without one, which the system may refuse, there is nothing to test.
    fn ring() -> Option<Ring> {
        let mut ring = Ring::default();
        if ring.queue().is_none() {
            eprintln!("skipped: no io_uring here");
            return None;
        }
        Some(ring)
    }

    fn push(queue: &mut Queue, key: u32, socket: &UnixStream, bytes: &[u8]) {
        queue.push(key, socket.as_fd(), |room| {
            room[..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        });
    }

    fn sent(queue: &mut Queue) -> Vec<(u32, usize)> {
        let mut all = Vec::new();
        queue.send(|key, count| all.push((key, count))).unwrap();
        all
    }

    #[test]
    fn each_socket_gets_what_is_its_own() {
        let Some(mut ring) = ring() else { return };
        let queue = ring.queue().unwrap();
        let pairs: Vec<_> = (0..100).map(|_| UnixStream::pair().unwrap()).collect();
        let mut next = 0;
        while next < 100 {
            let first = next;
            while queue.has_room() && next < 100 {
                push(queue, next, &pairs[next as usize].0, &next.to_le_bytes());
                next += 1;
            }
            let expected: Vec<_> = (first..next).map(|key| (key, 4)).collect();
            assert_eq!(sent(queue), expected);
        }
        for (key, (_, there)) in (0..100_u32).zip(&pairs) {
            let mut bytes = [0; 4];
            (&mut &*there).read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, key.to_le_bytes());
        }
    }

    #[test]
    fn no_more_is_queued_than_there_is_room_for() {
        let Some(mut ring) = ring() else { return };
        let queue = ring.queue().unwrap();
        let (here, mut there) = UnixStream::pair().unwrap();
        for queued in 0..17 {
            assert_eq!(queue.has_room(), queued < 16);
            push(queue, 0, &here, &[b'x'; MOST_BYTES]);
        }
        assert_eq!(sent(queue).len(), 16);
        drop(here);
        let mut received = Vec::new();
        there.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), 16 * MOST_BYTES);
        assert!(queue.has_room());
    }

    #[test]
    fn a_full_socket_and_a_closed_one_do_not_keep_the_others_waiting() {
        let Some(mut ring) = ring() else { return };
        let queue = ring.queue().unwrap();
        let (full, _unread) = UnixStream::pair().unwrap();
        while {
            push(queue, 0, &full, &[b'x'; MOST_BYTES]);
            sent(queue) == [(0, MOST_BYTES)]
        } {}
        let (closed, gone) = UnixStream::pair().unwrap();
        drop(gone);
        let (open, mut there) = UnixStream::pair().unwrap();
        for (key, socket) in [(1, &full), (2, &closed), (3, &open)] {
            push(queue, key, socket, b"abc");
        }
        let heard = sent(queue);
        // The full one may have room for three bytes where it had none for four thousand.
        assert!(heard.contains(&(3, 3)) && !heard.iter().any(|(key, _)| *key == 2), "{heard:?}");
        let mut bytes = [0; 3];
        there.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"abc");
    }

    #[test]
    fn another_thread_is_an_error_and_then_there_is_none() {
        let Some(mut ring) = ring() else { return };
        let (here, _there) = UnixStream::pair().unwrap();
        push(ring.queue().unwrap(), 0, &here, b"abc");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut count = 0;
                assert!(ring.queue().unwrap().send(|_, _| count += 1).is_err());
                assert_eq!(count, 0);
                ring.give_up();
                assert!(ring.queue().is_none());
            });
        });
    }
}
