//! What is simulated: the fleet's configuration, which troubles come and how often.

use std::sync::Arc;
use std::time::Duration;

use navarch_config::scenario::{FailureKind, Scenario};
use navarch_core::Settings;
use navarch_model::Idempotency;
use navarch_store::Retention;

use crate::bugs::Bug;
use crate::judge::Judge;
use crate::streams::Stream;

/// How often time alone is fed in production.
const TICK: Duration = Duration::from_secs(1);
/// How often everything is planned in production.
const FULL_PLAN: Duration = Duration::from_secs(60);
/// How often everything is planned in a large fleet: that it finds nothing is proven by the
/// thorough worlds.
const RARE_FULL_PLAN: Duration = Duration::from_secs(600);
/// How long the store of a scenario keeps events. The trace has them all, and nobody reads them from
/// the store unless people take part, for whom they are kept as in production.
const READ_EVENTS: Duration = Duration::from_secs(3600);
/// What an agent's spool takes in production.
const SPOOL_BYTES: usize = 64 * 1024 * 1024;

/// The trouble that the world makes. Each seed draws a subset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// An XID is reported.
    Xid,
    /// A GPU is too hot for a while.
    Thermal,
    /// A GPU counts uncorrectable memory errors until a reboot.
    Ecc,
    /// A GPU is gone until a reboot.
    LostGpu,
    /// A machine is rebooted and its faults are gone.
    Repair,
    /// An agent starts again.
    AgentRestart,
    /// A machine hangs and the cloud says that it runs.
    Hang,
    /// A machine stops and the cloud says so.
    Stop,
    /// A machine vanishes from the cloud.
    Vanish,
    /// One machine is cut off for a while.
    Partition,
    /// Launches fail with one kind of error for a while.
    LaunchErrors,
    /// Launches succeed and their answers are lost, for a while.
    LostAnswers,
    /// Machines made meanwhile never boot.
    Duds,
    /// Listings lack machines and say so, for a while.
    PartialListings,
    /// Listings are empty and claim to be complete, for a while.
    EmptyListings,
    /// Listings show the past, for a while.
    StaleListings,
    /// Look-ups, listings and terminations fail, for a while.
    Outage,
    /// Calls to the cloud take longer than their deadline, for a while.
    SlowCloud,
    /// An operator cordons, drains, uncordons or terminates.
    Operator,
    /// An operator switches automation.
    Automation,
    /// The control plane is paused for a while.
    Pause,
    /// The control plane dies between two turns.
    Crash,
    /// A machine shows many XIDs at once.
    Burst,
    /// Half of the machines are cut off for a while.
    HalfSilent,
    /// The control plane is frozen for long.
    Freeze,
    /// People and other systems set and lift named holds.
    Holds,
    /// People adopt and end machines that nobody claims, and end instances.
    Orphans,
    /// An operator has a machine run a diagnostic.
    Diagnose,
    /// An operator resets breakers, or says of a silent machine that it is dead.
    People,
    /// The store is copied.
    Backup,
    /// The last copy of the store is put back.
    Restore,
    /// Somebody else rents machines in the same account.
    Strangers,
    /// One offering is sold out for a while.
    SoldOut,
    /// One offering costs something else.
    Prices,
    /// The cloud takes a spot machine back, with a notice.
    Interruption,
    /// An operator puts another health policy in force.
    Policy,
    /// What an agent reads of a machine shows a failure, until a reboot where one repairs it.
    Reading(FailureKind),
}

impl Trouble {
    /// Every trouble. Whether a world has one is drawn in this order: a new one goes last, so that
    /// worlds without it stay what they were.
    pub const ALL: [Self; 47] = [
        Self::Xid,
        Self::Thermal,
        Self::Ecc,
        Self::LostGpu,
        Self::Repair,
        Self::AgentRestart,
        Self::Hang,
        Self::Stop,
        Self::Vanish,
        Self::Partition,
        Self::LaunchErrors,
        Self::LostAnswers,
        Self::Duds,
        Self::PartialListings,
        Self::EmptyListings,
        Self::StaleListings,
        Self::Outage,
        Self::SlowCloud,
        Self::Operator,
        Self::Automation,
        Self::Pause,
        Self::Crash,
        Self::Burst,
        Self::HalfSilent,
        Self::Freeze,
        Self::Holds,
        Self::Orphans,
        Self::Diagnose,
        Self::People,
        Self::Backup,
        Self::Restore,
        Self::Strangers,
        Self::SoldOut,
        Self::Prices,
        Self::Interruption,
        Self::Reading(FailureKind::ThermalRamp),
        Self::Reading(FailureKind::Nvml),
        Self::Reading(FailureKind::Boot),
        Self::Reading(FailureKind::Device),
        Self::Reading(FailureKind::DriverHang),
        Self::Reading(FailureKind::SilentCorruption),
        Self::Reading(FailureKind::RowRemap),
        Self::Reading(FailureKind::RowRemapFailed),
        Self::Reading(FailureKind::Nvlink),
        Self::Reading(FailureKind::Pcie),
        Self::Reading(FailureKind::Power),
        Self::Policy,
    ];

