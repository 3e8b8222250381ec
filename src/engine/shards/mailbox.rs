//! What one thread leaves for another, in its order.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bell::Bell;

/// Letters from any thread for one, and a descriptor that is readable where that is to look.
///
/// The bell is rung only for one who has said that it will [wait](Self::may_wait): whoever is at
/// work looks by itself before it does.
#[derive(Debug)]
pub struct Mailbox<T> {
    inside: Mutex<Inside<T>>,
    bell: Bell,
}

#[derive(Debug)]
struct Inside<T> {
    letters: Vec<T>,
    /// Its owner waits: the next letter rings.
    rings: bool,
    was_rung: bool,
    is_closed: bool,
}

impl<T> Mailbox<T> {
    /// An empty one, whose owner waits.
    pub fn new() -> io::Result<Self> {
        let inside = Inside { letters: Vec::new(), rings: true, was_rung: false, is_closed: false };
        Ok(Self { inside: Mutex::new(inside), bell: Bell::new()? })
    }

    /// Leave a letter. Nobody reads it if the mailbox is closed.
    pub fn post(&self, letter: T) {
        let mut inside = self.inside();
        if inside.is_closed {
            return;
        }
        inside.letters.push(letter);
        if inside.rings {
            self.ring(&mut inside);
        }
    }

    /// Take all letters, in the order in which they came, behind what is in `letters`.
    pub fn take(&self, letters: &mut Vec<T>) {
        let mut inside = self.inside();
        if std::mem::replace(&mut inside.was_rung, false) {
            self.bell.silence();
        }
        inside.rings = false;
        if letters.is_empty() {
            std::mem::swap(letters, &mut inside.letters);
        } else {
            letters.append(&mut inside.letters);
        }
    }

    /// Whether there is no letter.
    pub fn is_empty(&self) -> bool {
        self.inside().letters.is_empty()
    }

    /// Its owner is about to wait for the bell, if nothing has come meanwhile: false then.
    pub fn may_wait(&self) -> bool {
        let mut inside = self.inside();
        inside.rings = inside.letters.is_empty();
        inside.rings
    }

    /// See to it that its owner looks, although there may be no letter.
    pub fn nudge(&self) {
        let mut inside = self.inside();
        if !inside.is_closed {
            self.ring(&mut inside);
        }
    }

    /// Nobody looks here any more: drop what is there and what will come.
    pub fn close(&self) {
        let mut inside = self.inside();
        inside.is_closed = true;
        let letters = std::mem::take(&mut inside.letters);
        drop(inside); // What they hold may want to be told without anybody waiting for it.
        drop(letters);
    }

    /// Under the lock, so that who takes knows whether there is something to silence.
    fn ring(&self, inside: &mut Inside<T>) {
        inside.rings = false;
        if !std::mem::replace(&mut inside.was_rung, true) {
            self.bell.ring();
        }
    }

    /// Nothing can fail between lock and unlock and leave it half changed.
    fn inside(&self) -> MutexGuard<'_, Inside<T>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    const LONG: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

    fn is_readable<T>(mailbox: &Mailbox<T>, within: &Timespec) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(mailbox.as_fd(), PollFlags::IN)];
        poll(&mut fds, Some(within)).unwrap() == 1
    }

    fn taken<T>(mailbox: &Mailbox<T>) -> Vec<T> {
        let mut letters = Vec::new();
        mailbox.take(&mut letters);
        letters
    }

    #[test]
    fn it_rings_for_one_who_waits_and_for_nobody_else() {
        let mailbox = Mailbox::new().unwrap();
        assert!(!is_readable(&mailbox, &AT_ONCE));
        mailbox.post(1);
        assert!(is_readable(&mailbox, &AT_ONCE));
        assert_eq!(taken(&mailbox), [1]);
        assert!(!is_readable(&mailbox, &AT_ONCE));
        mailbox.post(2); // at work: it looks by itself
        assert!(!is_readable(&mailbox, &AT_ONCE));
        assert!(!mailbox.may_wait(), "a letter is there");
        assert_eq!(taken(&mailbox), [2]);
        assert!(mailbox.may_wait());
        mailbox.nudge();
        assert!(is_readable(&mailbox, &AT_ONCE));
        assert_eq!(taken(&mailbox), [0; 0]);
        assert!(!is_readable(&mailbox, &AT_ONCE));
    }

    #[test]
    fn a_closed_one_drops_what_it_has_and_what_comes() {
        let mailbox = Mailbox::new().unwrap();
        let letter = Arc::new(());
        mailbox.post(Arc::clone(&letter));
        mailbox.close();
        mailbox.post(Arc::clone(&letter));
        mailbox.nudge();
        assert_eq!(Arc::strong_count(&letter), 1);
        assert_eq!(taken(&mailbox).len(), 0);
    }

    /// Many post, one waits and takes: nothing is lost, nobody is overtaken, and it never sleeps
    /// over a letter (then the wait would run out).
    #[test]
    fn letters_of_each_sender_come_in_their_order_and_none_is_slept_over() {
        const SENDERS: usize = 4;
        const EACH: usize = 20_000;
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let waits = Arc::new(AtomicUsize::new(0));
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (mailbox, waits) = (Arc::clone(&mailbox), Arc::clone(&waits));
                thread::spawn(move || {
                    for number in 0..EACH {
                        mailbox.post((sender, number));
                        if number % 64 == 0 {
                            // Let it run dry, so that it waits.
                            let before = waits.load(Ordering::Relaxed);
                            for _ in 0..50 {
                                if waits.load(Ordering::Relaxed) != before {
                                    break;
                                }
                                thread::yield_now();
                            }
                        }
                    }
                })
            })
            .collect();
        let mut next = [0; SENDERS];
        let mut letters = Vec::new();
        while next.iter().sum::<usize>() < SENDERS * EACH {
            if mailbox.may_wait() {
                waits.fetch_add(1, Ordering::Relaxed);
                assert!(is_readable(&mailbox, &LONG), "slept over a letter");
            }
            mailbox.take(&mut letters);
            for (sender, number) in letters.drain(..) {
                assert_eq!(number, next[sender], "of {sender}");
                next[sender] += 1;
            }
        }
        assert!(waits.load(Ordering::Relaxed) > 0);
        for sender in senders {
            sender.join().unwrap();
        }
    }
}
