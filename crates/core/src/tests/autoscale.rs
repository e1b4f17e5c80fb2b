//! Pools that follow their signals: what moves a size, what holds it, and what is said of it.

use navarch_config::Source;
use navarch_model::{AskedBy, Automation, EventKind, InstanceId, NodeId, Phase, PoolName};

use super::{Rig, yaml};
use crate::input::{Action, Input, NamedHold, RejectionCode, Signals};

fn main() -> PoolName {
    PoolName::new("main")
}

/// A pool that follows a queue.
const QUEUE: &str = "    autoscaling:
      type: queue
      jobs_per_node: 10
      source: {http: {url: 'http://queue/depth'}}
";

/// A pool that follows the utilisation of its GPUs.
const REACTIVE: &str = "    autoscaling: {type: reactive}
";

/// Without waits after a change.
const AT_ONCE: &str = "    cooldown: 0s
";

fn pool(min: usize, max: usize, keys: &[&str]) -> Rig {
    Rig::new(&yaml(min, max, &keys.concat()))
}

impl Rig {
    /// The signals of this moment: every GPU of every node as busy as told, every source's answer.
    fn signals(&mut self, percent: Option<f64>, depth: Result<f64, &str>) {
        let nodes = self.fleet.state().nodes.values();
        let nodes = nodes.filter_map(|node| Some((node.id.clone(), vec![percent?; 2])));
        let nodes: Vec<_> = nodes.collect();
        self.hear(nodes, depth);
    }

    fn hear(&mut self, nodes: Vec<(NodeId, Vec<f64>)>, depth: Result<f64, &str>) {
        let pools = self.fleet.settings().pools.values();
        let sources: Vec<Source> = pools
            .filter_map(|pool| pool.config.autoscaling.as_ref())
            .flat_map(|autoscaling| autoscaling.autoscaler.sources())
            .cloned()
            .collect();
        let queues = sources
            .into_iter()
            .map(|source| (source, depth.map_err(str::to_owned)))
            .collect();
        self.take(Input::Signals(Signals { nodes, queues }));
    }

    /// Lets time pass with the same signals every half minute. Machines come up and stay well.
    fn follow(&mut self, seconds: u64, percent: Option<f64>, depth: Result<f64, &str>) {
        for second in 0..seconds {
            if second % 30 == 0 {
                self.signals(percent, depth);
            }
            if second % 20 == 0 {
                for id in self.of(Phase::Running) {
                    self.full(&id, 45);
                }
            }
            self.run(1);
            for id in self.of(Phase::PendingRegistration) {
                self.register(&id);
                self.full(&id, 45);
            }
        }
    }

    fn held(&self) -> Option<String> {
        let report = &self.report.pools[&main()];
        report.advice.as_ref()?.held.clone()
    }
}

#[test]
fn a_queue_takes_a_pool_from_nothing_to_machines_and_back() {
    let mut rig = pool(0, 5, &[QUEUE]);
    rig.run(10);
    assert_eq!(rig.fleet.state().instances.len(), 0);
    rig.follow(30, None, Ok(25.0));
    assert_eq!(rig.of(Phase::Running).len(), 3);
    assert_eq!(
        rig.said(EventKind::PoolResized),
        [
            "the autoscaler asks for 3 machines instead of 0: 25 jobs need 3 machines with 10 jobs each"
        ]
    );
    // Neither the cooldown nor the window of five minutes is over.
    rig.follow(200, None, Ok(0.0));
    assert_eq!(rig.fleet.target(&main()), 3);
    rig.follow(1500, None, Ok(0.0));
    assert_eq!(rig.fleet.target(&main()), 0);
    assert_eq!(rig.machines.len(), 0, "drained and gone");
    let resized = rig
        .events
        .values()
        .filter(|event| event.kind == EventKind::PoolResized);
    let details = &resized
        .max_by_key(|event| event.sequence)
        .expect("it fell")
        .details;
    assert_eq!(details["inputs"], "jobs_per_node=10 queue=0");
    assert_eq!(
        (details["from"].as_str(), details["to"].as_str()),
        ("3", "0")
    );
    rig.follow(60, None, Ok(1.0));
    assert_eq!(rig.fleet.target(&main()), 1, "and back");
}