    /// Whether it is about what is bought where. These are drawn from a stream of their own.
    const fn is_about_placement(self) -> bool {
        matches!(self, Self::SoldOut | Self::Prices | Self::Interruption)
    }
}

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Config {
    /// The fleet's configuration file. It has one provider, `fake`.
    pub yaml: String,
    /// The configuration instead of a file, of a scenario.
    pub read: Option<Arc<navarch_config::Config>>,
    /// The health policy at the start.
    pub(crate) judge: Judge,
    /// Whether the cloud honours client tokens.
    pub honours_tokens: bool,
    /// The troubles that come by themselves.
    pub troubles: Vec<Trouble>,
    /// The mean time between two troubles.
    pub trouble_every: Duration,
    /// How often a turn with changes crashes, at a point drawn for each.
    pub crash_per_turn: f64,
    /// How often a request or a reply between agent and control plane is lost.
    pub lost: f64,
    /// Whether agents poll for commands.
    pub polls: bool,
    /// The most bytes that an agent keeps of what nobody took.
    pub spool_bytes: usize,
    /// Whether another control plane, with a fleet of its own, uses the same cloud.
    pub neighbour: bool,
    /// Whether every promise over the whole state is checked after every input, and every plan
    /// compared with one of all pools; otherwise after every plan, and once a minute.
    pub thorough: bool,
    /// Whether machines that only repeat themselves are advanced in bulk.
    pub bulk: bool,
    /// How often time alone is fed to the control plane: a second in production. More than
    /// `guards.pause_gap` looks like a pause to it.
    pub tick: Duration,
    /// How often everything is planned, whether it is due or not: a minute in production.
    pub full_plan: Duration,
    /// How long the store keeps what is over; none for ever.
    pub retention: Option<Retention>,
    /// Whether the scheduler, if there is one, refuses, hangs and loses answers while there is
    /// trouble.
    pub moody_scheduler: bool,
    /// A bug planted in the shell.
    pub bug: Option<Bug>,
}

impl Config {
    /// A world without any trouble: `min` machines with two GPUs each, short intervals.
    pub fn calm(min: u32, max: u32) -> Self {
        Self {
            yaml: yaml("1", min, max, "1", "automatic", 2),
            read: None,
            judge: Judge::builtin(),
            honours_tokens: true,
            troubles: Vec::new(),
            trouble_every: Duration::from_secs(3600),
            crash_per_turn: 0.0,
            lost: 0.0,
            polls: false,
            spool_bytes: SPOOL_BYTES,
            neighbour: false,
            thorough: true,
            bulk: false,
            tick: TICK,
            full_plan: FULL_PLAN,
            retention: None,
            moody_scheduler: false,
            bug: None,
        }
    }

    /// The world of a scenario. What is checked in full is checked once a minute and at the end, and
    /// machines that only repeat themselves are advanced in bulk.
    pub(crate) fn of(scenario: &Scenario) -> Self {
        Self {
            read: Some(Arc::new(scenario.config.clone())),
            lost: scenario.lost_calls,
            thorough: false,
            bulk: true,
            retention: Some(Retention {
                events_age: READ_EVENTS,
                ..Retention::default()
            }),
            ..Self::calm(1, 1)
        }
    }

    /// The same with more keys of its last pool, one a line, as a file has them below the pool.
    #[must_use]
    pub fn with_keys(mut self, keys: &str) -> Self {
        for line in keys.lines() {
            self.yaml.push_str("    ");
            self.yaml.push_str(line);
            self.yaml.push('\n');
        }
        self
    }

    /// The same with more pools of one size and budget.
    #[must_use]
    pub fn with_pools(mut self, names: &[&str], min: u32, max: u32, budget: &str) -> Self {
        for name in names {
            let text = pool(name, min, max, budget, "automatic");
            self.yaml.push_str(&text);
        }
        self
    }

    /// The same on machines that the cloud may take back.
    #[must_use]
    pub fn on_spot(mut self) -> Self {
        let spot = "    instance_type: gpu
    providers:
      - {name: fake, capacity: spot, regions: [here]}
";
        self.yaml = self.yaml.replace(ONE_OFFERING, spot);
        self
    }

