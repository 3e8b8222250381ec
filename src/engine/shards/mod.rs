//! Several shards, each in a thread of its own, behind one caller.
//!
//! ```text
//!            orders, in one letter for each shard and batch
//!   Shards ───────────────────────────────────────────────► mailbox ─► Worker, a Shard
//!     │  ◄────────────────────────── reports ◄───────────── batches of events   │
//!     └ Clients: whom the caller knows                        connections, restraint ─► other mailboxes
//! ```
//!
//! The caller is answered at once, from what it knows: a client is there until its end was
//! reported. What has become of it in its shard meanwhile shows only in that what is said to it
//! goes nowhere.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::protocol::handshake::HeaderLine;
use crate::protocol::{CloseCode, GrowingBuffer, Opcode, Refusal};

use super::compression::Frame;
use super::counters::Counters;
use super::handle::{Handle, MOST_SHARDS};
use super::listener::{Address, ListenError, Listener};
use super::outbox::{Outgoing, SHARE_FROM_BYTES};
use super::per_ip::PerIp;
use super::settings::Settings;
use super::shard::{Event, Pace, Shard};
use super::splicer::Splicer;
use super::tls::TlsSettings;

mod batch;
mod bell;
mod clients;
mod mailbox;
mod orders;
mod worker;

use batch::{Reading, units_of};
use clients::Clients;
use orders::{Acceptance, ORDER_WEIGHT, Order, Orders};
pub use worker::Failure;
use worker::{Exchange, Letter, Receipt, Report, Worker};

/// Work in a round of a shard, at least, however many shards there are.
const MIN_ROUND_UNITS: u64 = 64;

/// The most that may be on its way to a shard, in bytes and in 256 for each recipient, before the
/// caller waits for it: some 100,000 deliveries, which take 50 ms.
const MOST_PENDING: usize = 32 << 20;

/// The number of the shard that accepts for all.
const ACCEPTING: usize = 0;

/// Several shards as one: what [`Shard`] is to a caller with one thread, but that time passes by
/// itself, and that answers are what the caller knows, not what has just happened.
pub struct Shards {
    exchange: Arc<Exchange>,
    threads: Vec<JoinHandle<()>>,
    outgoing: Vec<Orders>,
    reports: Vec<Report>,
    /// Batches that were not handed on to their end, oldest first, and whose they are.
    readings: VecDeque<(usize, Reading)>,
    /// How many batches of each shard are handled when this one ends.
    handled: Vec<usize>,
    /// What is to be told at the next opportunity.
    failure: Option<Failure>,
    clients: Clients,
    splicer: Splicer,
    settings: Settings,
    addresses: Vec<Address>,
    /// Which shards say that memory is short.
    short: u64,
    shortages: u64,
    done: u64,
    pace: Pace,
    /// Whether a batch is being handed on.
    is_in_batch: bool,
    /// What the shards had done when they were stopped.
    last_counters: Counters,
}

impl Shards {
    /// So many shards, 1 to [`MOST_SHARDS`], which are at work from now on. Their clocks begin at
    /// `started`.
    pub fn new(settings: &Settings, count: usize, started: Instant) -> io::Result<Self> {
        let count = count.clamp(1, MOST_SHARDS);
        let exchange = Arc::new(Exchange::new(count)?);
        let per_ip = PerIp::of_several();
        let mut shards = Self {
            exchange: Arc::clone(&exchange),
            threads: Vec::with_capacity(count),
            outgoing: (0..count).map(|_| Orders::default()).collect(),
            reports: Vec::new(),
            readings: VecDeque::new(),
            handled: vec![0; count],
            failure: None,
            clients: Clients::new(count),
            splicer: Splicer::default(),
            settings: settings.clone(),
            addresses: Vec::new(),
            short: 0,
            shortages: 0,
            done: 0,
            pace: Pace::default(),
            is_in_batch: false,
            last_counters: Counters::default(),
        };
        for number in 0..count {
            let (census, per_ip) = (exchange.census.clone(), per_ip.clone());
            #[allow(clippy::cast_possible_truncation)] // Below MOST_SHARDS.
            let shard = Shard::one_of_several(number as u32, census, per_ip, settings.clone(), 0)?;
            let worker = Worker::new(number, shard, Arc::clone(&exchange), started);
            let thread = thread::Builder::new().name(format!("shard-{number}"));
            // Where this fails, those that run are stopped as the value is dropped.
            shards.threads.push(thread.spawn(|| worker.run())?);
        }
        Ok(shards)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.outgoing.len()
    }

