//! A large fleet with thousands of failures, made up from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_config::scenario::{FailureKind, Place};
use navarch_model::{HealthStatus, NodeId, NodeStatus, PoolName, Time};
use navarch_sim::record::{
    Asked, AssertionResult, Block, Cause, IncidentRecord, Injection, NodeEvent, NodeEventKind,
    NodeRecord, OutageRecord, Outcome, PoolSample, Record, RuleHits, Sample,
};

use crate::synthetic::{at, event, node};

/// How long the run is, in seconds.
const SECONDS: f64 = 1800.0;

/// When the last node has started, in seconds.
const STARTED: f64 = 120.0;

/// A generator of numbers that is good enough to make a fleet up (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (self.next() >> 11) as f64 / (1u64 << 53) as f64 * (high - low)
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// What breaks how often, with which XID, and whether the node is replaced for it.
const KINDS: [(usize, FailureKind, Option<u32>, bool); 9] = [
    (24, FailureKind::Xid, Some(31), false),
    (18, FailureKind::Xid, Some(13), false),
    (14, FailureKind::GpuLost, Some(79), true),
    (10, FailureKind::Memory, Some(48), true),
    (8, FailureKind::Nvlink, Some(74), true),
    (8, FailureKind::RowRemap, Some(63), false),
    (8, FailureKind::ThermalRamp, None, false),
    (6, FailureKind::Network, None, false),
    (4, FailureKind::SilentCorruption, None, false),
];

/// The zones, with their providers.
const ZONES: [(&str, &str, &str); 5] = [
    ("gcp", "us-central1", "us-central1-a"),
    ("gcp", "us-central1", "us-central1-b"),
    ("gcp", "europe-west1", "europe-west1-c"),
    ("aws", "us-east-1", "us-east-1a"),
    ("lambda", "us-west-3", "us-west-3"),
];

/// A run of half an hour with so many nodes and failures.
pub fn crowd(nodes: usize, failures: usize, seed: u64) -> Record {
    let mut dice = Dice(seed);
    let mut record = Record {
        name: format!("{nodes} nodes, {failures} failures"),
        description: "A made-up run of a large fleet.".to_owned(),
        seed,
        scenario: "name: crowd\nstress:\n  duration: 30m\n".repeat(40),
        configuration: "pools:\n  training:\n    max: 3000\n".repeat(60),
        started: at(STARTED),
        outcome: Outcome::Failed("line 33: capacity is 93.12 %, expected at least 95 %".to_owned()),
        ended: at(SECONDS),
        asked: Asked {
            total_nodes: nodes as u32,
            failure_rate: 50.0,
            cascading: true,
            recovery: true,
        },
        ..Record::default()
    };
    for place in 0..nodes {
        let (id, made) = start(place, &mut dice);
        record.nodes.insert(id, made);
    }
    break_nodes(&mut record, failures, &mut dice);
    for node in record.nodes.values_mut() {
        node.events.sort_by_key(|event| event.at);
    }
    record.samples = count(&record);
    surroundings(&mut record, &mut dice);
    record
}

fn start(place: usize, dice: &mut Dice) -> (NodeId, NodeRecord) {
    let (provider, region, zone) = ZONES[dice.below(ZONES.len())];
    let pool = ["training", "training", "training", "batch", ""][place % 5];
    let mut made = node(zone, (!pool.is_empty()).then_some(pool));
    made.place = Place {
        provider: provider.to_owned(),
        region: region.to_owned(),
        zone: zone.to_owned(),
        rack: format!("{zone}-r{}", place / 16 % 40),
    };
    let powered = dice.between(0.0, STARTED - 60.0);
    let registered = powered + dice.between(20.0, 60.0);
    made.powered = at(powered);
    made.registered = Some(at(registered));
    made.lemon = dice.one_in(50);
    made.events = vec![
        event(registered, NodeEventKind::Started),
        status(
            registered + 2.0,
            NodeStatus::Unknown,
            NodeStatus::Active,
            "boot checks passed",
        ),
        health(
            registered + 2.0,
            HealthStatus::Unknown,
            HealthStatus::Healthy,
        ),
    ];
    (
        NodeId::new(format!("{provider}-{region}-h100-{place:04}")),
        made,
    )
}