    /// The same with a scheduler that is told of nodes.
    #[must_use]
    pub fn with_scheduler(mut self) -> Self {
        self.yaml = self.yaml.replacen(
            "server:\n",
            "server:
  notifier:
    type: webhook
    timeout: 10s
    webhook:
      cordon_url: http://scheduler/cordon
      uncordon_url: http://scheduler/uncordon
      drain_url: http://scheduler/drain
      drain_status_url: http://scheduler/status
      timeout: 8s
",
            1,
        );
        self.moody_scheduler = true;
        self
    }

    /// A fleet of `nodes` machines with eight GPUs each, with the guards of production and without
    /// trouble, in which quiet machines are advanced in bulk. Agents beat and report as often as
    /// said, and the control plane is fed time every `tick`; it lists its clouds every five minutes,
    /// or every `tick` if that is longer, and plans everything every ten minutes.
    pub fn large(nodes: u32, beat: Duration, report: Duration, tick: Duration) -> Self {
        let gap = tick.saturating_mul(3).max(Duration::from_secs(5));
        let yaml = format!(
            "server:
  heartbeat_interval: {}s
  heartbeat_timeout: {}s
  health_check_interval: {}s
guards:
  pause_gap: {}s
  sweep:
    interval: {}s
providers:
  fake:
    type: fake
    gpu_count: 8
pools:
  main:
    provider: fake
    instance_type: gpu
    region: here
    min_nodes: {nodes}
    max_nodes: {}
    budget: 10%
    max_launches_per_hour: {}
",
            beat.as_secs(),
            beat.as_secs() * 3,
            report.as_secs(),
            gap.as_secs(),
            tick.as_secs().max(300),
            nodes + nodes / 20 + 1,
            nodes * 2,
        );
        Self {
            yaml,
            thorough: false,
            bulk: true,
            tick,
            full_plan: RARE_FULL_PLAN,
            ..Self::calm(1, 1)
        }
    }

    /// The configuration of one fuzzed seed.
    pub fn drawn(seed: u64) -> Self {
        let mut draw = Stream::named(seed, "config");
        let mut placing = Stream::named(seed, "placement of config");
        let min = 1 + draw.below(6) as u32;
        let max = min + draw.below(3) as u32;
        let budget = ["1", "1", "2", "10%", "50%"][draw.below(5) as usize];
        // A stream of its own: the other worlds stay what they were.
        let mut apart = Stream::named(seed, "budget of the fleet");
        let fleet = if apart.chance(0.5) {
            ["1", "2", "10%", "50%"][apart.below(4) as usize]
        } else {
            budget
        };
        let recovery = if draw.chance(0.1) {
            "manual"
        } else {
            "automatic"
        };
        let gpus = 1 + draw.below(3) as u32;
        // A stream of its own: worlds without such hardware stay what they were.
        let mut hardware = Stream::named(seed, "hardware of config");
        let fails = hardware.chance(0.5);
        // A stream of its own: worlds with the built-in policy stay what they were.
        let mut policies = Stream::named(seed, "policy of config");
        let judge = if policies.chance(0.5) {
            Judge::drawn(&mut policies)
        } else {
            Judge::builtin()
        };
        let troubles = Trouble::ALL
            .into_iter()
            .filter(|trouble| match trouble {
                Trouble::Reading(_) => fails && hardware.chance(0.3),
                Trouble::Policy => policies.chance(0.3),
                trouble if trouble.is_about_placement() => placing.chance(0.4),
                _ => draw.chance(0.4),
            })
            .collect();
        let mut config = Self {
            read: None,
            judge,
            yaml: yaml(fleet, min, max, budget, recovery, gpus),
            honours_tokens: draw.chance(0.8),
            troubles,
            trouble_every: draw.between(20_000, 240_000),
            crash_per_turn: [0.0, 0.002, 0.02][draw.below(3) as usize],
            lost: [0.0, 0.01, 0.1][draw.below(3) as usize],
            polls: draw.chance(0.2),
            spool_bytes: if draw.chance(0.3) { 1_500 } else { SPOOL_BYTES },
            neighbour: draw.chance(0.15),
            thorough: true,
            bulk: draw.chance(0.5),
            tick: TICK,
            full_plan: FULL_PLAN,
            retention: None,
            moody_scheduler: false,
            bug: None,
        };
        // Pools share the fleet's budget, its witnesses and its cloud.
        for name in ["other", "third"] {
            if draw.chance(0.3) {
                let min = draw.below(4) as u32;
                config
                    .yaml
                    .push_str(&pool(name, min, min + 1, budget, recovery));
            }
        }
        let mut draw = Stream::named(seed, "autoscaling");
        if draw.chance(0.3) {
            let which = draw.below(FOLLOWS.len() as u64) as usize;
            config = config.with_keys(FOLLOWS[which]);
        }
        // A stream of its own: the other worlds stay what they were.
        if Stream::named(seed, "scheduler config").chance(0.4) {
            config = config.with_scheduler();
        }
        if placing.chance(0.5) {
            config.yaml = config.yaml.replace(ONE_OFFERING, &offerings(&mut placing));
        }
        config
    }

