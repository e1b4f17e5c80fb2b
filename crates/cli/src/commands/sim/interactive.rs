//! `navarch sim interactive`: a scenario that is played as on a clock, behind the real API.
//!
//! The simulation and the server's handlers know nothing of each other. This is where they meet:
//! what the handlers are asked goes into the simulation at its present moment, and what its
//! control plane commits is published to them. Nothing is decided here.

use std::path::Path;
use std::time::Duration;

use navarch_config::scenario::{Failure as Break, FailureKind, Scenario};
use navarch_model::Time;
use navarch_policy::HealthPolicy;
use navarch_providers::{Fault, FaultKind};
use navarch_server::fleet::SubmitError;
use navarch_server::hosted::{Asked, Desk, FaultOrder, FaultRefusal, Hosted, Options, Ordered};
use navarch_sim::record::Outcome;
use navarch_sim::run::{Run, Unbreakable};
use navarch_time::{Clock as _, RealClock, Tasks};

use super::pace::Pace;
use super::{Place, Policy, policy, read, seed};
use crate::args::{Global, SimInteractive};
use crate::client::Failure;
use crate::commands::dev::tell;
use crate::commands::serve::told_to_end;
use crate::logging;
use crate::output::{remark, say};

/// What is played when no file is named.
const USUAL: &str = include_str!("../../../../../examples/scenarios/interactive.yaml");
/// What it is called where files are.
const USUAL_NAME: &str = "examples/scenarios/interactive.yaml";

/// What is played before anybody is told where to ask: the machines that are on from the start
/// have registered by then, so that what the welcome names is there.
const START: Time = Time(1_000_000);

/// How often time passes while nobody asks anything. Longer makes the fleet's clock coarser;
/// shorter wakes the process more often.
const TICK: Duration = Duration::from_millis(20);
/// How long the simulation may run before it is looked whether somebody asks something. Longer
/// lets callers wait; shorter publishes more often.
const SLICE: Duration = Duration::from_millis(20);
/// Simulated time between two looks at the clock within a slice.
const STRETCH: Duration = Duration::from_secs(1);
/// How often readers learn when nodes were last heard.
const HEARD: Duration = Duration::from_millis(250);

/// `navarch sim interactive`.
pub async fn run(global: &Global, asked: SimInteractive) -> Result<(), Failure> {
    let file = asked.file.as_deref();
    let (mut scenario, text) = match file {
        Some(file) => read(file)?,
        None => usual()?,
    };
    scenario.config.server.address.clone_from(&asked.listen);
    let beside = file.unwrap_or(Path::new(""));
    let Policy {
        policy: health_policy,
        text: policy_text,
    } = policy(&scenario, beside, &text)?;
    let seed = seed(asked.seed, &scenario);
    let mut run = Run::new(scenario.clone(), text, seed, health_policy)
        .map_err(|errors| Failure::Said(errors.to_string()))?;
    run.open();
    let options = Options {
        config: scenario.config.clone(),
        source: file.map_or_else(|| USUAL_NAME.to_owned(), |file| file.display().to_string()),
        settings: run.settings().clone(),
        policy: (
            run.policy().clone(),
            policy_text
                .clone()
                .unwrap_or_else(|| HealthPolicy::builtin_text().to_owned()),
        ),
        state: run.state(),
        now: run.stamp(),
        history: run.history(),
        insecure_no_auth: asked.insecure_no_auth,
        clock: RealClock::shared(),
    };
    let (hosted, desk) = Hosted::start(options)
        .await
        .map_err(|error| Failure::Said(error.to_string()))?;
    // Only now: a port in use leaves no directory behind.
    let place = match Place::make(asked.out, &scenario, policy_text.as_deref()) {
        Ok(place) => place,
        Err(failure) => {
            hosted.stop().await;
            return Err(failure);
        }
    };
    let log = logging::start(global, Some(&place.directory.path().join("server.log")))?;
    place.trace(&mut run)?;
    let mut told = std::pin::pin!(told_to_end(log)?);
    let mut played = Played {
        run,
        desk,
        pace: Pace::new(START, asked.speed),
        tick: TICK.mul_f64(asked.speed),
        clock: RealClock::new(),
        told_heard: Duration::ZERO,
        over: false,
    };
    played.pass(START);
    played.publish();
    say(&welcome(hosted.url(), &scenario, seed, asked.speed, &place));
    let story = Tasks::new();
    story.spawn("story", tell(hosted.handlers().clone(), 0, story.token()));
    let broken = loop {
        played.advance();
        let next = played.run.sim().now() + played.tick;
        tokio::select! {
            biased;
            () = &mut told => break None,
            failure = hosted.failed() => break Some(failure),
            asked = played.desk.next() => {
                played.advance();
                played.answer(asked);
            }
            () = played.pace.wait_for(next) => {}
        }
    };
    story.shutdown(&RealClock::new(), Duration::ZERO).await;
    let Played {
        run, desk, over, ..
    } = played;
    // Whoever still waits is told that nothing comes any more.
    drop(desk);
    hosted.stop().await;
    let record = run.finish(!over);
    place.leave(&record)?;
    match (broken, record.outcome) {
        (Some(failure), _) => Err(Failure::Said(format!("the API broke: {failure}"))),
        (None, Outcome::Failed(wrong)) => Err(Failure::Said(wrong)),
        (None, Outcome::Passed | Outcome::Interrupted) => Ok(()),
    }
}