    // --- what happens --------------------------------------------------------------------------

    /// Begin a batch: take what the shards have reported. Fails where one of them is no more.
    pub fn begin(&mut self) -> Result<(), Failure> {
        self.is_in_batch = true;
        self.take_reports();
        self.failure.take().map_or(Ok(()), Err)
    }

    fn take_reports(&mut self) {
        let mut reports = std::mem::take(&mut self.reports);
        self.exchange.reports.take(&mut reports);
        for report in reports.drain(..) {
            match report {
                Report::Batch(shard, batch) => self.readings.push_back((shard, batch.read())),
                Report::Failed(failure) => self.failure = Some(failure),
            }
        }
        self.reports = reports;
    }

    /// Hand on events that cost so many units, or one.
    pub fn hand_on(&mut self, units: u64, mut emit: impl FnMut(Event<'_, GrowingBuffer>)) {
        let enough = self.done + units.max(1);
        while self.done < enough {
            if self.clients.pass_released(&mut emit) {
                self.done += 2;
                continue;
            }
            let Some((shard, reading)) = self.readings.front_mut() else { return };
            let shard = *shard;
            match reading.next() {
                Some(Event::MemoryShort { held }) => {
                    if self.short == 0 {
                        self.shortages += 1;
                        emit(Event::MemoryShort { held });
                    }
                    self.short |= 1 << shard;
                }
                Some(Event::MemoryAmple { held }) => {
                    self.short &= !(1 << shard);
                    if self.short == 0 {
                        emit(Event::MemoryAmple { held });
                    }
                }
                Some(event) => {
                    self.done += units_of(&event);
                    self.clients.pass(event, &mut emit);
                }
                None => self.retire_readings(),
            }
        }
    }

    /// Batches that were handed on to their end are handled when this batch ends.
    fn retire_readings(&mut self) {
        while let Some((shard, reading)) = self.readings.front()
            && reading.is_over()
        {
            if let Some(handled) = self.handled.get_mut(*shard) {
                *handled += 1;
            }
            self.readings.pop_front();
        }
    }

    /// Whether events wait that were not handed on.
    pub fn has_more(&self) -> bool {
        self.clients.has_released() || self.readings.iter().any(|(_, it)| !it.is_over())
    }

    /// Units of work handed on so far.
    pub fn work_done(&self) -> u64 {
        self.done
    }

    /// Let all shards together hand over as much at a time as a round is to be.
    pub fn set_pace(&mut self, pace: Pace) {
        let units = (pace.round / self.count() as u64).max(MIN_ROUND_UNITS);
        self.pace = Pace { slice: units, round: units };
    }

    /// End the batch: everything that the caller has said is on its way, and what has ended is no
    /// more.
    pub fn flush(&mut self) {
        self.retire_readings();
        for handle in self.clients.flush() {
            self.order(handle.shard(), Order::SayFarewell(handle));
        }
        self.post();
        let ends_batch = std::mem::replace(&mut self.is_in_batch, false);
        if self.has_more() || (ends_batch && !self.exchange.reports.may_wait()) {
            self.exchange.reports.nudge();
        }
    }

    /// Whether something waits for a [`flush`](Self::flush).
    pub fn has_queued(&self) -> bool {
        self.clients.has_released() || self.outgoing.iter().any(|orders| !orders.is_empty())
    }

    /// Hand over what was ordered so far. Batches that were handled are so once it is carried out.
    fn post(&mut self) {
        let mut behind = Vec::new();
        let handled = self.handled.iter_mut().map(std::mem::take).enumerate();
        let batches: Vec<_> = handled.filter(|(_, count)| *count > 0).collect();
        let receipt = (!batches.is_empty())
            .then(|| Arc::new(Receipt::new(Arc::clone(&self.exchange), batches, self.pace)));
        for (shard, orders) in self.outgoing.iter_mut().enumerate() {
            if !orders.is_empty() {
                orders.receipt.clone_from(&receipt);
                if self.exchange.order(shard, orders.take()) > MOST_PENDING {
                    behind.push(shard);
                }
            }
        }
        // Whoever says more than can be carried out does not go on before it is.
        if behind.is_empty() {
            return;
        }
        for shard in behind {
            self.ask(shard, |_| ());
        }
        self.look_ahead();
    }

    /// Learn who reads too slowly for what the caller says, before that is handed on: code that
    /// sends until it is told to stop must be told.
    fn look_ahead(&mut self) {
        let known = self.readings.len();
        self.take_reports();
        for (_, reading) in self.readings.iter().skip(known) {
            for handle in reading.closed_with(CloseCode::SLOW_READER) {
                self.clients.foresee_end(handle);
            }
        }
        // They were taken out of their turn.
        self.exchange.reports.nudge();
    }

    /// Hand over what is too much to wait for the flush.
    fn post_if_heavy(&mut self) {
        if self.outgoing.iter().any(|orders| orders.weight > MOST_PENDING / 2) {
            self.post();
        }
    }

    // --- comings and goings --------------------------------------------------------------------

    /// Accept connections on `host` and `port` too; see [`Listener::bind`].
    pub fn listen(&mut self, host: &str, port: u16, backlog: i32) -> Result<(), ListenError> {
        for listener in Listener::bind(host, port, backlog)? {
            self.addresses.push(listener.address().clone());
            self.order(ACCEPTING, Order::ListenOn(listener));
        }
        self.post();
        Ok(())
    }

    /// Where connections are accepted.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// [`Shard::stop_listening`]; it is done when this returns.
    pub fn stop_listening(&mut self) {
        self.addresses.clear();
        self.post();
        self.ask(ACCEPTING, Shard::stop_listening);
    }

    /// [`Shard::use_tls`].
    pub fn use_tls(&mut self, settings: Option<&TlsSettings>) {
        for shard in 0..self.count() {
            self.order(shard, Order::UseTls(settings.cloned()));
        }
        self.post();
    }

    /// What bounds them now.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// [`Shard::configure`].
    pub fn configure(&mut self, settings: Settings) {
        for shard in 0..self.count() {
            self.order(shard, Order::Configure(Box::new(settings.clone())));
        }
        self.settings = settings;
        self.post();
    }

    /// [`Shard::accept`].
    pub fn accept(
        &mut self,
        handle: Handle,
        subprotocol: Option<&str>,
        headers: Vec<HeaderLine>,
        first: Option<&[u8]>,
    ) -> bool {
        let is_undecided = self.clients.accept(handle);
        if is_undecided {
            let subprotocol = subprotocol.map(str::to_owned);
            let first = first.map(<[u8]>::to_vec);
            let acceptance = Acceptance { handle, subprotocol, headers, first };
            self.order(handle.shard(), Order::Accept(Box::new(acceptance)));
        }
        is_undecided
    }

    /// [`Shard::reject`].
    pub fn reject(&mut self, handle: Handle, refusal: Refusal, headers: Vec<HeaderLine>) -> bool {
        let is_undecided = self.clients.reject(handle);
        if is_undecided {
            self.order(handle.shard(), Order::Reject(Box::new((handle, refusal, headers))));
        }
        is_undecided
    }

    /// [`Shard::close`].
    pub fn close(&mut self, handle: Handle, code: CloseCode, reason: &str) -> bool {
        let was_open = self.clients.close(handle);
        if was_open {
            let close = |len| Order::Close { handle, code, len };
            self.order_with(handle.shard(), reason.as_bytes(), close);
        }
        was_open
    }

    /// [`Shard::close_all`].
    pub fn close_all(&mut self, code: CloseCode, reason: &str) -> usize {
        for shard in 0..self.count() {
            self.order_with(shard, reason.as_bytes(), |len| Order::CloseAll { code, len });
        }
        self.clients.close_all()
    }

    /// [`Shard::abort_all`]; it is done when this returns.
    pub fn abort_all(&mut self) {
        self.post();
        self.ask_all(Shard::abort_all);
        // By the next answer they have told how many are left.
        self.ask_all(|_| ());
    }

    /// [`Shard::pause_reading`].
    pub fn pause_reading(&mut self, handle: Handle) {
        self.clients.pause(handle);
        self.order(handle.shard(), Order::Pause(handle));
    }

    /// [`Shard::resume_reading`].
    pub fn resume_reading(&mut self, handle: Handle) {
        self.clients.resume(handle);
        self.order(handle.shard(), Order::Resume(handle));
    }

    /// End all threads, and with them all connections. Later calls go nowhere.
    pub fn stop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        self.last_counters = self.counters();
        for shard in 0..self.count() {
            self.exchange.post(shard, Letter::Stop);
        }
        for thread in self.threads.drain(..) {
            // One that has panicked has told so.
            let _ = thread.join();
        }
    }