#[test]
fn a_source_that_fails_holds_the_size_and_is_named() {
    let mut rig = pool(0, 5, &[QUEUE, AT_ONCE]);
    rig.follow(30, None, Ok(25.0));
    for strange in [
        Err("it answers text"),
        Ok(f64::NAN),
        Ok(f64::INFINITY),
        Ok(-4.0),
    ] {
        rig.follow(600, None, strange);
        assert_eq!(rig.fleet.target(&main()), 3, "{strange:?}");
    }
    rig.follow(30, None, Err("connection refused"));
    assert_eq!(
        rig.explain(&[]),
        [
            "resize the pool waits for signals: the queue is unknown: http://queue/depth: connection refused"
        ]
    );
    let advice = rig.report.pools[&main()]
        .advice
        .clone()
        .expect("there is some");
    assert_eq!((advice.autoscaler, advice.nodes), ("queue", None));
    assert_eq!(rig.count(EventKind::PoolResized), 1);
    rig.follow(30, None, Ok(50.0));
    assert_eq!(rig.fleet.target(&main()), 5);
}

#[test]
fn signals_that_stop_hold_the_size() {
    let mut rig = pool(0, 5, &[QUEUE, AT_ONCE]);
    rig.follow(30, None, Ok(25.0));
    rig.run(100);
    let told = rig.explain(&[]);
    assert!(
        told[0].starts_with("resize the pool waits for signals: the last signals came"),
        "{told:?}"
    );
    // What was recommended before the gap is forgotten: the window begins anew.
    rig.follow(30, None, Ok(0.0));
    let held = rig.held().expect("it is held");
    assert!(
        held.starts_with("stabilization: 0 machines are recommended"),
        "{held}"
    );
}

#[test]
fn after_a_start_nothing_moves_before_the_first_signals_and_cooldowns_go_on() {
    let mut rig = pool(1, 5, &[REACTIVE]);
    rig.follow(60, Some(90.0), Ok(0.0));
    assert_eq!(rig.fleet.target(&main()), 2);
    rig.start();
    rig.run(60);
    assert_eq!(rig.report.pools[&main()].advice, None);
    assert_eq!(rig.waits(), []);
    rig.follow(60, Some(90.0), Ok(0.0));
    assert_eq!(rig.fleet.target(&main()), 2, "five minutes have to pass");
    let held = rig.held().expect("it is held");
    assert!(held.starts_with("cooldown: the size rose"), "{held}");
    rig.follow(200, Some(90.0), Ok(0.0));
    assert_eq!(rig.fleet.target(&main()), 3);
}

#[test]
fn only_active_nodes_that_are_heard_count_and_their_order_does_not() {
    let mut rig = pool(4, 6, &[REACTIVE, AT_ONCE]);
    let up = rig.up(4);
    let node = |id: &InstanceId| NodeId::new(id.as_str());
    rig.take(Input::AddHold {
        node: node(&up[0]),
        hold: NamedHold {
            name: "maintenance".to_owned(),
            owner: "someone".to_owned(),
            ..NamedHold::default()
        },
    });
    rig.silent(&up[1]);
    let numbers = [
        vec![99.0; 2],
        vec![99.0; 2],
        vec![70.1, 80.3],
        vec![f64::NAN, 1e9, -5.0, 90.2],
    ];
    let nodes: Vec<_> = up.iter().map(node).zip(numbers).collect();
    let unknown = (NodeId::new("somebody-else"), vec![0.0; 8]);
    let mut seen = Vec::new();
    for turn in 0..4 {
        let mut nodes: Vec<_> = nodes.iter().chain([&unknown]).cloned().collect();
        nodes.rotate_left(turn);
        rig.hear(nodes, Ok(0.0));
        rig.plan();
        let advice = rig.report.pools[&main()]
            .advice
            .clone()
            .expect("there is some");
        seen.push(advice.inputs["utilization"].clone());
    }
    // The mean of 70.1, 80.3 and 90.2.
    assert_eq!(seen, ["80.2"; 4]);
    rig.hear(Vec::new(), Ok(0.0));
    rig.plan();
    assert_eq!(
        rig.held().as_deref(),
        Some("signals: the utilization is unknown: no ACTIVE machine reports any")
    );
}