fn usual() -> Result<(Scenario, String), Failure> {
    let (scenario, warnings) = Scenario::parse(USUAL_NAME, USUAL)
        .map_err(|errors| Failure::Said(format!("{errors:#}")))?;
    for warning in warnings {
        remark(&format!("Warning: {warning}"));
    }
    Ok((scenario, USUAL.to_owned()))
}

/// A run that is played, and the desk at which the API asks.
struct Played {
    run: Run,
    desk: Desk,
    pace: Pace,
    /// Simulated time between two looks.
    tick: Duration,
    clock: RealClock,
    /// When readers last learned when nodes were heard.
    told_heard: Duration,
    /// Whether the scenario is over.
    over: bool,
}

impl Played {
    /// Lets time pass up to where it should be, or for a slice, and publishes what came of it.
    fn advance(&mut self) {
        let began = self.clock.monotonic();
        loop {
            let now = self.run.sim().now();
            let stop = self.pace.due().min(now + STRETCH);
            self.pass(stop);
            let stands = self.run.sim().now() <= now;
            if stands || self.clock.monotonic().saturating_sub(began) > SLICE {
                break;
            }
        }
        self.pace.forgive(self.run.sim().now());
        self.publish();
    }

    fn pass(&mut self, stop: Time) {
        if self.over {
            self.run.linger_to(stop);
        } else if self.run.advance_to(stop).is_none() {
            self.over = true;
            let wrong = self.run.end_scenario();
            say(match &wrong {
                None => {
                    "The scenario is over: nothing more breaks by itself. The fleet goes on \
                         until Ctrl-C."
                }
                Some(_) => "The scenario ended here, and failed:",
            });
            if let Some(wrong) = wrong {
                say(&format!("  {wrong}"));
            }
        }
    }

    /// Lets readers see what was committed.
    fn publish(&mut self) {
        let (news, now) = (self.run.news(), self.run.stamp());
        if let Some(state) = news.loaded {
            self.desk.loaded(state, now);
        }
        for (at, changes) in news.turns {
            self.desk.changed(&changes, at);
        }
        if let Some(report) = news.report {
            self.desk.planned(report);
        }
        let wall = self.clock.monotonic();
        if wall.saturating_sub(self.told_heard) >= HEARD {
            self.desk.heard(self.run.beats());
            self.told_heard = wall;
        }
        self.desk.is(now, self.run.takes_nothing().is_none());
    }

    fn answer(&mut self, asked: Asked) {
        match asked {
            Asked::Operator(input, waits) => {
                let reply = self.run.ask(input);
                self.publish();
                waits.answer(match reply {
                    Ok(reply) => reply.map_err(SubmitError::from),
                    Err(why) => Err(SubmitError::Unavailable(why)),
                });
            }
            Asked::Agent(_, waits) => waits.refuse(
                "the machines of this fleet are simulated, and so are their agents: no other agent \
                 can join it",
            ),
            Asked::Fault(order) => {
                let became = self.order(&order);
                order.answer(became);
            }
        }
    }

