//! Load for a WebSocket server: one thread, one epoll, frames that were masked beforehand.
//!
//! It keeps a given number of messages in flight on each connection (a closed loop), checks what
//! comes back, and counts and times it for a given number of seconds. It is meant to be started by
//! `benches/load.py`, which measures the server's CPU time beside it; alone it is of use too:
//!
//! ```text
//! cargo run --release --no-default-features --example load -- echo --port 6001 --in-flight 32
//! ```
//!
//! On standard error it says where it stands, one word at the start of a line: `opening`, `opened`,
//! `warming`, `measuring`, `measured`, `draining`; with `--watch PID` behind it, as JSON, what the
//! server and the generator have used so far. With `--json` the only line on standard output is the
//! report.
// What is indexed here was sized here, and counts are small enough for an `f64`.
#![allow(clippy::indexing_slicing, clippy::cast_precision_loss)]

mod arguments;
mod channel;
mod connection;
mod echo;
mod fanout;
mod fault;
mod fleet;
mod flight;
mod hold;
mod outbox;
mod poller;
mod pooled;
mod publication;
mod recorder;
mod report;
mod ring;
mod status;
mod upgrade;
mod usage;
mod workload;

use std::process::ExitCode;

use arguments::{Arguments, Mode};
use clap::Parser;
use fault::Fault;
use fleet::Fleet;
use report::Report;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(report) if arguments.plan.json => println!("{}", report.json()),
        Ok(report) => println!("{report}"),
        Err(fault) => {
            eprintln!("error: {fault}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn measure(arguments: &Arguments) -> Result<Report, Fault> {
    let plan = &arguments.plan;
    match &arguments.mode {
        Mode::Echo(load) => Fleet::new(plan, echo::Echo::new(load))?.run(),
        Mode::Channel(load) => Fleet::new(plan, channel::Channel::new(load))?.run(),
        Mode::Fanout(load) => Fleet::new(plan, fanout::Fanout::new(load))?.run(),
        Mode::Hold(load) => Fleet::new(plan, hold::Hold::new(load))?.run(),
    }
}