    // --- messages ------------------------------------------------------------------------------

    /// [`Shard::send`], because of `sender`; true unless the client is known to be gone.
    pub fn send(
        &mut self,
        sender: Handle,
        to: Handle,
        opcode: Opcode,
        payload: Outgoing<'_>,
    ) -> bool {
        if !self.clients.is_reachable(to) {
            return false;
        }
        match payload {
            Outgoing::Copy(bytes) => {
                let send = |len| Order::Send { sender, to, opcode, len };
                self.order_with(to.shard(), bytes, send);
            }
            Outgoing::Share(payload) => {
                self.weigh(to.shard(), payload.len());
                self.order(to.shard(), Order::Lend { sender, to, opcode, payload });
            }
        }
        self.post_if_heavy();
        true
    }

    fn weigh(&mut self, shard: usize, bytes: usize) {
        if let Some(orders) = self.outgoing.get_mut(shard) {
            orders.weight += bytes;
        }
    }

    /// [`Shard::publish`], because of `sender`. Returns how many hear the topic.
    pub fn publish(
        &mut self,
        sender: Handle,
        topic: &str,
        opcode: Opcode,
        payload: &[u8],
    ) -> usize {
        if payload.len() < SHARE_FROM_BYTES
            && let Some(to) = self.clients.only_subscriber(topic)
        {
            // A frame to be shared would cost more than the copy.
            return usize::from(self.send(sender, to, opcode, Outgoing::Copy(payload)));
        }
        let (count, shards) = self.clients.audience(topic);
        if count > 0 {
            let frame = self.frame(opcode, payload);
            // As if they were evenly spread.
            let weight = payload.len() + ORDER_WEIGHT * count / self.count();
            for (shard, orders) in self.outgoing.iter_mut().enumerate() {
                if shards & 1 << shard != 0 {
                    orders.weight += weight;
                    let frame = frame.clone();
                    orders.push_with(topic.as_bytes(), |len| Order::Publish { sender, len, frame });
                }
            }
            self.post_if_heavy();
        }
        count
    }

