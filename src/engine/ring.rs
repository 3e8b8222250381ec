//! Sends to many sockets that share one system call: `io_uring`, on Linux from 6.1 on.
//!
//! The system does the same for each of them as for a `send`. What is saved is a
//! system call for each.

/// Most bytes of one of them: of more, the call is not what costs.
pub const MOST_BYTES: usize = 4096;

pub use imp::{Queue, Ring};

/// Whether the system has it, and lets this process use it.
pub fn has_io_uring() -> bool {
    Ring::default().take().is_some()
}

// The processors that it is tested on.
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(rakit_ws_portable_poller)
))]
mod imp {
    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd};

    use io_uring::{IoUring, opcode, types};

    use crate::engine::outbox::FLAGS;

    use super::MOST_BYTES;

    /// Sends of one call.
    const MOST_SENDS: u32 = 64;

    /// Bytes of all of them.
    const ROOM_BYTES: usize = 16 * MOST_BYTES;

    /// A queue of sends, if there is one: made when it is wanted first, by the thread that uses it.
    #[derive(Default)]
    pub enum Ring {
        /// Nobody has wanted it.
        #[default]
        Untried,
        /// The system is too old, does not allow it (a container's seccomp), or has failed.
        Missing,
        /// It waits for the next use.
        Ready(Box<Queue>),
    }

    impl Ring {
        /// The queue, if there is one; it is to be [put back](Self::put_back) if it did its work.
        pub fn take(&mut self) -> Option<Box<Queue>> {
            match std::mem::replace(self, Self::Missing) {
                Self::Untried => Queue::new().ok().map(Box::new),
                Self::Ready(queue) => Some(queue),
                Self::Missing => None,
            }
        }

        /// Keep the queue for the next use.
        pub fn put_back(&mut self, queue: Box<Queue>) {
            *self = Self::Ready(queue);
        }
    }

    /// Sends that are to be made.
    pub struct Queue {
        ring: IoUring,
        /// What they send, one behind the other. Never replaced while one is to be made.
        room: Box<[u8]>,
        used: usize,
        count: u32,
    }

    impl Queue {
        fn new() -> io::Result<Self> {
            let mut builder = IoUring::builder();
            builder.setup_single_issuer().setup_defer_taskrun().dontfork();
            let ring = builder.build(MOST_SENDS)?;
            Ok(Self { ring, room: vec![0; ROOM_BYTES].into_boxed_slice(), used: 0, count: 0 })
        }

        /// Whether one more may be queued.
        pub fn has_room(&self) -> bool {
            self.count < MOST_SENDS && self.used + MOST_BYTES <= ROOM_BYTES
        }

        /// Queue a send, if there is room: of what `fill` leaves at the beginning of
        /// [`MOST_BYTES`], so many bytes as it says. [`send`](Self::send) names it by `key`;
        /// the socket must stay open until then.
        pub fn push(
            &mut self,
            key: u64,
            socket: BorrowedFd<'_>,
            fill: impl FnOnce(&mut [u8]) -> usize,
        ) {
            let Some(room) = self.room.get_mut(self.used..self.used + MOST_BYTES) else { return };
            let len = fill(room).min(MOST_BYTES);
            #[allow(clippy::cast_possible_truncation)] // At most 4096.
            let send = opcode::Send::new(types::Fd(socket.as_raw_fd()), room.as_ptr(), len as u32)
                .flags(FLAGS.bits().cast_signed())
                .build()
                .user_data(key);
            // SAFETY: the bytes must stay until the system has sent them. That is before `send`
            // returns Ok: they wait for no socket (DONTWAIT in FLAGS), so that nothing is left for
            // later. Where it does not, `drop` keeps them for ever.
            if unsafe { self.ring.submission().push(&send) }.is_ok() {
                self.used += len;
                self.count += 1;
            }
        }

        /// Make the sends that were queued. `sent` learns which of them took how many bytes, one or
        /// more; the others failed, or their socket is full.
        ///
        /// An error says nothing about a socket, but that this queue is of no use any more; what
        /// `sent` was not told of was not sent.
        pub fn send(&mut self, mut sent: impl FnMut(u64, usize)) -> io::Result<()> {
            while self.count > 0 {
                let entered = self.ring.submit_and_wait(self.count as usize);
                for done in self.ring.completion() {
                    self.count -= 1;
                    if let Ok(count @ 1..) = usize::try_from(done.result()) {
                        sent(done.user_data(), count);
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

    impl Drop for Queue {
        fn drop(&mut self) {
            if self.count > 0 {
                // The system may have begun to read it.
                std::mem::forget(std::mem::take(&mut self.room));
            }
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

    /// There is none here.
    #[derive(Default)]
    pub struct Ring;

    impl Ring {
        /// None.
        pub fn take(&mut self) -> Option<Box<Queue>> {
            None
        }

        /// Never called.
        pub fn put_back(&mut self, queue: Box<Queue>) {
            match *queue {}
        }
    }

    /// What is not there.
    pub enum Queue {}

    impl Queue {
        /// Never called.
        pub fn has_room(&self) -> bool {
            match *self {}
        }

        /// Never called.
        pub fn push(&mut self, _: u64, _: BorrowedFd<'_>, _: impl FnOnce(&mut [u8]) -> usize) {
            match *self {}
        }

        /// Never called.
        pub fn send(&mut self, _: impl FnMut(u64, usize)) -> io::Result<()> {
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

    /// A queue; without one, which the system may refuse, there is nothing to test.
    fn queue() -> Option<Box<Queue>> {
        let queue = Ring::default().take();
        if queue.is_none() {
            eprintln!("skipped: no io_uring here");
        }
        queue
    }

    fn push(queue: &mut Queue, key: u64, socket: &UnixStream, bytes: &[u8]) {
        queue.push(key, socket.as_fd(), |room| {
            room[..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        });
    }

    /// What was sent, by key.
    fn sent(queue: &mut Queue) -> Vec<(u64, usize)> {
        let mut all = Vec::new();
        queue.send(|key, count| all.push((key, count))).unwrap();
        all.sort_unstable();
        all
    }

    #[test]
    fn each_socket_gets_what_is_its_own() {
        let Some(mut queue) = queue() else { return };
        let pairs: Vec<_> = (0..100).map(|_| UnixStream::pair().unwrap()).collect();
        let mut all = (0..100_u64).zip(&pairs).peekable();
        while let Some((first, _)) = all.peek().copied() {
            let mut next = first;
            while queue.has_room()
                && let Some((key, (here, _))) = all.next()
            {
                push(&mut queue, key, here, &key.to_le_bytes());
                next = key + 1;
            }
            let expected: Vec<_> = (first..next).map(|key| (key, 8)).collect();
            assert_eq!(sent(&mut queue), expected);
        }
        for (key, (_, there)) in (0..100_u64).zip(&pairs) {
            let mut bytes = [0; 8];
            (&mut &*there).read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, key.to_le_bytes());
        }
    }

    #[test]
    fn no_more_is_queued_than_there_is_room_for() {
        let Some(mut queue) = queue() else { return };
        let (here, mut there) = UnixStream::pair().unwrap();
        for queued in 0..17 {
            assert_eq!(queue.has_room(), queued < 16);
            push(&mut queue, 0, &here, &[b'x'; MOST_BYTES]);
        }
        assert_eq!(sent(&mut queue).len(), 16);
        drop(here);
        let mut received = Vec::new();
        there.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), 16 * MOST_BYTES);
        assert!(queue.has_room());
    }

    #[test]
    fn a_full_socket_and_a_closed_one_do_not_keep_the_others_waiting() {
        let Some(mut queue) = queue() else { return };
        let (full, _unread) = UnixStream::pair().unwrap();
        while {
            push(&mut queue, 0, &full, &[b'x'; MOST_BYTES]);
            sent(&mut queue) == [(0, MOST_BYTES)]
        } {}
        let (closed, gone) = UnixStream::pair().unwrap();
        drop(gone);
        let (open, mut there) = UnixStream::pair().unwrap();
        for (key, socket) in [(1, &full), (2, &closed), (3, &open)] {
            push(&mut queue, key, socket, b"abc");
        }
        let heard = sent(&mut queue);
        // The full one may have room for three bytes where it had none for four thousand.
        assert!(heard.contains(&(3, 3)) && !heard.iter().any(|(key, _)| *key == 2), "{heard:?}");
        let mut bytes = [0; 3];
        there.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"abc");
    }

    #[test]
    fn another_thread_is_an_error_and_sends_nothing() {
        let Some(mut queue) = queue() else { return };
        let (here, mut there) = UnixStream::pair().unwrap();
        push(&mut queue, 0, &here, b"abc");
        std::thread::spawn(move || {
            assert!(queue.send(|_, _| panic!("sent")).is_err());
        })
        .join()
        .unwrap();
        drop(here);
        assert_eq!(there.read(&mut [0; 3]).unwrap(), 0);
    }
}
