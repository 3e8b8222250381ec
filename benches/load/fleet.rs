//! All connections, and the course of a run.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::arguments::Plan;
use crate::compression::Inflating;
use crate::connection::{Connection, Heard, Watch};
use crate::fault::Fault;
use crate::poller::{Poller, Ready};
use crate::recorder::{Measured, Recorder};
use crate::report::Report;
use crate::schedule::Schedule;
use crate::status::Status;
use crate::upgrade;
use crate::usage::Watched;
use crate::workload::{Progress, Workload};

/// Enough for what a server writes at once to one connection.
const READ_BYTES: usize = 256 * 1024;

/// A server that is silent for so long while something is due does not work.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections from one source address. Linux has 28,000 ports for them by default, but finding one
/// takes long when half of them are in use.
const CONNECTIONS_PER_SOURCE: usize = 10_000;

/// The connections of one workload to one server.
///
/// ```text
/// opening ─all are ready─► warming up ─► measuring ─► draining: all that was sent comes back ─► rested
/// ```
pub struct Fleet<'a, W> {
    plan: &'a Plan,
    workload: W,
    connections: Vec<Connection>,
    /// When each connection was begun, of those that come and go.
    begun_ns: Vec<u64>,
    request: Vec<u8>,
    inflating: Option<Inflating>,
    /// In an open loop: when to send, and who is next.
    schedule: Option<Schedule>,
    next_sender: usize,
    senders: Vec<usize>,
    poller: Poller,
    ready: Vec<Ready>,
    scratch: Vec<u8>,
    recorder: Recorder,
    status: Status,
    clock: Instant,
    heard: Instant,
    /// Handshakes that are done.
    upgraded: usize,
    /// Greetings that are answered.
    greeted: usize,
    /// All are ready; what comes and goes may begin to.
    warm: bool,
    sending: bool,
}

/// What one read has brought.
#[derive(Default)]
struct Harvest {
    now_ns: Option<u64>,
    upgraded: bool,
    ready: bool,
    left: bool,
    /// How many messages are done, and whose they were.
    done: usize,
    sender: usize,
}

impl<'a, W: Workload> Fleet<'a, W> {
    /// No connection yet.
    pub fn new(plan: &'a Plan, workload: W) -> Result<Self, Fault> {
        let wanted = workload.connections();
        let target = SocketAddr::new(plan.host, plan.port);
        Ok(Self {
            plan,
            connections: Vec::with_capacity(wanted),
            begun_ns: vec![0; wanted],
            request: upgrade::request(&target.to_string(), &plan.path, plan.deflate),
            inflating: plan.deflate.then(Inflating::new).flatten(),
            schedule: None,
            next_sender: 0,
            senders: (0..wanted).filter(|id| workload.in_flight(*id) > 0).collect(),
            workload,
            poller: Poller::new()?,
            ready: Vec::new(),
            scratch: vec![0; READ_BYTES],
            recorder: Recorder::new()?,
            status: Status::new(plan.progress, plan.watch.map(Watched)),
            clock: Instant::now(),
            heard: Instant::now(),
            upgraded: 0,
            greeted: 0,
            warm: false,
            sending: true,
        })
    }

    /// Do it all.
    pub fn run(mut self) -> Result<Report, Fault> {
        let opening = self.open()?;
        let measured = self.measure()?;
        self.drain()?;
        Ok(Report {
            load: self.workload.describe(),
            unit: self.workload.unit(),
            connections: self.connections.len(),
            opening,
            measured,
        })
    }

    /// Open all connections, few at a time; return how long that took, greetings included.
    fn open(&mut self) -> Result<Duration, Fault> {
        self.status.enter("opening");
        let began = Instant::now();
        let wanted = self.workload.connections();
        while self.greeted < wanted {
            let under_way = self.connections.len() - self.upgraded;
            let room = self.plan.handshakes.saturating_sub(under_way);
            for _ in 0..room.min(wanted - self.connections.len()) {
                self.connect()?;
            }
            self.turn(Duration::from_secs(1))?;
            self.check_alive(wanted - self.greeted)?;
        }
        self.status.enter("opened");
        Ok(began.elapsed())
    }

