//! The thread of a shard.

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::engine::census::Census;
use crate::engine::listener::Address;
use crate::engine::memory::Meter;
use crate::engine::shard::{MAX_UNHANDLED, Pace, Restrained, Shard};
use crate::engine::timers::{Millis, NEVER};
use crate::protocol::GrowingBuffer;

use super::batch::Batch;
use super::mailbox::Mailbox;
use super::orders::Orders;

/// How often a shard that does not receive looks whether it can send: its poller, which would tell,
/// would tell of everything that it does not receive, too.
const ATTEND_INTERVAL: Millis = 5;

/// How often a shard looks what the others hold, while memory is short.
const SHORTAGE_INTERVAL: Millis = 50;

/// What the shards of a server, and its caller, have in common.
pub struct Exchange {
    /// For each shard, by its number.
    pub mailboxes: Vec<Mailbox<Letter>>,
    /// For the caller.
    pub reports: Mailbox<Report>,
    /// Who is there.
    pub census: Census,
    /// Connections that were accepted and have not reached their shard.
    in_transit: AtomicUsize,
    /// How many connections each shard has, told once their ends were.
    connections: Vec<AtomicUsize>,
    /// Counts the frames that the caller makes.
    pub frames: Meter,
    /// What each shard holds.
    held: Vec<AtomicUsize>,
    /// Since when the first of each has not sent its request.
    requesting_since: Vec<AtomicU64>,
    /// The weight of the orders that each has not carried out.
    pending: Vec<AtomicUsize>,
}

/// What a shard's thread is told.
pub enum Letter {
    /// By the caller.
    Orders(Orders),
    /// By the caller, who waits for the answer that this gives.
    Ask(Question),
    /// By the shard that accepts: this connection is yours.
    Adopt(OwnedFd, Address),
    /// By a recipient's shard: what becomes of a client that has sent it something.
    Restrained(Restrained),
    /// So many batches of events are handled, and what that has caused is carried out everywhere;
    /// do so much at a time from now on.
    Handled(usize, Pace),
    /// By the caller: end.
    Stop,
}

/// What is asked of a shard, in its thread.
pub type Question = Box<dyn FnOnce(&mut Shard<GrowingBuffer>) + Send>;

/// What the caller is told.
pub enum Report {
    /// What happened in a shard.
    Batch(usize, Batch),
    /// A shard is no more.
    Failed(Failure),
}

/// Why a shard's thread has ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The system has failed it.
    #[error("shard {0}: {1}")]
    Io(usize, io::Error),
    /// A mistake of ours.
    #[error("shard {0}: {1}")]
    Panic(usize, String),
}

impl Exchange {
    /// For so many shards.
    pub fn new(shards: usize) -> io::Result<Self> {
        Ok(Self {
            mailboxes: (0..shards).map(|_| Mailbox::new()).collect::<io::Result<_>>()?,
            reports: Mailbox::new()?,
            census: Census::default(),
            in_transit: AtomicUsize::new(0),
            frames: Meter::default(),
            connections: zeros(shards),
            held: zeros(shards),
            requesting_since: (0..shards).map(|_| AtomicU64::new(NEVER)).collect(),
            pending: zeros(shards),
        })
    }

    /// Leave a letter for a shard.
    pub fn post(&self, shard: usize, letter: Letter) {
        if let Some(mailbox) = self.mailboxes.get(shard) {
            mailbox.post(letter);
        }
    }

    /// Leave orders for a shard. Returns the weight of all that it has not carried out.
    pub fn order(&self, shard: usize, orders: Orders) -> usize {
        let weight = orders.weight;
        let pending = self.pending.get(shard).map(|it| it.fetch_add(weight, Ordering::Relaxed));
        self.post(shard, Letter::Orders(orders));
        pending.unwrap_or_default() + weight
    }

    /// Connections of every kind, of all shards. Where there is none, everything was reported.
    pub fn connections(&self) -> usize {
        // First those in transit: they become a shard's before they are no longer.
        let in_transit = self.in_transit.load(Ordering::Acquire);
        let counts = self.connections.iter().map(|count| count.load(Ordering::Acquire));
        in_transit + counts.sum::<usize>()
    }

    /// The shard of the connection that has not sent its request for longest: it can make room.
    fn most_patient(&self) -> Option<usize> {
        let since = self.requesting_since.iter().map(|since| since.load(Ordering::Relaxed));
        let (since, shard) = since.zip(0..).min()?;
        (since != NEVER).then_some(shard)
    }

    /// Bytes that all shards hold.
    pub fn memory_held(&self) -> usize {
        let held: usize = self.held.iter().map(|held| held.load(Ordering::Relaxed)).sum();
        held + self.frames.held()
    }
}