fn status(seconds: f64, from: NodeStatus, to: NodeStatus, why: &str) -> NodeEvent {
    let why = why.to_owned();
    event(seconds, NodeEventKind::Status { from, to, why })
}

fn health(seconds: f64, from: HealthStatus, to: HealthStatus) -> NodeEvent {
    event(seconds, NodeEventKind::Health { from, to })
}

/// A kind by its weight.
fn kind(dice: &mut Dice) -> (FailureKind, Option<u32>, bool) {
    let mut at = dice.below(KINDS.iter().map(|(weight, ..)| weight).sum());
    for (weight, kind, xid, fatal) in KINDS {
        if at < weight {
            return (kind, xid, fatal);
        }
        at -= weight;
    }
    (FailureKind::Xid, Some(13), false)
}

fn break_nodes(record: &mut Record, failures: usize, dice: &mut Dice) {
    let ids: Vec<NodeId> = record.nodes.keys().cloned().collect();
    // When a node is next well, so that its troubles do not overlap.
    let mut well = vec![STARTED; ids.len()];
    let mut moments: Vec<f64> = (0..failures)
        .map(|_| dice.between(STARTED, SECONDS - 5.0))
        .collect();
    moments.sort_by(f64::total_cmp);
    for (place, now) in moments.into_iter().enumerate() {
        let mut victim = dice.below(ids.len());
        // A node that is gone or broken is not broken again.
        while well[victim] > now {
            victim = (victim + 1) % ids.len();
        }
        let (kind, xid, fatal) = kind(dice);
        let silent = kind == FailureKind::SilentCorruption;
        let rule = if fatal { "fatal-xid" } else { "recoverable" };
        let noticed = (!silent).then(|| now + dice.between(3.0, 35.0));
        let ended = (!fatal && !silent).then(|| now + dice.between(40.0, 240.0));
        let ended = ended.filter(|end| *end < SECONDS);
        let cause = match dice.below(12) {
            0 if place > 0 => Cause::Cascade(dice.below(place)),
            1 if (900.0..1200.0).contains(&now) => Cause::Outage("us-east-1a".to_owned()),
            _ => Cause::Chaos,
        };
        record.injections.push(Injection {
            at: at(now),
            node: ids[victim].clone(),
            kind,
            xid,
            gpu: (!matches!(kind, FailureKind::Network)).then(|| dice.below(8) as u32),
            cause,
            noticed: noticed.map(|then| {
                (
                    at(then),
                    format!(
                        "{} by rule {rule}: {}",
                        if fatal { "UNHEALTHY" } else { "DEGRADED" },
                        kind.word()
                    ),
                )
            }),
            ended: ended.map(at),
        });
        let Some(node) = record.nodes.get_mut(&ids[victim]) else {
            continue;
        };
        node.failures += 1;
        node.events.push(event(now, NodeEventKind::Failure(place)));
        well[victim] = now + 1.0;
        if let Some(end) = ended {
            node.recoveries += 1;
            node.events.push(event(end, NodeEventKind::Recovery(place)));
        }
        let Some(noticed) = noticed.filter(|then| *then < SECONDS) else {
            continue;
        };
        let incident = record.incidents.len();
        let mut closed = None;
        node.events
            .push(event(noticed, NodeEventKind::Incident(incident)));
        if fatal {
            node.events.push(health(
                noticed,
                HealthStatus::Healthy,
                HealthStatus::Unhealthy,
            ));
            node.events.push(status(
                noticed,
                NodeStatus::Active,
                NodeStatus::Unhealthy,
                &format!(
                    "XID {} on GPU 3 of {}: the policy asks for a replacement",
                    xid.unwrap_or(0),
                    ids[victim]
                ),
            ));
            let drained = noticed + dice.between(30.0, 200.0);
            let gone = drained + dice.between(20.0, 120.0);
            node.status = NodeStatus::Unhealthy;
            node.health = HealthStatus::Unhealthy;
            well[victim] = f64::MAX;
            if node.pool.is_some() && gone < SECONDS {
                node.events.push(status(
                    drained,
                    NodeStatus::Unhealthy,
                    NodeStatus::Draining,
                    "replaced",
                ));
                node.events.push(status(
                    gone,
                    NodeStatus::Draining,
                    NodeStatus::Terminated,
                    "drained",
                ));
                node.events.push(event(
                    gone,
                    NodeEventKind::Ended("terminated by us".to_owned()),
                ));
                node.status = NodeStatus::Terminated;
                node.ended = Some(at(gone));
                closed = Some(at(gone));
                record
                    .recovery_times
                    .push(Duration::from_secs_f64(gone - now));
                let replacement = replacement(node, drained, dice);
                let id = NodeId::new(format!("{}-gen2", ids[victim]));
                record.nodes.insert(id, replacement);
            } else {
                well[victim] = f64::MAX;
            }
        } else {
            node.events.push(health(
                noticed,
                HealthStatus::Healthy,
                HealthStatus::Degraded,
            ));
            let end = ended.unwrap_or(SECONDS) + 10.0;
            well[victim] = end + 1.0;
            if end < SECONDS {
                node.events
                    .push(health(end, HealthStatus::Degraded, HealthStatus::Healthy));
                closed = Some(at(end));
            } else {
                node.health = HealthStatus::Degraded;
            }
        }
        record.incidents.push(IncidentRecord {
            at: at(noticed),
            closed,
            node: ids[victim].clone(),
            rule: rule.to_owned(),
            action: if fatal { "replace" } else { "watch" }.to_owned(),
        });
    }
}