/// Whatever was measured, in whatever order it is told, the size is the same.
#[test]
fn the_order_in_which_nodes_are_told_decides_nothing() {
    let predictive =
        "    autoscaling: {type: predictive, lookback_window: 5, fallback: {type: reactive}}\n";
    for seed in 1..25_u64 {
        let mut bits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = |below: u64| {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            bits % below
        };
        let keys = [[REACTIVE, AT_ONCE], [predictive, AT_ONCE]][(seed % 2) as usize];
        let mut rigs = [pool(3, 9, &keys), pool(3, 9, &keys)];
        for rig in &mut rigs {
            rig.up(3);
        }
        for _ in 0..12 {
            let base = draw(100);
            let ids: Vec<NodeId> = rigs[0].fleet.state().nodes.keys().cloned().collect();
            let known = rigs[1].fleet.state().nodes.keys().cloned();
            assert_eq!(ids, known.collect::<Vec<_>>(), "seed {seed}");
            let mut nodes: Vec<(NodeId, Vec<f64>)> = Vec::new();
            for id in ids {
                let gpus = (0..2).map(|_| (base + draw(40)) as f64 / 1.3);
                nodes.push((id, gpus.collect()));
            }
            let mut shuffled = nodes.clone();
            for at in (1..shuffled.len()).rev() {
                shuffled.swap(at, draw(at as u64 + 1) as usize);
            }
            for (rig, nodes) in rigs.iter_mut().zip([nodes, shuffled]) {
                rig.hear(nodes, Ok(0.0));
                rig.run(5);
                for id in rig.of(Phase::PendingRegistration) {
                    rig.register(&id);
                }
                for id in rig.of(Phase::Running) {
                    rig.full(&id, 45);
                }
            }
            let [one, other] = &rigs;
            assert_eq!(
                one.fleet.target(&main()),
                other.fleet.target(&main()),
                "seed {seed}"
            );
            assert_eq!(one.report, other.report, "seed {seed}");
        }
    }
}

#[test]
fn a_pool_that_is_not_to_be_moved_only_says_what_it_would_do() {
    for (mode, kind) in [
        (Automation::Observe, EventKind::WouldAct),
        (Automation::Off, EventKind::GuardBlocked),
    ] {
        let mut rig = pool(0, 5, &[QUEUE]);
        rig.take(Input::SetAutomation {
            pool: Some(main()),
            mode,
            reason: String::new(),
        });
        rig.follow(120, None, Ok(25.0));
        assert_eq!(rig.fleet.target(&main()), 0, "{mode:?}");
        assert_eq!(rig.count(EventKind::PoolResized), 0);
        let said = rig.said(kind).join("\n");
        assert!(said.contains("resize to 3 machines"), "{said}");
        let refused = rig.feed(Input::Act(Action::Resize {
            pool: main(),
            nodes: 3,
        }));
        assert_eq!(
            refused.expect_err("it is not on").code,
            RejectionCode::FailedPrecondition
        );
    }
}

#[test]
fn what_is_not_recommended_any_more_is_not_asked_for() {
    let mut rig = pool(0, 5, &[QUEUE, AT_ONCE]);
    rig.signals(None, Ok(25.0));
    rig.signals(None, Ok(15.0));
    for (nodes, taken) in [(3, false), (0, false), (2, true), (2, false)] {
        let answer = rig.feed(Input::Act(Action::Resize {
            pool: main(),
            nodes,
        }));
        assert_eq!(answer.is_ok(), taken, "{nodes}: {answer:?}");
    }
    assert_eq!(rig.fleet.target(&main()), 2);
}

#[test]
fn one_recommendation_is_one_step() {
    let step = "      step: {up: 1}\n";
    let mut rig = pool(0, 5, &[AT_ONCE, QUEUE, step]);
    for asked in 1..=4 {
        rig.signals(None, Ok(50.0));
        for _ in 0..4 {
            rig.plan();
        }
        assert_eq!(rig.fleet.target(&main()), asked);
        rig.pass(30);
    }
}

#[test]
fn an_operator_has_the_word_until_the_cooldowns_are_over() {
    let mut rig = pool(0, 5, &[QUEUE]);
    rig.follow(30, None, Ok(45.0));
    assert_eq!(rig.fleet.target(&main()), 5);
    rig.take(Input::ScalePool {
        pool: main(),
        nodes: 2,
        reason: String::new(),
    });
    rig.follow(270, None, Ok(45.0));
    assert_eq!(rig.fleet.target(&main()), 2);
    rig.follow(90, None, Ok(45.0));
    assert_eq!(rig.fleet.target(&main()), 5);
    let asked = rig.fleet.state().pools[&main()].asked.clone();
    assert_eq!(asked.expect("somebody asked").by, AskedBy::Autoscaler);
}