/// Batches that are handled as soon as nobody has this any more: whoever has been given orders because
/// of them drops it when those are carried out. So a shard receives no more than others can send,
/// and a sender that is to wait for a recipient is told in time.
pub struct Receipt {
    exchange: Arc<Exchange>,
    /// Shards, and how many batches of theirs.
    batches: Vec<(usize, usize)>,
    pace: Pace,
}

impl Receipt {
    /// For so many batches of these shards, whose next ones are to be of that size.
    pub fn new(exchange: Arc<Exchange>, batches: Vec<(usize, usize)>, pace: Pace) -> Self {
        Self { exchange, batches, pace }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        for (shard, count) in &self.batches {
            self.exchange.post(*shard, Letter::Handled(*count, self.pace));
        }
    }
}

/// A shard that is at home in a thread.
///
/// ```text
/// wait ─► letters ─► flush ─► receive ─► hand events over ─► flush ─► wait …
/// ```
pub struct Worker {
    number: usize,
    shard: Shard<GrowingBuffer>,
    exchange: Arc<Exchange>,
    started: Instant,
    batch: Batch,
    /// Batches that the caller has not handled yet.
    unhandled: usize,
    /// It was not polled when it could have been.
    owes_poll: bool,
    letters: Vec<Letter>,
    /// To be dropped when what was ordered has had its consequences.
    receipts: Vec<Arc<Receipt>>,
    /// Who gets the next connection.
    next_heir: usize,
    /// Connections adopted since it was told how many there are.
    adopted: usize,
    was_empty: bool,
    was_short: bool,
}

impl Worker {
    /// To [`run`](Self::run) in a thread of its own.
    pub fn new(
        number: usize,
        shard: Shard<GrowingBuffer>,
        exchange: Arc<Exchange>,
        started: Instant,
    ) -> Self {
        Self {
            number,
            shard,
            exchange,
            started,
            batch: Batch::default(),
            unhandled: 0,
            owes_poll: false,
            letters: Vec::new(),
            receipts: Vec::new(),
            next_heir: 0,
            adopted: 0,
            was_empty: true,
            was_short: false,
        }
    }

