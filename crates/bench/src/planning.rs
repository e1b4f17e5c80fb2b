//! `planning`: how long a plan of the whole fleet takes, in the core alone.

use std::fmt::Write as _;
use std::sync::Arc;

use navarch_config::Config;
use navarch_core::{Effect, Fact, Fleet, Input, Registration, Report, Settings as Rules, Signals};
use navarch_model::{
    BootId, Capabilities, CloudStatus, Description, FleetId, Gpu, HealthEventType,
    HealthWatchSystem, IdSource, Idempotency, InstanceId, Machine, NodeId, NodeStatus,
    ProviderError, ProviderErrorKind, ProviderInstanceId, SessionId, Stamp, State, Time,
};
use navarch_policy::HealthPolicy;
use navarch_time::{Clock as _, RealClock};

use crate::Result;
use crate::machine::Table;

/// Machines that a pool may have beyond those that it has.
const GROWTH: usize = 5;

/// How long.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Settings {
    /// Plans for each line
    #[arg(long, default_value_t = 15)]
    pub plans: usize,
}

/// Nodes, pools, and the longest that a plan may take, in milliseconds.
const SIZES: [(usize, usize, f64); 2] = [(10_000, 200, 10.0), (100_000, 200, 150.0)];

/// Measures, and says what came of it.
pub fn run(settings: Settings) -> Result<Table> {
    let mut table = Table::new(
        "Planning",
        &["nodes", "pools", "fleet", "planned", "median", "slowest"],
    );
    for (nodes, pools, most) in SIZES {
        let mut world = World::new(nodes, pools, ONE_OFFERING)?;
        for situation in [
            Situation::Quiet,
            Situation::Sick,
            Situation::Short,
            Situation::Growing,
        ] {
            if situation == Situation::Growing {
                world = World::new(nodes, pools, MANY_OFFERINGS)?;
            }
            world.bring_about(situation)?;
            let (median, slowest, planned) = world.measure(settings.plans);
            let shown = |time: f64| format!("{time:.2} ms");
            let row = vec![
                crate::machine::rate(nodes as f64),
                pools.to_string(),
                situation.name().to_owned(),
                planned.to_string(),
                shown(median),
                shown(slowest),
            ];
            crate::progress(&row.join("  "))?;
            table.row(row);
            table.goal(
                format!(
                    "a plan of {nodes} nodes in {pools} pools, {}, median",
                    situation.name()
                ),
                &format!("{most} ms at most"),
                shown(median),
                median <= most,
            );
        }
    }
    table.note(
        "A full plan, as the control plane makes once a minute and after each start, of a fleet \
         in memory. `quiet`: every machine is ACTIVE and nothing is to be done. `sick`: 1 % of \
         the nodes show XID 79. `short`: one machine of each pool vanished as well, and is to be \
         bought. `growing`: each pool buys at 16 offerings of two clouds, the first of them sold \
         out, and its autoscaler asked for five machines more. `planned` is how many actions the \
         plan has.",
    );
    Ok(table)
}

/// Where the pools of a simple fleet buy.
const ONE_OFFERING: &str = "provider: fake";

/// Where those buy that may go elsewhere, and what they follow.
const MANY_OFFERINGS: &str = "cooldown: 0s, autoscaling: {type: queue, jobs_per_node: 1, source: \
    {http: {url: 'http://queue/depth'}}}, providers: [{name: fake, regions: [r1, r2], zones: [a, b, \
    c, d]}, {name: far, regions: [r3, r4], zones: [a, b, c, d], priority: 1}]";

/// What the fleet is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Situation {
    Quiet,
    Sick,
    Short,
    Growing,
}

impl Situation {
    const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Sick => "1 % sick",
            Self::Short => "sick and short",
            Self::Growing => "growing",
        }
    }
}

/// Ids that count.
#[derive(Debug, Default)]
struct Numbers(u64);