#[test]
fn what_was_recommended_before_an_operator_chose_a_size_does_not_undo_it() {
    for (depth, chosen) in [(45.0, 2), (5.0, 4)] {
        let mut rig = pool(0, 5, &[QUEUE, AT_ONCE]);
        rig.follow(30, None, Ok(25.0));
        assert_eq!(rig.fleet.target(&main()), 3);
        rig.signals(None, Ok(depth));
        rig.take(Input::ScalePool {
            pool: main(),
            nodes: chosen,
            reason: String::new(),
        });
        rig.run(20);
        assert_eq!(rig.fleet.target(&main()), chosen as usize);
        let asked = rig.fleet.state().pools[&main()].asked.clone();
        assert_eq!(asked.expect("somebody asked").by, AskedBy::Operator);
    }
    // Without a cooldown the next signals count.
    let mut rig = pool(0, 5, &[QUEUE, AT_ONCE]);
    rig.follow(30, None, Ok(25.0));
    rig.take(Input::ScalePool {
        pool: main(),
        nodes: 5,
        reason: String::new(),
    });
    rig.signals(None, Ok(45.0));
    rig.run(1);
    assert_eq!(rig.fleet.target(&main()), 5);
    rig.take(Input::ScalePool {
        pool: main(),
        nodes: 2,
        reason: String::new(),
    });
    rig.signals(None, Ok(45.0));
    rig.run(1);
    assert_eq!(rig.fleet.target(&main()), 5);
}

#[test]
fn a_window_moves_what_an_operator_chose_only_after_the_cooldown() {
    // The clock of the rig begins at midnight.
    let window = |bound: &str| {
        format!(
            "    autoscaling:
      type: scheduled
      timezone: UTC
      schedule: [{{start: '00:00', end: '06:00', {bound}}}]
    cooldown: {{up: 1m, down: 2m}}
"
        )
    };
    for (bound, asked, cooldown, then) in [("min_nodes: 4", 2, 60, 4), ("max_nodes: 1", 3, 120, 1)]
    {
        let mut rig = Rig::new(&yaml(0, 8, &window(bound)));
        rig.follow(10, None, Ok(0.0));
        rig.take(Input::ScalePool {
            pool: main(),
            nodes: asked,
            reason: String::new(),
        });
        rig.follow(cooldown - 1, None, Ok(0.0));
        assert_eq!(rig.fleet.target(&main()), asked as usize, "{bound}");
        let held = rig.held().expect("the window waits");
        assert!(
            held.starts_with("cooldown: an operator chose the size"),
            "{held}"
        );
        rig.follow(2, None, Ok(0.0));
        assert_eq!(rig.fleet.target(&main()), then, "{bound}");
    }
}

#[test]
fn a_pool_whose_autoscaler_is_taken_away_keeps_its_size() {
    let mut rig = pool(0, 5, &[QUEUE, AT_ONCE]);
    rig.follow(30, None, Ok(35.0));
    rig.configure(&yaml(0, 5, ""));
    rig.run(1200);
    assert_eq!(rig.fleet.target(&main()), 4);
    assert_eq!(rig.report.pools[&main()].advice, None);
    // Another one begins without what was heard.
    rig.configure(&yaml(0, 5, REACTIVE));
    rig.plan();
    assert_eq!(rig.report.pools[&main()].advice, None);
}

#[test]
fn an_autoscaler_that_is_configured_live_waits_for_its_first_signals() {
    let mut rig = pool(0, 5, &[]);
    rig.run(1200);
    let mut told = Vec::new();
    for keys in [
        QUEUE,
        &QUEUE.replace("jobs_per_node: 10", "jobs_per_node: 5"),
    ] {
        rig.configure(&yaml(0, 5, keys));
        rig.run(89);
        assert_eq!(rig.waits(), []);
        rig.run(2);
        told.extend(rig.explain(&[]));
        rig.signals(None, Ok(0.0));
        rig.run(1);
        assert_eq!(rig.waits(), []);
    }
    let late = "resize the pool waits for signals: no signals came since the autoscaler was \
                configured: the size holds";
    assert_eq!(told, [late; 2]);
}

