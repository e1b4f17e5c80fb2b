//! `heartbeats`: SendHeartbeat through the whole server beside the RPC library alone.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_time::{Clock as _, RealClock};
use rustix::thread::CpuSet;

use crate::Result;
use crate::fleet::{self, BEAT};
use crate::load::{Lanes, saturate};
use crate::machine::{Table, percent, rate};
use crate::process::{self, Program, Server, TOKEN};
use crate::raw::{Caller, Protocol, Request};

/// Connections, each with one heartbeat under way.
const CONNECTIONS: usize = 64;
/// Registered machines; each connection beats for its share of them in turn.
const NODES: usize = 1024;

/// How long and how often.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Settings {
    /// Pairs of measurements for each line
    #[arg(long, default_value_t = 40)]
    pub pairs: usize,
    /// Length of one measurement, in seconds
    #[arg(long, default_value_t = 0.1)]
    pub seconds: f64,
    /// Only this arrangement of the cores
    #[arg(long, value_enum)]
    pub cores: Option<Cores>,
    /// Only this protocol
    #[arg(long, value_enum)]
    pub protocol: Option<Protocol>,
}

/// Who runs where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Cores {
    /// The server on one core, the caller on another.
    Split,
    /// The scheduler decides.
    Shared,
}

/// One of the two programs of a pair.
struct Arm<'a> {
    program: &'a Program,
    lanes: Lanes,
    requests: Vec<Vec<Request>>,
    /// What every answer must be.
    answer: Vec<u8>,
    rates: Vec<f64>,
    /// CPU time for each answer, in seconds.
    costs: Vec<f64>,
    /// The share of the time that the caller's thread worked, by process time.
    busy: Vec<f64>,
}

impl<'a> Arm<'a> {
    fn open(program: &'a Program, caller: &Caller, acknowledged: bool) -> Result<Self> {
        let answer = navarch_api::wire::HeartbeatResponse { acknowledged };
        let beats = fleet::beats(caller, NODES)?;
        Ok(Self {
            program,
            lanes: Lanes::open(caller, BEAT, CONNECTIONS)?,
            requests: beats
                .chunks(NODES / CONNECTIONS)
                .map(<[Request]>::to_vec)
                .collect(),
            answer: caller.protocol.body(&answer)?,
            rates: Vec::new(),
            costs: Vec::new(),
            busy: Vec::new(),
        })
    }

    fn measure(&mut self, seconds: f64) -> Result<()> {
        let expected = &self.answer;
        let before = self.program.cpu()?;
        let clock = RealClock::new();
        let (began, idle) = (clock.monotonic(), own_cpu());
        let done = saturate(
            &mut self.lanes,
            Duration::from_secs_f64(seconds),
            &self.requests,
            |body| {
                if body == expected {
                    Ok(())
                } else {
                    Err(format!("a wrong answer to a heartbeat: {body:?}").into())
                }
            },
        )?;
        let busy = (own_cpu() - idle).as_secs_f64();
        self.busy
            .push(busy / (clock.monotonic() - began).as_secs_f64());
        let used = self.program.cpu()? - before;
        self.rates.push(done.rate);
        self.costs.push(used.as_secs_f64() / done.took.len() as f64);
        Ok(())
    }
}