    /// Work until it is told to stop. Its sockets are closed then, and nobody waits for its answer.
    pub fn run(mut self) {
        let number = self.number;
        let exchange = Arc::clone(&self.exchange);
        let failure = match catch_unwind(AssertUnwindSafe(|| self.work())) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Failure::Io(number, error)),
            Err(panic) => Some(Failure::Panic(number, message_of(&*panic))),
        };
        if let Some(mailbox) = exchange.mailboxes.get(number) {
            mailbox.close();
        }
        drop(self);
        if let Some(count) = exchange.connections.get(number) {
            count.store(0, Ordering::Release);
        }
        if let Some(failure) = failure {
            exchange.reports.post(Report::Failed(failure));
        }
    }

    fn work(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            let now = self.now();
            self.shard.at(now);
            if self.read_letters()? {
                return Ok(());
            }
            if self.shard.has_queued() {
                self.shard.flush();
            }
            self.receive(now)?;
            self.hand_on_accepted();
            self.settle_accounts();
            self.hand_over();
            self.tell_count();
            let told = self.shard.len();
            self.shard.flush();
            // What has ended by that is reported, and told, by the next turn.
            self.owes_poll |= self.shard.len() != told;
            self.tell_others();
            self.receipts.clear();
        }
    }

    #[allow(clippy::cast_possible_truncation)] // 2⁶⁴ milliseconds are 584 million years.
    fn now(&self) -> Millis {
        self.started.elapsed().as_millis() as Millis
    }

    /// Until there is something to do.
    fn wait(&mut self) -> io::Result<()> {
        let Some(mailbox) = self.exchange.mailboxes.get(self.number) else { return Ok(()) };
        if (self.owes_poll && !self.is_behind()) || !mailbox.may_wait() {
            return Ok(());
        }
        let mut within = self.shard.next_deadline().map(|at| at.saturating_sub(self.now()));
        if self.is_behind() {
            within = within.into_iter().chain([ATTEND_INTERVAL]).min();
        }
        if self.shard.is_short_of_memory() {
            within = within.into_iter().chain([SHORTAGE_INTERVAL]).min();
        }
        let timeout = within.map(timespec);
        let letters = PollFd::from_borrowed_fd(mailbox.as_fd(), PollFlags::IN);
        let sockets = PollFd::from_borrowed_fd(self.shard.as_fd(), PollFlags::IN);
        let mut fds = [letters, sockets];
        let watched = if self.is_behind() { 1 } else { 2 };
        match poll(fds.get_mut(..watched).unwrap_or_default(), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the caller has so much to handle that nothing more is received.
    fn is_behind(&self) -> bool {
        self.unhandled >= MAX_UNHANDLED
    }

    /// Do what letters say. True where it is to end.
    fn read_letters(&mut self) -> io::Result<bool> {
        let mut letters = std::mem::take(&mut self.letters);
        if let Some(mailbox) = self.exchange.mailboxes.get(self.number) {
            mailbox.take(&mut letters);
        }
        for letter in letters.drain(..) {
            match letter {
                Letter::Handled(count, pace) => {
                    self.unhandled = self.unhandled.saturating_sub(count);
                    self.shard.set_pace(pace);
                }
                Letter::Orders(mut orders) => {
                    self.receipts.extend(orders.receipt.take());
                    let weight = orders.weight;
                    orders.carry_out(&mut self.shard).map_err(io::Error::other)?;
                    if let Some(pending) = self.exchange.pending.get(self.number) {
                        pending.fetch_sub(weight, Ordering::Relaxed);
                    }
                }
                Letter::Ask(question) => question(&mut self.shard),
                Letter::Adopt(socket, peer) => {
                    let Self { shard, batch, .. } = self;
                    shard.adopt(socket, peer, |event| batch.push(event));
                    self.was_empty = false;
                    self.adopted += 1;
                }
                Letter::Restrained(Restrained::Waits(sender)) => self.shard.hold_back(sender),
                Letter::Restrained(Restrained::GoesOn(sender)) => self.shard.let_go(sender),
                Letter::Stop => return Ok(true),
            }
        }
        self.letters = letters;
        Ok(false)
    }

    fn receive(&mut self, now: Millis) -> io::Result<()> {
        self.owes_poll = self.is_behind();
        let Self { shard, batch, .. } = self;
        if self.owes_poll {
            shard.attend(now, |event| batch.push(event))
        } else {
            shard.poll(now, |event| batch.push(event))
        }
    }

    /// Let each shard have its part of those who come in.
    fn hand_on_accepted(&mut self) {
        let Self { shard, exchange, next_heir, .. } = self;
        let most = shard.settings().max_connections;
        for (socket, peer) in shard.take_accepted() {
            let in_transit = exchange.in_transit.fetch_add(1, Ordering::Relaxed);
            let is_full = exchange.census.connections() + in_transit >= most;
            let heir = is_full.then(|| exchange.most_patient()).flatten().unwrap_or(*next_heir);
            exchange.post(heir, Letter::Adopt(socket, peer));
            *next_heir = (*next_heir + 1) % exchange.mailboxes.len();
        }
    }

    /// Tell what is held here, and learn what is held elsewhere.
    fn settle_accounts(&mut self) {
        let exchange = &self.exchange;
        if let Some(since) = exchange.requesting_since.get(self.number) {
            since.store(self.shard.requesting_since(), Ordering::Relaxed);
        }
        let here = self.shard.memory_held_here();
        if let Some(held) = exchange.held.get(self.number) {
            held.store(here, Ordering::Relaxed);
        }
        let others = exchange.memory_held().saturating_sub(here);
        self.shard.set_memory_of_others(others, exchange.mailboxes.len());
        let is_short = self.shard.is_short_of_memory();
        if is_short && !std::mem::replace(&mut self.was_short, is_short) {
            // They may be the ones who hold it, and asleep.
            exchange.mailboxes.iter().for_each(Mailbox::nudge);
        }
        self.was_short = is_short;
    }

    fn hand_over(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.unhandled += 1;
            self.exchange.reports.post(Report::Batch(self.number, batch));
        }
    }

    /// Behind the reports, so that nobody is found to be gone whose end is not told.
    fn tell_count(&mut self) {
        if let Some(count) = self.exchange.connections.get(self.number) {
            count.store(self.shard.len(), Ordering::Release);
        }
        let adopted = std::mem::take(&mut self.adopted);
        if adopted > 0 {
            self.exchange.in_transit.fetch_sub(adopted, Ordering::Release);
        }
        if self.shard.is_empty() && !std::mem::replace(&mut self.was_empty, true) {
            // The caller may be waiting for everybody to be gone.
            self.exchange.reports.nudge();
        }
    }

    fn tell_others(&mut self) {
        for restrained in self.shard.take_restrained() {
            self.exchange.post(restrained.sender().shard(), Letter::Restrained(restrained));
        }
    }
}

fn zeros(count: usize) -> Vec<AtomicUsize> {
    (0..count).map(|_| AtomicUsize::new(0)).collect()
}

fn timespec(millis: Millis) -> Timespec {
    let seconds = i64::try_from(millis / 1000).unwrap_or(i64::MAX);
    // Below 10⁹.
    Timespec { tv_sec: seconds, tv_nsec: (millis % 1000).cast_signed() * 1_000_000 }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "panicked".to_owned())
}