/// Three machines that are old enough to be let go.
fn three_old() -> Rig {
    let mut rig = pool(0, 8, &[AT_ONCE, QUEUE, "      stabilization: 0s\n"]);
    rig.follow(800, None, Ok(30.0));
    assert_eq!(rig.of(Phase::Running).len(), 3);
    rig
}

#[test]
fn a_plan_that_resizes_a_pool_takes_nothing_away_by_the_size_before() {
    let mut rig = three_old();
    // Two are enough, and before a machine is chosen three are needed again.
    rig.signals(None, Ok(20.0));
    rig.plan();
    assert_eq!(rig.fleet.target(&main()), 2);
    rig.signals(None, Ok(30.0));
    let actions = rig.plan();
    assert!(
        matches!(actions[..], [Action::Resize { nodes: 3, .. }]),
        "{actions:?}"
    );
    assert_eq!(rig.count(EventKind::DrainStarted), 0);
    // The other way round: what would be bought is not asked for.
    rig.signals(None, Ok(40.0));
    rig.plan();
    rig.signals(None, Ok(30.0));
    let actions = rig.plan();
    assert!(
        matches!(actions[..], [Action::Resize { nodes: 3, .. }]),
        "{actions:?}"
    );
    rig.run(5);
    assert_eq!(rig.fleet.state().instances.len(), 3);
}

#[test]
fn a_machine_that_is_empty_stays_where_it_is_needed_again() {
    let mut rig = three_old();
    rig.signals(None, Ok(20.0));
    for _ in 0..3 {
        rig.plan();
    }
    let going = rig.of(Phase::Running);
    let drained = |rig: &Rig, id: &InstanceId| rig.node(id).our_drain().is_some();
    let going: Vec<_> = going.iter().filter(|id| drained(&rig, id)).collect();
    assert_eq!(going.len(), 1, "one is drained and its scheduler asked");
    // Both facts come before one plan.
    rig.signals(None, Ok(30.0));
    rig.answer();
    rig.plan();
    rig.run(3);
    assert_eq!(rig.instance(going[0]).phase, Phase::Running);
    assert!(!drained(&rig, going[0]));
    assert_eq!(rig.fleet.state().instances.len(), 3);
}

#[test]
fn a_machine_in_its_gate_is_on_its_way() {
    let mut rig = pool(1, 5, &[REACTIVE, AT_ONCE]);
    rig.follow(31, Some(90.0), Ok(0.0));
    assert_eq!(rig.fleet.target(&main()), 2);
    rig.run(3);
    let second = rig.of(Phase::PendingRegistration).remove(0);
    rig.register(&second);
    assert_eq!(rig.of(Phase::Running).len(), 2);
    rig.signals(Some(90.0), Ok(0.0));
    rig.plan();
    let advice = rig.report.pools[&main()].advice.clone().expect("some");
    assert_eq!(advice.inputs["serving"], "1");
    assert_eq!(advice.inputs["coming"], "1");
    assert_eq!(rig.fleet.target(&main()), 2, "{}", advice.reason);
    // One that a person holds comes to nobody's help, and nobody says when a sick one does.
    rig.take(Input::AddHold {
        node: NodeId::new(second.as_str()),
        hold: NamedHold {
            name: "maintenance".to_owned(),
            owner: "someone".to_owned(),
            ..NamedHold::default()
        },
    });
    rig.signals(Some(90.0), Ok(0.0));
    rig.plan();
    let advice = rig.report.pools[&main()].advice.clone().expect("some");
    assert_eq!(advice.inputs["coming"], "0");
}

#[test]
fn a_size_that_was_recommended_before_a_reload_is_within_its_bounds() {
    let mut rig = pool(0, 8, &[QUEUE, AT_ONCE]);
    rig.signals(None, Ok(70.0));
    rig.configure(&yaml(0, 4, &[QUEUE, AT_ONCE].concat()));
    rig.plan();
    let asked = rig.fleet.state().pools[&main()].asked.clone();
    assert_eq!(asked.expect("it is recommended").nodes, 4);
    // At the bound already, nothing is asked for.
    rig.signals(None, Ok(30.0));
    rig.signals(None, Ok(70.0));
    rig.configure(&yaml(
        0,
        4,
        &[QUEUE, AT_ONCE, "    labels: {a: b}\n"].concat(),
    ));
    let resized = rig.count(EventKind::PoolResized);
    rig.plan();
    assert_eq!(rig.count(EventKind::PoolResized), resized);
}