    /// [`Shard::publish_spliced`], because of `sender`.
    pub fn publish_spliced(
        &mut self,
        sender: Handle,
        topic: &str,
        [data, end]: [&[u8]; 2],
    ) -> Option<usize> {
        let opening = self.clients.opening(topic)?;
        let message = self.splicer.splice(&[opening, data, end]);
        let count = self.publish(sender, topic, Opcode::Text, &message);
        self.splicer.take_back(message);
        Some(count)
    }

    /// [`Shard::open_topic`].
    pub fn open_topic(&mut self, topic: &str, opening: &[u8]) -> bool {
        self.clients.open_topic(topic, opening)
    }

    /// [`Shard::send_each`], because of `sender`.
    pub fn send_each(
        &mut self,
        sender: Handle,
        handles: &[Handle],
        opcode: Opcode,
        payload: &[u8],
    ) -> usize {
        let mut parts = vec![Vec::new(); self.count()];
        for handle in handles.iter().filter(|handle| self.clients.is_reachable(**handle)) {
            if let Some(part) = parts.get_mut(handle.shard()) {
                part.push(*handle);
            }
        }
        let count = parts.iter().map(Vec::len).sum();
        if count > 0 {
            let frame = self.frame(opcode, payload);
            for (shard, part) in parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty())
            {
                let (to, frame) = (part.into_boxed_slice(), frame.clone());
                self.weigh(shard, payload.len() + ORDER_WEIGHT * to.len());
                self.order(shard, Order::SendEach { sender, to, frame });
            }
            self.post_if_heavy();
        }
        count
    }

    /// [`Shard::broadcast`], because of `sender`.
    pub fn broadcast(&mut self, sender: Handle, opcode: Opcode, payload: &[u8]) -> usize {
        let count = self.clients.accepted_count();
        if count > 0 {
            let frame = self.frame(opcode, payload);
            for shard in 0..self.count() {
                self.weigh(shard, payload.len() + ORDER_WEIGHT * count / self.count());
                self.order(shard, Order::Broadcast { sender, frame: frame.clone() });
            }
            self.post_if_heavy();
        }
        count
    }

    /// [`Shard::broadcast_from`], where a slot is a place among the clients of all shards.
    pub fn broadcast_from(
        &mut self,
        first: u32,
        most: usize,
        opcode: Opcode,
        payload: &[u8],
    ) -> (usize, Option<u32>) {
        let (handles, next) = self.clients.accepted_from(first, most);
        (self.send_each(Handle::NOBODY, &handles, opcode, payload), next)
    }

    fn frame(&self, opcode: Opcode, payload: &[u8]) -> Frame {
        Frame::new(opcode, payload, &self.exchange.frames, self.settings.compression.enabled)
    }

    // --- topics --------------------------------------------------------------------------------

    /// [`Shard::subscribe`].
    pub fn subscribe(&mut self, handle: Handle, topic: &str) -> bool {
        let is_new = self.clients.subscribe(handle, topic);
        if is_new {
            let subscribe = |len| Order::Subscribe { handle, len };
            self.order_with(handle.shard(), topic.as_bytes(), subscribe);
        }
        is_new
    }

    /// [`Shard::unsubscribe`].
    pub fn unsubscribe(&mut self, handle: Handle, topic: &str) -> bool {
        let heard = self.clients.unsubscribe(handle, topic);
        if heard {
            let unsubscribe = |len| Order::Unsubscribe { handle, len };
            self.order_with(handle.shard(), topic.as_bytes(), unsubscribe);
        }
        heard
    }

    /// [`Shard::hears`].
    pub fn hears(&self, handle: Handle, topic: &str) -> bool {
        self.clients.hears(handle, topic)
    }

    /// [`Shard::topics_of`].
    pub fn topics_of(&self, handle: Handle) -> impl Iterator<Item = &str> {
        self.clients.topics_of(handle)
    }

    /// [`Shard::topic_count`].
    pub fn topic_count(&self, handle: Handle) -> usize {
        self.clients.topic_count(handle)
    }

    /// [`Shard::topic_total`].
    pub fn topic_total(&self) -> usize {
        self.clients.topics().len()
    }

    /// [`Shard::has_topic`].
    pub fn has_topic(&self, topic: &str) -> bool {
        self.clients.topics().contains(topic)
    }

    /// [`Shard::topics`].
    pub fn topics(&self) -> impl Iterator<Item = (&str, usize)> {
        self.clients.topics().iter()
    }

    /// [`Shard::subscribers`].
    pub fn subscribers(&self, topic: &str) -> impl Iterator<Item = Handle> {
        self.clients.subscribers(topic)
    }

    /// [`Shard::subscriber_count`].
    pub fn subscriber_count(&self, topic: &str) -> usize {
        self.clients.topics().subscribers(topic).len()
    }

    // --- how it is -----------------------------------------------------------------------------

    /// Connections of every kind, those that are closing included.
    /// Not 0 before the caller was told of every end.
    pub fn len(&self) -> usize {
        let count = self.exchange.connections();
        // In this order: whoever is not counted any more was reported before.
        let is_told = self.exchange.reports.is_empty() && !self.has_more();
        if is_told { count } else { count.max(1) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Clients that are open, as far as the caller was told.
    pub fn open_count(&self) -> usize {
        self.clients.open_count()
    }

    /// Bytes held because of peers, as the shards have said last.
    pub fn memory_held(&self) -> usize {
        self.exchange.memory_held()
    }

    /// [`Shard::queued_bytes`]; waits for the shard's answer.
    pub fn queued_bytes(&mut self, handle: Handle) -> usize {
        self.post_unless_closing();
        self.ask(handle.shard(), move |shard| shard.queued_bytes(handle)).unwrap_or_default()
    }

    /// What all have done so far; waits for their answers.
    pub fn counters(&mut self) -> Counters {
        if self.threads.is_empty() {
            return self.last_counters;
        }
        self.post_unless_closing();
        let mut sum = Counters::default();
        for counters in self.ask_all(|shard| *shard.counters()) {
            sum.add(&counters);
        }
        // Each shard has noticed it.
        sum.memory_shortages = self.shortages;
        sum
    }

    /// A client that is being closed may have something said to it yet, ahead of its Close.
    fn post_unless_closing(&mut self) {
        if !self.clients.is_closing() {
            self.post();
        }
    }

    fn order(&mut self, shard: usize, order: Order) {
        if let Some(orders) = self.outgoing.get_mut(shard) {
            orders.push(order);
        }
    }

    fn order_with(&mut self, shard: usize, bytes: &[u8], order: impl FnOnce(usize) -> Order) {
        if let Some(orders) = self.outgoing.get_mut(shard) {
            orders.push_with(bytes, order);
        }
    }

    /// Have a shard answer in its thread. `None` where it is no more.
    fn ask<T: Send + 'static>(
        &self,
        shard: usize,
        question: impl FnOnce(&mut Shard<GrowingBuffer>) -> T + Send + 'static,
    ) -> Option<T> {
        self.begin_asking(shard, question).recv().ok()
    }

    /// Have all shards answer, at the same time.
    fn ask_all<T: Send + 'static>(
        &self,
        question: impl Fn(&mut Shard<GrowingBuffer>) -> T + Copy + Send + 'static,
    ) -> Vec<T> {
        let answers: Vec<_> =
            (0..self.count()).map(|shard| self.begin_asking(shard, question)).collect();
        answers.into_iter().filter_map(|answer| answer.recv().ok()).collect()
    }

    fn begin_asking<T: Send + 'static>(
        &self,
        shard: usize,
        question: impl FnOnce(&mut Shard<GrowingBuffer>) -> T + Send + 'static,
    ) -> mpsc::Receiver<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let answer = move |shard: &mut Shard<GrowingBuffer>| {
            // Whoever asks waits for it.
            let _ = sender.send(question(shard));
        };
        // Without its thread, which may never have begun, the question would lie there for ever.
        if shard < self.threads.len() {
            self.exchange.post(shard, Letter::Ask(Box::new(answer)));
        }
        receiver
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.stop();
    }
}