    fn order(&mut self, order: &FaultOrder) -> Result<(), FaultRefusal> {
        let done = match &order.what {
            Ordered::Inject(fault) => self.run.break_machine(&order.node, &failure(fault)?),
            Ordered::Clear(kind) => {
                let kinds = kind.map_or(&[][..], failures);
                self.run.repair_machine(&order.node, kinds)
            }
        };
        done.map_err(|error| match error {
            Unbreakable::NoMachine(_) => FaultRefusal::Unknown(error.to_string()),
            Unbreakable::NoSuchGpu { .. } | Unbreakable::NotSpot(_) | Unbreakable::NotBooted(_) => {
                FaultRefusal::Wrong(error.to_string())
            }
        })
    }
}

/// What the simulator calls a kind of fault. The first is what a fault of the kind becomes.
const fn failures(kind: FaultKind) -> &'static [FailureKind] {
    match kind {
        FaultKind::Xid => &[FailureKind::Xid],
        FaultKind::Thermal => &[FailureKind::Temperature, FailureKind::ThermalRamp],
        FaultKind::Memory => &[FailureKind::Memory],
        FaultKind::Nvlink => &[FailureKind::Nvlink],
        FaultKind::BackendError => &[
            FailureKind::Backend,
            FailureKind::Nvml,
            FailureKind::DriverHang,
        ],
        FaultKind::DeviceError => &[FailureKind::Device, FailureKind::GpuLost],
        FaultKind::BootFailure => &[FailureKind::Boot],
        FaultKind::RowRemap => &[FailureKind::RowRemap, FailureKind::RowRemapFailed],
        FaultKind::Pcie => &[FailureKind::Pcie],
        FaultKind::Power => &[FailureKind::Power],
        FaultKind::RecoveryAction => &[],
    }
}

/// What the simulator makes of a fault. What its machines cannot show is refused.
fn failure(fault: &Fault) -> Result<Break, FaultRefusal> {
    let cannot = |what: &str| Err(FaultRefusal::Cannot(format!("simulated machines {what}")));
    if fault.temperature.is_some() {
        return cannot("that are too hot are at 95 degrees: leave the temperature out");
    }
    if fault.sbe.is_some_and(|errors| errors > 0) {
        return cannot("count no corrected memory errors: leave sbe out");
    }
    let kind = match fault.kind {
        FaultKind::RowRemap if fault.failed == Some(true) => FailureKind::RowRemapFailed,
        FaultKind::DeviceError if fault.missing == Some(true) => FailureKind::GpuLost,
        other => match failures(other).first() {
            Some(kind) => *kind,
            None => return cannot("show no recovery action of their drivers"),
        },
    };
    Ok(Break {
        kind,
        xid: fault.code,
        gpu: Some(fault.gpu.unwrap_or(0)),
        message: fault.message.clone().unwrap_or_default(),
        lasts: None,
    })
}

/// What a new user reads first.
fn welcome(url: &str, scenario: &Scenario, seed: u64, speed: f64, place: &Place) -> String {
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "navarch".to_owned());
    let navarch = format!("{program} --server {url}");
    let node = scenario
        .fleet
        .first()
        .map_or("<node>", |node| node.id.as_str());
    let scale = scenario.config.pools.iter().next().map(|(name, pool)| {
        format!(
            "\x20 {navarch} pool scale {name} --nodes {}\n",
            pool.max_nodes
        )
    });
    let pace = if (speed - 1.0).abs() < f64::EPSILON {
        "time passes as on a clock".to_owned()
    } else {
        format!("{speed} seconds pass in each second")
    };
    format!(
        "Navarch listens on {url}\n\
         Scenario: {}, seed {seed}; {pace}\n\
         Run:      {}, with its report when it ends\n\
         \n\
         In another terminal:\n\
         \x20 {navarch} list\n\
         \x20 {navarch} dev inject {node} xid --code 79 --gpu 3\n\
         \x20 {navarch} explain node {node}\n\
         \x20 {navarch} dev clear {node}\n\
         \x20 {navarch} events --follow\n\
         {}\
         \n\
         Ctrl-C ends the run and writes its report.",
        scenario.name,
        place.directory.path().display(),
        scale.unwrap_or_default(),
    )
}