    fn measure(&mut self) -> Result<Measured, Fault> {
        self.status.enter("warming");
        self.warm = true;
        if let Some(per_s) = self.plan.rate {
            self.schedule = Some(Schedule::new(per_s, self.now_ns()));
        } else {
            for id in 0..self.connections.len() {
                self.send(id, self.workload.in_flight(id), self.now_ns())?;
            }
        }
        for id in 0..self.connections.len() {
            if self.workload.comes_and_goes(id) {
                self.leave(id)?;
            }
        }
        self.run_for(self.plan.warmup)?;
        self.status.enter("measuring");
        self.recorder.start();
        let lasted = self.run_for(self.plan.seconds)?;
        self.status.enter("measured");
        Ok(self.recorder.stop(lasted))
    }

    fn run_for(&mut self, seconds: f64) -> Result<Duration, Fault> {
        let began = Instant::now();
        let end = began + Duration::from_secs_f64(seconds);
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(now - began);
            }
            self.send_what_is_due()?;
            self.turn(self.patience(end - now))?;
            self.check_alive(self.workload.outstanding())?;
        }
    }

    /// In an open loop, send the messages whose time has come.
    fn send_what_is_due(&mut self) -> Result<(), Fault> {
        let now_ns = self.now_ns();
        while let Some(due_ns) = self.schedule.as_mut().and_then(|due| due.next_due(now_ns)) {
            let Some(&id) = self.senders.get(self.next_sender) else { return Ok(()) };
            self.next_sender = (self.next_sender + 1) % self.senders.len();
            self.recorder.record_lateness(now_ns - due_ns);
            self.send(id, 1, due_ns)?;
        }
        Ok(())
    }

    /// How long to wait for sockets at most.
    ///
    /// The kernel waits in milliseconds: a pause that may be shorter is spent looking.
    fn patience(&self, most: Duration) -> Duration {
        let Some(schedule) = &self.schedule else { return most };
        let pause = schedule.pause(self.now_ns());
        if pause < Duration::from_millis(3) { Duration::ZERO } else { most.min(pause / 2) }
    }

    /// Send nothing more, wait for what is outstanding, and say goodbye.
    fn drain(&mut self) -> Result<(), Fault> {
        self.status.enter("draining");
        self.sending = false;
        while self.workload.outstanding() > 0 {
            self.turn(Duration::from_secs(1))?;
            self.check_alive(self.workload.outstanding())?;
        }
        if self.plan.rest > 0.0 {
            self.run_for_silently(self.plan.rest)?;
            self.status.enter("rested");
        }
        for connection in &mut self.connections {
            // The figures are there; a server that is gone by now spoils nothing.
            let _ = connection.close();
        }
        Ok(())
    }

    /// Hear what comes, and send nothing.
    fn run_for_silently(&mut self, seconds: f64) -> Result<(), Fault> {
        self.schedule = None;
        self.run_for(seconds).map(drop)
    }

    /// Wait for sockets, `most` at the longest, and serve those that are ready.
    fn turn(&mut self, most: Duration) -> Result<(), Fault> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(&mut ready, most.min(Duration::from_secs(1)))?;
        for ready in &ready {
            self.serve(*ready)?;
        }
        self.ready = ready;
        self.status.tick(self.recorder.total(), self.upgraded);
        Ok(())
    }

    fn serve(&mut self, ready: Ready) -> Result<(), Fault> {
        let id = ready.id();
        if ready.readable() {
            let harvest = self.receive(id)?;
            self.upgraded += usize::from(harvest.upgraded);
            self.greeted += usize::from(harvest.ready);
            let mut ready = harvest.ready;
            if harvest.upgraded {
                ready |= self.greet(id);
            }
            if harvest.left {
                return self.come_anew(id, harvest.now_ns.unwrap_or_default());
            }
            if ready && self.warm && self.sending && self.workload.comes_and_goes(id) {
                return self.leave(id);
            }
            let answers = self.sending && self.schedule.is_none() && harvest.done > 0;
            if let (true, Some(now_ns)) = (answers, harvest.now_ns) {
                self.send(harvest.sender, harvest.done, now_ns)?;
            }
        }
        self.flush(id)
    }

    fn receive(&mut self, id: usize) -> Result<Harvest, Fault> {
        let Self { connections, workload, recorder, scratch, clock, .. } = self;
        let mut harvest = Harvest::default();
        connections[id].receive(scratch, |heard| {
            // One look at the clock for each read, as soon as it is done.
            let now_ns = *harvest.now_ns.get_or_insert_with(|| elapsed_ns(*clock));
            let (kind, payload) = match heard {
                Heard::Upgraded => {
                    harvest.upgraded = true;
                    return Ok(());
                }
                Heard::Left => {
                    harvest.left = true;
                    return Ok(());
                }
                Heard::Message(kind, payload) => (kind, payload),
            };
            match workload.receive(id, kind, payload, now_ns, recorder) {
                Ok(Progress::Nothing) => {}
                Ok(Progress::Ready) => harvest.ready = true,
                Ok(Progress::Done { sender }) => {
                    harvest.sender = sender;
                    harvest.done += 1;
                }
                Err(reason) => return Err(Fault::Wrong { id, reason }),
            }
            Ok(())
        })?;
        Ok(harvest)
    }

    /// Say hello; true if there is nothing to be said, so that the connection is ready.
    fn greet(&mut self, id: usize) -> bool {
        let greetings = self.workload.greetings(id);
        for greeting in &greetings {
            self.connections[id].say(greeting);
        }
        self.greeted += usize::from(greetings.is_empty());
        greetings.is_empty()
    }

    /// Begin to close a connection.
    fn leave(&mut self, id: usize) -> Result<(), Fault> {
        let connection = &mut self.connections[id];
        match connection.close()? {
            Watch::AsBefore => Ok(()),
            Watch::Room(room) => Ok(self.poller.watch(connection, id, room)?),
        }
    }

    /// A connection has left: count its life, and begin the next one in its place.
    fn come_anew(&mut self, id: usize, now_ns: u64) -> Result<(), Fault> {
        self.recorder.record(now_ns.saturating_sub(self.begun_ns[id]));
        self.upgraded -= 1;
        self.greeted -= 1;
        let connection = self.connection(id)?;
        self.connections[id] = connection;
        Ok(())
    }

    fn send(&mut self, id: usize, count: usize, now_ns: u64) -> Result<(), Fault> {
        if count == 0 {
            return Ok(());
        }
        self.connections[id].outbox.queue(count);
        self.workload.sent(id, count, now_ns);
        self.flush(id)
    }

    fn flush(&mut self, id: usize) -> Result<(), Fault> {
        let connection = &mut self.connections[id];
        match connection.flush()? {
            Watch::AsBefore => Ok(()),
            Watch::Room(room) => Ok(self.poller.watch(connection, id, room)?),
        }
    }

    fn connect(&mut self) -> Result<(), Fault> {
        let connection = self.connection(self.connections.len())?;
        self.connections.push(connection);
        Ok(())
    }

    /// A connection that is on its way, and watched.
    fn connection(&mut self, id: usize) -> Result<Connection, Fault> {
        self.begun_ns[id] = self.now_ns();
        let socket = self.socket(id).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE) => Fault::OutOfDescriptors { opened: id },
            _ => Fault::Connect(error),
        })?;
        let ring = self.workload.ring(id);
        let inflating = self.inflating.as_ref();
        let connection = Connection::new(id, socket, ring, &self.request, inflating);
        self.poller.add(&connection, id)?;
        Ok(connection)
    }

    /// A socket that connects, or has connected, to the target.
    fn socket(&self, id: usize) -> io::Result<TcpStream> {
        let target = self.target();
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = self.source(id) {
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&target.into()) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => {}
            other => other?,
        }
        Ok(socket.into())
    }

    /// The address to come from, where one has not ports enough or another was asked for.
    fn source(&self, id: usize) -> Option<Ipv4Addr> {
        let further = u8::try_from(id / CONNECTIONS_PER_SOURCE).unwrap_or(u8::MAX);
        let last = self.plan.source.saturating_add(further);
        match self.plan.host {
            IpAddr::V4(host) if host.is_loopback() && last > 1 => {
                Some(Ipv4Addr::new(127, 0, 0, last))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    fn target(&self) -> SocketAddr {
        SocketAddr::new(self.plan.host, self.plan.port)
    }

    fn check_alive(&mut self, missing: usize) -> Result<(), Fault> {
        if missing == 0 || !self.ready.is_empty() {
            self.heard = Instant::now();
        }
        if self.heard.elapsed() < PATIENCE {
            return Ok(());
        }
        Err(Fault::Stalled { phase: self.status.phase(), seconds: PATIENCE.as_secs(), missing })
    }

    fn now_ns(&self) -> u64 {
        elapsed_ns(self.clock)
    }
}

fn elapsed_ns(clock: Instant) -> u64 {
    u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
