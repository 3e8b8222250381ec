//! Load for a WebSocket server: one thread, one epoll, frames that were masked beforehand.
//!
//! It keeps a given number of messages in flight on each connection (a closed loop), or sends them
//! when they are due (`--rate`, an open loop), checks what comes back, and counts and times it for a
//! given number of seconds. It is meant to be started by `benches/load.py` and `compare.py`, which
//! measure the server's CPU time beside it; alone it is of use too:
//!
//! ```text
//! cargo run --release --no-default-features --example load -- echo --port 6001 --in-flight 32
//! ```
//!
//! On standard error it says where it stands, one word at the start of a line: `opening`, `opened`,
//! `warming`, `measuring`, `measured`, `draining`, `rested`; with `--watch PID` behind it, as JSON, what the
//! server and the generator have used so far. With `--json` the only line on standard output is the
//! report.
// What is indexed here was sized here, and counts are small enough for an `f64`.
#![allow(clippy::indexing_slicing, clippy::cast_precision_loss)]

mod arguments;
mod beside;
mod channel;
mod churn;
mod compression;
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
mod schedule;
mod status;
mod upgrade;
mod usage;
mod workload;

use std::process::ExitCode;

use arguments::{Arguments, Mode, Plan};
use beside::Beside;
use clap::Parser;
use fault::Fault;
use fleet::Fleet;
use report::Report;
use workload::Workload;

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
        Mode::Echo(load) => run(plan, echo::Echo::new(load)),
        Mode::Channel(load) => run(plan, channel::Channel::new(load, plan.deflate)),
        Mode::Fanout(load) => run(plan, fanout::Fanout::new(load, plan.deflate)),
        Mode::Hold(load) => run(plan, hold::Hold::new(load)),
        Mode::Churn(load) => run(plan, churn::Churn::new(load)),
    }
}

fn run(plan: &Plan, workload: impl Workload) -> Result<Report, Fault> {
    if plan.idle == 0 {
        return Fleet::new(plan, workload)?.run();
    }
    Fleet::new(plan, Beside::new(workload, plan.idle, plan.idle_channels))?.run()
}