/// Measures, and says what came of it.
pub async fn run(settings: Settings) -> Result<Table> {
    let mut table = Table::new(
        "Heartbeats",
        &[
            "protocol",
            "token",
            "cores",
            "no-op/s",
            "server/s",
            "ratio",
            "of pairs",
            "CPU no-op",
            "CPU server",
            "caller busy, no-op",
            "caller busy, server",
        ],
    );
    let all = process::cores()?;
    let mut both = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
    let (Some(first), Some(second)) = (both.next(), both.next()) else {
        return Err("this benchmark needs two cores".into());
    };
    let mut lowest: BTreeMap<&str, f64> = BTreeMap::new();
    for cores in [Cores::Split, Cores::Shared] {
        if settings.cores.is_some_and(|only| only != cores) {
            continue;
        }
        if cores == Cores::Split {
            process::pin(first)?;
        }
        let folder = process::folder()?;
        let this = std::env::current_exe()?;
        let mut noop = Program::start(&this, folder.path(), "noop", &["noop"], None)?;
        let noop_address = noop.listens().await?;
        for token in [None, Some(TOKEN)] {
            if cores == Cores::Split {
                process::pin(first)?;
            }
            let server = Server::start(token).await?;
            if cores == Cores::Split {
                process::pin(second)?;
            }
            fleet::populate(&server, NODES)?;
            for protocol in [Protocol::Json, Protocol::Proto, Protocol::Grpc] {
                if settings.protocol.is_some_and(|only| only != protocol) {
                    continue;
                }
                let caller = Caller {
                    protocol,
                    address: server.address,
                    token: token.map(str::to_owned),
                };
                let yardstick = Caller {
                    address: noop_address,
                    ..caller.clone()
                };
                let pair = Pair {
                    noop: Arm::open(&noop, &yardstick, false)?,
                    server: Arm::open(&server.program, &caller, true)?,
                };
                let (row, ratio) = pair.row(settings, protocol, token.is_some(), cores)?;
                table.row(row);
                let least = lowest.entry(protocol.name()).or_insert(ratio);
                *least = least.min(ratio);
            }
            server.must_be_well()?;
            process::unpin(&all)?;
        }
    }
    for (protocol, ratio) in lowest {
        let what = format!("heartbeats, {protocol}, lowest line: server / no-op");
        table.goal(what, "80 % at least", percent(ratio), ratio >= 0.8);
    }
    table.note(format!(
        "{CONNECTIONS} connections with one call under way each, {NODES} nodes, 8 GPUs' metrics. \
         {} pairs of {} s for each line, the order alternating; the ratio is the median of the \
         pairs' ratios, `of pairs` the lowest and the highest. `split`: both servers on core \
         {first} and the caller on core {second}, the first two of the {} that this process may \
         use; `shared`: all three on any of them. `caller busy` is the CPU time of the caller \
         beside the time, the median of each arm: near 100 % the caller limits the rate of that \
         arm, and then the ratio tells less than the two CPU columns.",
        settings.pairs,
        settings.seconds,
        all.count()
    ));
    Ok(table)
}

struct Pair<'a> {
    noop: Arm<'a>,
    server: Arm<'a>,
}

impl Pair<'_> {
    fn row(
        mut self,
        settings: Settings,
        protocol: Protocol,
        token: bool,
        cores: Cores,
    ) -> Result<(Vec<String>, f64)> {
        // Once for nothing: caches fill, tables grow.
        self.noop.measure(settings.seconds / 2.0)?;
        self.server.measure(settings.seconds / 2.0)?;
        for arm in [&mut self.noop, &mut self.server] {
            arm.rates.clear();
            arm.costs.clear();
            arm.busy.clear();
        }
        for pair in 0..settings.pairs {
            if pair % 2 == 0 {
                self.noop.measure(settings.seconds)?;
                self.server.measure(settings.seconds)?;
            } else {
                self.server.measure(settings.seconds)?;
                self.noop.measure(settings.seconds)?;
            }
        }
        let mut ratios: Vec<f64> = std::iter::zip(&self.server.rates, &self.noop.rates)
            .map(|(server, noop)| server / noop)
            .collect();
        let middle = median(&mut ratios);
        let (low, high) = (ratios[0], ratios[ratios.len() - 1]);
        let micros = |costs: &mut Vec<f64>| format!("{:.1} \u{b5}s", median(costs) * 1e6);
        let row = vec![
            protocol.name().to_owned(),
            if token { "yes" } else { "no" }.to_owned(),
            match cores {
                Cores::Split => "split",
                Cores::Shared => "shared",
            }
            .to_owned(),
            rate(median(&mut self.noop.rates)),
            rate(median(&mut self.server.rates)),
            percent(middle),
            format!("{}-{}", percent(low), percent(high)),
            micros(&mut self.noop.costs),
            micros(&mut self.server.costs),
            percent(median(&mut self.noop.busy)),
            percent(median(&mut self.server.busy)),
        ];
        crate::progress(&row.join("  "))?;
        Ok((row, middle))
    }
}

/// Sorts the values; the one in the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The CPU time of this process.
fn own_cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(used).unwrap_or_default()
}