/// The machine that comes for one that is drained.
fn replacement(old: &NodeRecord, powered: f64, dice: &mut Dice) -> NodeRecord {
    let mut new = old.clone();
    let boot = dice.between(60.0, 180.0);
    new.powered = at(powered);
    new.ended = None;
    new.failures = 0;
    new.recoveries = 0;
    if powered + boot > SECONDS || dice.one_in(20) {
        new.registered = None;
        new.status = NodeStatus::Unknown;
        new.health = HealthStatus::Unknown;
        let why = "did not register within 3m".to_owned();
        let failed = powered + 180.0;
        let failed = (failed < SECONDS).then(|| event(failed, NodeEventKind::StartFailed(why)));
        new.events = failed.into_iter().collect();
        return new;
    }
    new.registered = Some(at(powered + boot));
    new.status = NodeStatus::Active;
    new.health = HealthStatus::Healthy;
    new.events = vec![
        event(powered + boot, NodeEventKind::Started),
        status(
            powered + boot,
            NodeStatus::Unknown,
            NodeStatus::Active,
            "boot checks passed",
        ),
        health(powered + boot, HealthStatus::Unknown, HealthStatus::Healthy),
    ];
    new
}

/// The fleet every 15 seconds, from what happened to its nodes.
fn count(record: &Record) -> Vec<Sample> {
    let mut samples = Vec::new();
    for second in (0..=SECONDS as i64).step_by(15) {
        let now = at(second as f64);
        let mut sample = Sample {
            at: now,
            failures: record.injections.iter().filter(|i| i.at <= now).count() as u64,
            recoveries: ended(record, now),
            incidents: record
                .incidents
                .iter()
                .filter(|i| i.at <= now && i.closed.is_none_or(|end| end > now))
                .count() as u32,
            cost_dollars: second as f64 * 0.027 * record.asked.total_nodes as f64,
            gpus_asked: record.asked.total_nodes * 8,
            ..Sample::default()
        };
        for node in record.nodes.values() {
            count_node(&mut sample, node, now);
        }
        samples.push(sample);
    }
    samples
}

fn ended(record: &Record, now: Time) -> u64 {
    let ended = |injection: &&Injection| injection.ended.is_some_and(|end| end <= now);
    record.injections.iter().filter(ended).count() as u64
}

