//! Several clouds in one scenario, the work that autoscalers follow, and drains that take their
//! time.

mod scenario;

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_model::{PoolName, Time};
use navarch_sim::record::{NodeRecord, Outcome, Record};
use scenario::run;

/// Plays a scenario. Answers its trace and its record.
#[track_caller]
fn play(text: &str, seed: u64) -> (String, Record) {
    let mut run = run(text, seed);
    while run.advance().is_some() {}
    let trace = run.sim().trace().to_owned();
    let record = run.finish(false);
    assert_eq!(record.outcome, Outcome::Passed, "{trace}");
    (trace, record)
}

/// How many machines stood at each place, by `PROVIDER/REGION/ZONE`.
fn places(record: &Record) -> BTreeMap<String, usize> {
    let mut places = BTreeMap::new();
    for node in record.nodes.values() {
        let at = &node.place;
        let name = format!("{}/{}/{}", at.provider, at.region, at.zone);
        *places.entry(name).or_default() += 1;
    }
    places
}

const TWO: &str = "name: two
guards: {budget: 3, small_fleet_wait: 30s, minimum_life: 1m, sweep: {interval: 1m}}
providers:
  east: {type: fake, gpu_count: 8}
  west: {type: fake, gpu_count: 4}
";

#[test]
fn each_cloud_lists_its_own_machines() {
    let text = format!(
        "{TWO}
pools:
  one: {{provider: east, instance_type: gpu, region: e, min_nodes: 4, max_nodes: 5}}
  two: {{provider: west, instance_type: gpu, region: w, min_nodes: 3, max_nodes: 5}}
events:
  - {{at: 10m, action: inject_failure, target: pool/two/0, params: {{failure_type: machine_vanish}}}}
  - {{at: 20m, action: crash}}
stress: {{duration: 1h}}
assertions:
  - {{type: node_count, status: active, expected: 7}}
  - {{type: launches, expected: 8}}
  - {{type: invariants}}
"
    );
    let (trace, record) = play(&text, 1);
    // A machine in the listing of another provider would be one that nobody claims.
    assert!(!trace.contains("unclaimed"), "{trace}");
    let gpus = |node: &NodeRecord| (node.place.provider.clone(), node.gpu_count);
    let gpus: BTreeMap<String, u32> = record.nodes.values().map(gpus).collect();
    assert_eq!(
        gpus,
        [("east".to_owned(), 8), ("west".to_owned(), 4)].into()
    );
    let types = record
        .nodes
        .values()
        .map(|node| node.instance_type.as_str());
    assert!(types.into_iter().all(|one| one == "gpu"));
}

/// A pool over both clouds, the east first.
fn over_both(rest: &str) -> String {
    format!(
        "{TWO}
pools:
  main:
    instance_type: gpu
    strategy: priority
    providers:
      - {{name: east, priority: 1, regions: [e], zones: [a, b]}}
      - {{name: west, priority: 2, regions: [w]}}
    min_nodes: 6
    max_nodes: 8
{rest}
assertions:
  - {{type: node_count, status: active, expected: 6}}
  - {{type: invariants}}
"
    )
}

#[test]
fn capacity_is_shared_by_all_that_a_name_holds() {
    let text = over_both("cloud: {capacity: {east/e: 4, east/e/a: 3}}\nstress: {duration: 30m}");
    let (_, record) = play(&text, 1);
    let found = places(&record);
    let east: usize = found
        .iter()
        .filter(|(place, _)| place.starts_with("east"))
        .map(|(_, many)| many)
        .sum();
    assert_eq!((east, found["west/w/"]), (4, 2), "{found:?}");
    assert!(found["east/e/a"] <= 3, "{found:?}");
}