    /// The fleet's settings.
    ///
    /// # Errors
    ///
    /// What the configuration file says wrong.
    pub(crate) fn settings(&self) -> Result<Arc<Settings>, navarch_config::ConfigErrors> {
        let read = match &self.read {
            Some(read) => Arc::clone(read),
            None => Arc::new(navarch_config::Config::parse("sim.yaml", &self.yaml)?.0),
        };
        let idempotency = if self.honours_tokens {
            Idempotency::TokenOrName
        } else {
            Idempotency::None
        };
        Ok(Arc::new(Settings::new(&read, |_| idempotency)))
    }
}

/// What the last pool of a fuzzed fleet may follow, with waits that a simulated hour shows.
const FOLLOWS: [&str; 3] = [
    "cooldown: 1m
autoscaling: {type: reactive, stabilization: {up: 0s, down: 1m}}",
    "cooldown: {up: 0s, down: 1m}
autoscaling:
  type: queue
  jobs_per_node: 5
  stabilization: 1m
  source: {http: {url: 'http://queue'}}",
    "cooldown: 0s
autoscaling:
  type: composite
  stabilization: 0s
  autoscalers:
    - {type: predictive, lookback_window: 4, fallback: {type: reactive}}
    - {type: queue, jobs_per_node: 5, source: {http: {url: 'http://queue'}}}",
];

/// A fleet of one pool, the last thing in the file, with waits short enough for a simulated hour to show them all.
/// `fleet` is the budget of all pools, `budget` that of the pool.
fn yaml(fleet: &str, min: u32, max: u32, budget: &str, recovery: &str, gpus: u32) -> String {
    format!(
        "server:
  heartbeat_interval: 15s
  heartbeat_timeout: 45s
  health_check_interval: 30s
instance_manager:
  launch_timeout: 2m
  registration_timeout: 5m
guards:
  budget: {fleet}
  small_fleet_wait: 1m
  price_max_age: 2m
  silence_replace_after: 3m
  minimum_life: 2m
  breaker:
    wait: 2m
    max_wait: 10m
    confirm: 1m
  launch_breaker:
    wait: 1m
    max_wait: 8m
  sweep:
    interval: 1m
providers:
  fake:
    type: fake
    gpu_count: {gpus}
pools:
{}",
        pool("main", min, max, budget, recovery)
    )
}

/// Where a pool of one offering buys.
const ONE_OFFERING: &str = "    provider: fake
    instance_type: gpu
    region: here
";

/// Where a pool of several offerings buys.
fn offerings(draw: &mut Stream) -> String {
    let strategies = ["priority", "cost", "availability", "round-robin"];
    let strategy = strategies[draw.below(4) as usize];
    let mut text = format!("    instance_type: gpu\n    strategy: {strategy}\n");
    if draw.chance(0.4) {
        text.push_str("    max_price: 5\n");
    }
    if draw.chance(0.3) {
        text.push_str(&format!("    parallel_launches: {}\n", 1 + draw.below(3)));
    }
    let weight = match strategy {
        "round-robin" => format!(", weight: {}", 1 + draw.below(3)),
        _ => String::new(),
    };
    text.push_str("    providers:\n      - {name: fake, regions: [here, there]}\n");
    let spot = "name: fake, capacity: spot, regions: [here], zones: [a, b]";
    text.push_str(&format!(
        "      - {{{spot}, priority: {}{weight}}}\n",
        draw.below(3) as i64 - 1
    ));
    text
}

/// One pool.
fn pool(name: &str, min: u32, max: u32, budget: &str, recovery: &str) -> String {
    format!(
        "  {name}:
    provider: fake
    instance_type: gpu
    region: here
    min_nodes: {min}
    max_nodes: {max}
    budget: {budget}
    max_launches_per_hour: 60
    health:
      recovery: {recovery}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drawn_configuration_loads() {
        for seed in 0..200 {
            let config = Config::drawn(seed);
            if let Err(errors) = config.settings() {
                panic!("seed {seed}: {errors}");
            }
        }
    }
}