impl AsRawFd for Shards {
    /// Readable while [`begin`](Self::begin) has something to take.
    fn as_raw_fd(&self) -> RawFd {
        self.exchange.reports.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_was_never_begun_is_not_waited_for() {
        let mut shards = Shards::new(&Settings::default(), 3, Instant::now()).unwrap();
        // As where the system has no third thread to give.
        shards.exchange.post(2, Letter::Stop);
        shards.threads.pop().unwrap().join().unwrap();
        assert_eq!(shards.ask(2, |_| ()), None);
        assert_eq!(shards.ask_all(|_| ()).len(), 2);
        shards.stop();
        assert_eq!(shards.ask(0, |_| ()), None);
    }

    /// A mistake of ours in one shard.
    #[test]
    fn a_thread_that_panics_is_told_of_and_nothing_waits_for_it() {
        let mut shards = Shards::new(&Settings::default(), 2, Instant::now()).unwrap();
        assert!(shards.begin().is_ok());
        shards.flush();
        let answer = shards.begin_asking::<()>(1, |_| panic!("a mistake of ours"));
        assert!(answer.recv().is_err());
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(
            shards.exchange.reports.as_fd(),
            rustix::event::PollFlags::IN,
        )];
        let patience = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut fds, Some(&patience)).unwrap(), 1);
        let failure = shards.begin().unwrap_err();
        assert_eq!(failure.to_string(), "shard 1: a mistake of ours");
        assert!(matches!(failure, Failure::Panic(1, _)));
        // The rest goes on, and nobody waits for the one that is gone.
        shards.flush();
        assert_eq!(shards.counters().accepted, 0);
        shards.stop_listening();
        shards.abort_all();
        shards.stop();
    }
}