#[test]
fn a_fault_is_where_its_target_says() {
    let fault = |target: &str, word: &str| {
        let text = over_both(&format!(
            "events: [{{at: 0s, action: cloud_fault{target}, params: {{fault: {word}, duration: 1h}}}}]
stress: {{duration: 50m}}"
        ));
        // Without machines from the start: the fault comes first.
        text.replace("min_nodes: 6", "min_nodes: 0").replace(
            "events: [",
            "events: [{at: 1s, action: scale_pool, target: main, params: {nodes: 6}}, ",
        )
    };
    let at = |text: &str| {
        let (_, record) = play(text, 1);
        let found = places(&record);
        let east = found.keys().filter(|place| place.starts_with("east"));
        (
            east.cloned().collect::<Vec<_>>(),
            found.get("west/w/").copied(),
        )
    };
    assert_eq!(at(&fault(", target: east", "capacity")), (vec![], Some(6)));
    // What the other zone does not take at once, the other provider takes.
    let (east, _) = at(&fault(", target: east/e/a", "capacity"));
    assert_eq!(east, ["east/e/b"]);
    let (east, west) = at(&fault(", target: west", "capacity"));
    assert!(!east.is_empty() && west.is_none(), "{east:?}, {west:?}");
}

#[test]
fn a_cloud_that_is_down_keeps_no_other_from_its_work() {
    let text = format!(
        "{TWO}
pools:
  one: {{provider: east, instance_type: gpu, region: e, min_nodes: 2, max_nodes: 3}}
  two: {{provider: west, instance_type: gpu, region: w, min_nodes: 2, max_nodes: 3}}
events:
  - {{at: 5m, action: cloud_fault, target: east, params: {{fault: outage, duration: 2h}}}}
  - {{at: 6m, action: scale_pool, target: one, params: {{nodes: 3}}}}
  - {{at: 6m, action: scale_pool, target: two, params: {{nodes: 3}}}}
  - {{at: 20m, action: scale_pool, target: one, params: {{nodes: 2}}}}
  - {{at: 20m, action: scale_pool, target: two, params: {{nodes: 2}}}}
stress: {{duration: 1h}}
assertions:
  - {{type: invariants}}
"
    );
    let (trace, record) = play(&text, 1);
    let ended = |provider: &str| {
        let nodes = record.nodes.values();
        let own = nodes.filter(|node| node.place.provider == provider);
        own.filter(|node| node.ended.is_some()).count()
    };
    assert_eq!((ended("east"), ended("west")), (0, 1), "{trace}");
}

#[test]
fn clouds_boot_their_machines_and_answer_at_their_own_pace() {
    let text = format!(
        "{TWO}
pools:
  one: {{provider: east, instance_type: gpu, region: e, min_nodes: 5, max_nodes: 5}}
  two: {{provider: west, instance_type: gpu, region: w, min_nodes: 5, max_nodes: 5}}
cloud:
  boot: {{min: 10s, max: 20s}}
  providers:
    west: {{boot: {{min: 3m, max: 4m}}, latency: {{min: 8s, max: 9s}}}}
stress: {{duration: 10m}}
"
    );
    let (trace, record) = play(&text, 1);
    for node in record.nodes.values() {
        let boots = node.registered.expect("it booted").since(node.powered);
        let limits = match node.place.provider.as_str() {
            "east" => 10..=21,
            _ => 180..=241,
        };
        assert!(limits.contains(&boots.as_secs()), "{boots:?}");
    }
    // The first machine of a cloud is made once the first call has reached it.
    let first = |provider: &str| {
        let nodes = record.nodes.values();
        let own = nodes.filter(|node| node.place.provider == provider);
        own.map(|node| node.powered).min().expect("a machine")
    };
    let ways = [first("east"), first("west")].map(|at| at.since(Time(0)));
    assert!(ways[0] < Duration::from_secs(2), "{ways:?}\n{trace}");
    assert!(ways[1] >= Duration::from_secs(8), "{ways:?}");
}

const SERVER: &str = "name: loaded
server: {heartbeat_interval: 10s, health_check_interval: 30s, autoscale_interval: 30s}
";

/// The size that was aimed at in a pool, minute by minute.
fn targets(record: &Record, pool: &str) -> Vec<u32> {
    let pool = PoolName::new(pool);
    let samples = record.samples.iter();
    let samples = samples.filter(|sample| sample.at >= record.started);
    samples
        .filter_map(|sample| Some(sample.pools.get(&pool)?.target))
        .collect()
}