fn count_node(sample: &mut Sample, node: &NodeRecord, now: Time) {
    let target = u32::from(node.powered < at(STARTED) && node.powered <= now);
    let name = node.pool.clone();
    if let Some(name) = &name {
        sample.pools.entry(name.clone()).or_default().target += target;
    }
    if node.powered > now || node.ended.is_some_and(|end| end <= now) {
        return;
    }
    let mut pool = PoolSample {
        machines: 1,
        ..PoolSample::default()
    };
    if node.registered.is_none_or(|then| then > now) {
        sample.starting += 1;
    } else {
        sample.nodes += 1;
        let mut status = NodeStatus::Unknown;
        let mut health = HealthStatus::Unknown;
        for event in node.events.iter().filter(|event| event.at <= now) {
            match &event.what {
                NodeEventKind::Status { to, .. } => status = *to,
                NodeEventKind::Health { to, .. } => health = *to,
                _ => {}
            }
        }
        *sample.by_status.entry(status).or_default() += 1;
        let active = status == NodeStatus::Active;
        match health {
            HealthStatus::Healthy if active => sample.healthy += 1,
            HealthStatus::Degraded => sample.degraded += 1,
            HealthStatus::Unhealthy => sample.unhealthy += 1,
            _ => {}
        }
        if active {
            sample.active += 1;
            sample.gpus_active += node.gpu_count;
            pool.active = 1;
        }
        pool.disrupted = u32::from(status == NodeStatus::Draining);
    }
    if let Some(name) = name {
        let all = sample.pools.entry(name).or_default();
        all.machines += pool.machines;
        all.active += pool.active;
        all.disrupted += pool.disrupted;
        all.budget = 40 + all.target / 100;
        all.breakers = u32::from(all.disrupted > 60);
    }
}

/// What a run shows beside its nodes.
fn surroundings(record: &mut Record, dice: &mut Dice) {
    let rule = |hits, result: &str, priority, condition: &str| RuleHits {
        hits,
        result: result.to_owned(),
        priority,
        condition: condition.to_owned(),
    };
    record.rules = BTreeMap::from([
        (
            "fatal-xid".to_owned(),
            rule(
                2410,
                "unhealthy",
                100,
                "event.event_type == 'xid' && event.xid_code in [43, 48, 63, 64, 74, 79, 95, 119, 120]",
            ),
        ),
        (
            "recoverable".to_owned(),
            rule(4312, "degraded", 50, "event.event_type == 'xid'"),
        ),
        (
            "thermal-critical".to_owned(),
            rule(602, "degraded", 90, "event.temperature_celsius >= 95"),
        ),
        ("default".to_owned(), rule(0, "healthy", 0, "true")),
    ]);
    for pool in ["training", "batch", ""] {
        for guard in ["budget", "breaker", "cooldown"] {
            let mut now = dice.between(300.0, 600.0);
            while now < SECONDS {
                let end = now + dice.between(5.0, 120.0);
                record.blocks.push(Block {
                    from: at(now),
                    until: (end < SECONDS).then(|| at(end)),
                    pool: (!pool.is_empty()).then(|| PoolName::new(pool)),
                    guard: guard.to_owned(),
                    reason: format!("{} of 40 disruptions are under way", 40 + dice.below(3)),
                });
                now = end + dice.between(10.0, 400.0);
            }
        }
    }
    record.blocks.sort_by_key(|block| block.from);
    record.lost_gpu_hours = [
        ("failed and not replaced yet", 812.25),
        ("start-up", 540.5),
        ("degraded", 66.0),
        ("no capacity at the cloud", 12.5),
    ]
    .map(|(cause, hours)| (cause.to_owned(), hours))
    .into();
    record.asked_gpu_hours = record.asked.total_nodes as f64 * 8.0 * SECONDS / 3600.0;
    record.delivered_gpu_hours = record.asked_gpu_hours * 0.9312;
    record.cost_dollars = record
        .samples
        .last()
        .map_or(0.0, |sample| sample.cost_dollars);
    record.launches = record
        .nodes
        .values()
        .filter(|node| node.pool.is_some())
        .count() as u64;
    record.launches_failed = record
        .nodes
        .values()
        .filter(|node| node.registered.is_none())
        .count() as u64;
    record.outages = vec![OutageRecord {
        name: "us-east-1a".to_owned(),
        from: at(900.0),
        until: Some(at(1200.0)),
        nodes: record.asked.total_nodes / 5,
    }];
    record.assertions = vec![
        AssertionResult {
            line: 31,
            what: "no promise is broken".to_owned(),
            wrong: None,
        },
        AssertionResult {
            line: 33,
            what: "capacity of at least 95 %".to_owned(),
            wrong: Some("it is 93.12 %".to_owned()),
        },
    ];
    record.crashes = 2;
    record.notes = vec![(
        at(600.0),
        "the control plane died in a commit and came back after 8s".to_owned(),
    )];
}