impl IdSource for Numbers {
    fn next_bits(&mut self) -> u64 {
        self.0 += 1;
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// A fleet and a cloud that answers everything at once.
struct World {
    fleet: Fleet,
    now: Stamp,
    ids: Numbers,
    machines: Vec<InstanceId>,
    /// Whether the first offering is sold out.
    sold_out: bool,
}

impl World {
    /// A fleet in which every machine that was asked for is ACTIVE.
    fn new(nodes: usize, pools: usize, buys: &str) -> Result<Self> {
        let each = nodes / pools;
        let mut yaml = "providers: {fake: {type: fake}, far: {type: fake}}\npools:\n".to_owned();
        for pool in 0..pools {
            writeln!(
                yaml,
                "  p{pool}: {{{buys}, instance_type: gpu, min_nodes: {each}, \
                 max_nodes: {}, max_launches_per_hour: 100000}}",
                each + GROWTH
            )?;
        }
        let (config, _) =
            Config::parse("bench.yaml", &yaml).map_err(|errors| errors.to_string())?;
        let rules = Arc::new(Rules::new(&config, |_| Idempotency::TokenOrName));
        let state = State::new(FleetId::new("fleet-bench"));
        let mut world = Self {
            fleet: Fleet::new(state, rules, HealthPolicy::builtin()),
            now: Stamp {
                core: Time(0),
                wall: Time(1_767_225_600_000_000),
            },
            ids: Numbers::default(),
            machines: Vec::new(),
            sold_out: false,
        };
        world.feed(Input::Started { epoch: 1 })?;
        while world.machines.len() < nodes {
            let before = world.machines.len();
            // One plan asks for the machines, the next makes the calls.
            for _ in 0..3 {
                world.step()?;
            }
            if world.machines.len() == before {
                return Err(format!("the fleet stays at {before} of {nodes} machines").into());
            }
        }
        world.must_be(nodes, NodeStatus::Active)?;
        Ok(world)
    }

    fn must_be(&self, nodes: usize, status: NodeStatus) -> Result<()> {
        let all = self.fleet.state().nodes.values();
        let found = all.filter(|node| node.status() == status).count();
        if found == nodes {
            return Ok(());
        }
        Err(format!("{found} nodes are {status:?} instead of {nodes}").into())
    }

    fn feed(&mut self, input: Input) -> Result<()> {
        let applied = self.fleet.apply(input, self.now, &mut self.ids);
        applied.reply.map_err(|rejection| rejection.to_string())?;
        for effect in applied.effects {
            self.answer(effect)?;
        }
        Ok(())
    }

    fn answer(&mut self, effect: Effect) -> Result<()> {
        let Effect::Launch { key, spec, .. } = effect else {
            return Ok(());
        };
        if self.sold_out && (&*spec.offering.region, &*spec.offering.zone) == ("r1", "a") {
            let result = Err(ProviderError::new(ProviderErrorKind::Capacity, "sold out"));
            return self.feed(Input::LaunchResult { key, result });
        }
        let id = spec.instance.clone();
        let result = Ok(Machine {
            provider_id: ProviderInstanceId::new(format!("m-{id}")),
            instance: Some(spec.instance),
            fleet: Some(spec.fleet),
            status: CloudStatus::Running,
            interruption_at: None,
        });
        self.feed(Input::LaunchResult { key, result })?;
        self.feed(Input::Register(registration(&id)))?;
        self.feed(Input::Report(report(&id, 1, Vec::new())))?;
        self.machines.push(id);
        Ok(())
    }

    /// A second passes, and a plan is made and carried out.
    fn step(&mut self) -> Result<()> {
        self.now = self.now.after(std::time::Duration::from_secs(1));
        self.feed(Input::Tick)?;
        let plan = self.fleet.plan_all(self.now);
        self.fleet.planned(&plan);
        for action in plan.actions {
            let applied = self
                .fleet
                .apply(Input::Act(action), self.now, &mut self.ids);
            for effect in applied.effects {
                self.answer(effect)?;
            }
        }
        Ok(())
    }

    fn bring_about(&mut self, situation: Situation) -> Result<()> {
        match situation {
            Situation::Quiet => Ok(()),
            Situation::Sick => {
                let sick: Vec<InstanceId> = self.machines.iter().step_by(100).cloned().collect();
                for id in &sick {
                    let fault = Fact {
                        gpu: Some(0),
                        event_type: HealthEventType::Xid,
                        system: HealthWatchSystem::Driver,
                        metrics: [("xid_code".to_owned(), "79".to_owned())].into(),
                        watch: "xid".to_owned(),
                        ..Fact::default()
                    };
                    self.feed(Input::Report(report(id, 2, vec![fault])))?;
                }
                self.must_be(sick.len(), NodeStatus::Unhealthy)
            }
            Situation::Growing => {
                self.bring_about(Situation::Short)?;
                self.sold_out = true;
                for _ in 0..3 {
                    self.step()?;
                }
                let sources = self.fleet.settings().pools.values();
                let sources = sources.filter_map(|pool| pool.config.autoscaling.as_ref());
                let depth = self.machines.len() as f64;
                let queues = sources
                    .flat_map(|autoscaling| autoscaling.autoscaler.sources())
                    .map(|source| (source.clone(), Ok(depth)))
                    .collect();
                let nodes = Vec::new();
                self.feed(Input::Signals(Signals { nodes, queues }))?;
                // This plan asks for the size, the one that is measured for the machines.
                self.step()
            }
            Situation::Short => {
                let mut seen = std::collections::BTreeSet::new();
                let ended: Vec<InstanceId> = self
                    .machines
                    .iter()
                    .filter(|id| {
                        let instance = self.fleet.state().instances.get(*id);
                        instance.is_some_and(|instance| seen.insert(instance.pool.clone()))
                    })
                    .cloned()
                    .collect();
                for instance in ended {
                    let reason = "for the benchmark".to_owned();
                    self.feed(Input::EndInstance { instance, reason })?;
                }
                Ok(())
            }
        }
    }

    /// The median and the slowest of some plans in milliseconds, and how many actions one has.
    fn measure(&self, plans: usize) -> (f64, f64, usize) {
        let clock = RealClock::new();
        let mut planned = 0;
        let mut took: Vec<f64> = (0..plans.max(1))
            .map(|_| {
                let began = clock.monotonic();
                let plan = std::hint::black_box(self.fleet.plan_all(self.now));
                planned = plan.actions.len();
                (clock.monotonic() - began).as_secs_f64() * 1000.0
            })
            .collect();
        took.sort_by(f64::total_cmp);
        (took[took.len() / 2], took[took.len() - 1], planned)
    }
}

fn registration(id: &InstanceId) -> Registration {
    let gpus = (0..8).map(|index| Gpu {
        index,
        uuid: format!("GPU-fake-{id}-{index}"),
        ..Gpu::default()
    });
    Registration {
        node: Some(NodeId::new(id.as_str())),
        instance: Some(id.clone()),
        description: Description {
            gpus: gpus.collect(),
            hostname: id.to_string(),
            machine_id: format!("machine-{id}"),
            capabilities: Capabilities {
                full_reports: true,
                command_results: true,
                command_push: true,
            },
            ..Description::default()
        },
        boot: Some(boot(id)),
        session: Some(SessionId::new(format!("{id}-session-1"))),
        address: "10.0.0.1".to_owned(),
    }
}

fn boot(id: &InstanceId) -> BootId {
    BootId::new(format!("{id}-boot-1"))
}

/// A full report of a machine that is well but for these faults.
fn report(id: &InstanceId, sequence: u64, faults: Vec<Fact>) -> Report {
    let reading = |index| Fact {
        gpu: Some(index),
        system: HealthWatchSystem::Thermal,
        metrics: [("temperature".to_owned(), "45".to_owned())].into(),
        watch: "temperature".to_owned(),
        ..Fact::default()
    };
    Report {
        node: Some(NodeId::new(id.as_str())),
        facts: (0..8).map(reading).chain(faults).collect(),
        boot: Some(boot(id)),
        session: Some(SessionId::new(format!("{id}-session-1"))),
        sequence,
        full: true,
        ..Report::default()
    }
}