#[test]
fn pools_follow_the_work_that_they_have_and_not_that_of_others() {
    let text = format!(
        "{SERVER}
pools:
  busy:
    provider: fake
    instance_type: gpu
    min_nodes: 1
    max_nodes: 8
    cooldown: 1m
    autoscaling: {{type: reactive, scale_up_at: 80, scale_down_at: 40, stabilization: 1m}}
  idle:
    provider: fake
    instance_type: gpu
    min_nodes: 1
    max_nodes: 8
    cooldown: 1m
    autoscaling: {{type: reactive}}
  queue:
    provider: fake
    instance_type: gpu
    max_nodes: 8
    cooldown: 1m
    autoscaling:
      type: queue
      jobs_per_node: 5
      stabilization: 1m
      source: {{http: {{url: 'http://queue'}}}}
load:
  busy: {{work: {{level: 0.5, steps: [{{at: 10m, level: 4}}, {{at: 60m, level: 0.5}}]}}}}
  queue: {{jobs: {{steps: [{{at: 20m, level: 21}}, {{at: 50m, level: 0}}]}}}}
stress: {{duration: 2h, metrics_interval: 1m}}
assertions:
  - {{type: invariants}}
"
    );
    let (_, record) = play(&text, 1);
    let busy = targets(&record, "busy");
    assert_eq!(busy[..10], [1; 10]);
    let most = busy.iter().max().copied().unwrap_or_default();
    // Five machines do the work of four at 80 %.
    assert!((5..=6).contains(&most), "{busy:?}");
    assert_eq!(busy.last(), Some(&1), "{busy:?}");
    assert!(targets(&record, "idle").iter().all(|size| *size == 1));
    let queue = targets(&record, "queue");
    // 21 jobs for five each are five machines.
    assert_eq!((queue[10], queue[40]), (0, 5), "{queue:?}");
    assert_eq!(queue.last(), Some(&0), "{queue:?}");
}

#[test]
fn a_daily_wave_is_followed_up_and_down() {
    let text = format!(
        "{SERVER}
pools:
  main:
    provider: fake
    instance_type: gpu
    min_nodes: 2
    max_nodes: 20
    cooldown: 2m
    autoscaling: {{type: reactive, scale_up_at: 80, scale_down_at: 50, stabilization: 5m}}
load:
  main: {{work: {{level: 1, daily: {{high: 8, peak_at: 6h}}, noise: 5%}}}}
stress: {{duration: 24h, metrics_interval: 30m}}
assertions:
  - {{type: invariants}}
"
    );
    let (_, record) = play(&text, 1);
    let sizes = targets(&record, "main");
    // Peak in the sixth hour, trough in the eighteenth.
    assert!(sizes[12] >= 11 && sizes[12] <= 14, "{sizes:?}");
    assert!(sizes[36] <= 4, "{sizes:?}");
    let (again, _) = play(&text, 1);
    let (other, _) = play(&text, 2);
    assert!(again != other);
}

#[test]
fn a_scheduler_ends_what_runs_before_a_drained_machine_goes() {
    let text = "name: drains
server:
  notifier:
    type: webhook
    webhook:
      cordon_url: http://scheduler/cordon
      uncordon_url: http://scheduler/uncordon
      drain_url: http://scheduler/drain
      drain_status_url: http://scheduler/status
scheduler: {drain: {min: 7m, max: 7m}}
pools:
  main: {provider: fake, instance_type: gpu, min_nodes: 3, max_nodes: 4}
events:
  - {at: 5m, action: inject_failure, target: pool/main/0, params: {failure_type: gpu_lost}}
stress: {duration: 40m}
assertions:
  - {type: node_count, status: active, expected: 3}
  - {type: invariants}
";
    let (trace, record) = play(text, 1);
    let at = |what: &str| -> Time {
        let line = trace.lines().find(|line| line.contains(what));
        let line = line.unwrap_or_else(|| panic!("no {what}:\n{trace}"));
        let numbers: Vec<i64> = line[1..13]
            .split([':', '.'])
            .map(|number| number.parse().expect("a number"))
            .collect();
        Time(((numbers[0] * 60 + numbers[1]) * 60 + numbers[2]) * 1_000_000 + numbers[3] * 1000)
    };
    let took = at("drain.finished").since(at("drain.started"));
    let minutes = took.as_secs_f64() / 60.0;
    assert!((7.0..8.5).contains(&minutes), "{minutes}\n{trace}");
    assert_eq!(record.launches, 4);
}
