//! The control plane is killed at random moments under load; nothing acknowledged is lost, no
//! machine leaks and none is bought twice.

use std::collections::BTreeSet;
use std::time::Duration;

use navarch_api::{Client, v1, wire};
use navarch_time::{OsRng, Rng, SeededRng};
use serde_json::{Value, json};

use crate::journal::{Journal, Order};
use crate::stage::{CloudApi, Knobs, Stage, command};
use crate::support::{Watch, until};

/// How often it is killed, unless `NAVARCH_CHAOS_KILLS` says otherwise.
const KILLS: u64 = 55;

/// A number that the environment sets.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn kills_at_random_moments_lose_and_leak_nothing() {
    let seed = number("NAVARCH_CHAOS_SEED").unwrap_or_else(|| OsRng.next_u64());
    let kills = number("NAVARCH_CHAOS_KILLS").unwrap_or(KILLS);
    eprintln!("again with NAVARCH_CHAOS_SEED={seed} NAVARCH_CHAOS_KILLS={kills}");
    let watch = Watch::start();
    let mut stage = Stage::new(&Knobs {
        pools: vec![("alpha", 3), ("beta", 3)],
        registration_timeout: "8s",
        ..Knobs::default()
    });
    let mut journal = Journal::default();
    let mut early = 0;
    let mut draw = SeededRng::named(seed, "kills");
    for kill in 1..=kills {
        let life = match draw.below(5) {
            0 => draw.below(40),
            _ => 100 + draw.below(700),
        };
        let life = Duration::from_millis(life);
        let load = Load {
            client: stage.client(),
            cloud: stage.cloud(),
            draw: draw.child(&format!("load {kill}")),
            journal: &mut journal,
        };
        let wrong = stage.ask(async {
            tokio::select! {
                biased;
                () = crate::rest::rest(life) => Vec::new(),
                wrong = load.run() => wrong,
            }
        });
        assert!(wrong.is_empty(), "kill {kill}: {wrong:?}");
        stage.kill();
        if draw.chance(0.2) {
            stage.start_and_kill(Duration::from_millis(draw.below(150)));
            early += 1;
        }
        let made = stage.cloud_file();
        stage.start();
        let instances = stage.instances().expect("instances");
        let mut bought = BTreeSet::new();
        for machine in made.iter().filter(|machine| machine.live) {
            let about = std::slice::from_ref(&machine.instance);
            assert!(
                instances
                    .iter()
                    .any(|known| known.instance_id == machine.instance),
                "kill {kill}: {machine:?} is on no record"
            );
            assert!(
                bought.insert(&machine.instance),
                "kill {kill}: {machine:?} is bought twice\n{}",
                stage.story(about)
            );
        }
        let client = stage.client();
        let info = stage.ask(client.get_server_info(v1::GetServerInfoRequest::default()));
        let sequence = info.expect("an answer").sequence;
        assert!(
            sequence >= journal.sequence,
            "kill {kill}: event {} was shown and the record ends at {sequence}",
            journal.sequence
        );
    }
    let killed = watch.took();
    stage.end_faults();
    check_acknowledged(&stage, &journal);
    release(&stage, &mut journal);
    stage.settle();
    check_acknowledged(&stage, &journal);
    let wrong = journal.check_record(&stage.events(""));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let active = stage.active();
    let sick: Vec<_> = journal
        .fatal
        .iter()
        .filter(|id| active.contains(id))
        .collect();
    assert!(sick.is_empty(), "ACTIVE with a fatal fault: {sick:?}");
    let violations = stage.events("invariant.violated");
    assert!(violations.is_empty(), "{violations:?}");
    let launched = stage.cloud_file().len();
    eprintln!(
        "{kills} kills and {early} during a start in {killed:.1?}, all in {:.1?}: {launched} \
         machines, {} with a fatal fault, {} commands acknowledged and {} not, {} events",
        watch.took(),
        journal.fatal.len(),
        journal.acknowledged,
        journal.unanswered,
        journal.sequence
    );
    assert!(
        journal.acknowledged > 0 && launched > 6,
        "the load did nothing"
    );
}

#[track_caller]
fn check_acknowledged(stage: &Stage, journal: &Journal) {
    let nodes = stage.nodes().expect("nodes");
    let instances = stage.instances().expect("instances");
    let wrong = journal.check_commands(&nodes, &instances);
    let about: Vec<String> = wrong.iter().map(|(id, _)| id.clone()).collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{}", stage.story(&about));
}

/// Lifts every hold of operators, whose nodes would never be ACTIVE.
fn release(stage: &Stage, journal: &mut Journal) {
    let client = stage.client();
    for node in journal.held() {
        until("a hold is lifted", || {
            journal.ordered(&node, Order::Uncordon);
            match stage.ask(command(&client, &node, Order::Uncordon)) {
                Ok(answer) => {
                    let holds = answer.remaining_holds.as_slice();
                    journal.answered(&node, Order::Uncordon, Ok(holds));
                    Ok(())
                }
                Err(error) => {
                    journal.answered(&node, Order::Uncordon, Err(&error));
                    match error.cause {
                        navarch_api::Cause::Answer => Ok(()),
                        _ => Err(error.to_string()),
                    }
                }
            }
        });
    }
}

/// What happens between two kills.
struct Load<'a> {
    client: Client,
    cloud: CloudApi,
    draw: SeededRng,
    journal: &'a mut Journal,
}

impl Load<'_> {
    /// Goes on until something contradicts what was shown before.
    async fn run(mut self) -> Vec<String> {
        self.order_fault().await;
        loop {
            let wrong = self.step().await;
            if !wrong.is_empty() {
                return wrong;
            }
            let rest = self.draw.below(25);
            crate::rest::rest(Duration::from_millis(rest)).await;
        }
    }

    async fn step(&mut self) -> Vec<String> {
        let list = self.client.list_nodes(wire::ListNodesRequest::default());
        // A control plane that has just started may be busy; the next step asks again.
        let Ok(list) = list.await else {
            return Vec::new();
        };
        let live: Vec<_> = list
            .nodes
            .into_iter()
            .filter(|node| !node.terminated_at.is_set())
            .map(|node| node.node_id)
            .collect();
        let node = self.draw.index(live.len()).map(|at| live[at].clone());
        let lot = self.draw.below(100);
        match (node, lot) {
            (Some(node), 0..15) => self.command(&node, Order::Cordon).await,
            (Some(node), 15..25) => self.command(&node, Order::Drain).await,
            (Some(node), 25..60) => self.command(&node, Order::Uncordon).await,
            (Some(node), 60..65) => self.command(&node, Order::Terminate).await,
            (Some(node), 65..75) => {
                let fault = json!({"kind": "xid", "gpu": 0, "code": 79});
                // An agent that is just starting takes none.
                if self.cloud.inject(&node, &fault).await.is_ok() {
                    self.journal.fatal.insert(node);
                }
            }
            (Some(node), 75..77) => {
                self.journal.lost(&node);
                drop(self.cloud.vanish(&node).await);
            }
            (_, 77..80) => self.order_fault().await,
            _ => return self.read_events().await,
        }
        Vec::new()
    }

    async fn command(&mut self, node: &str, order: Order) {
        self.journal.ordered(node, order);
        let answer = command(&self.client, node, order).await;
        let answer = answer.as_ref().map(|said| said.remaining_holds.as_slice());
        self.journal.answered(node, order, answer);
    }

    async fn read_events(&mut self) -> Vec<String> {
        let request = v1::ListEventsRequest {
            // Those before may have been repeated.
            after_sequence: self.journal.sequence.saturating_sub(20),
            limit: 500,
            ..Default::default()
        };
        match self.client.list_events(request).await {
            Ok(page) => self.journal.shown(&page.events),
            Err(_) => Vec::new(),
        }
    }

    async fn order_fault(&mut self) {
        let count = 1 + self.draw.below(2);
        let milliseconds = 20 + self.draw.below(300);
        let error = |kind: &str| json!({"fault": "error", "error": kind, "count": count});
        let refused = |kind: &str| json!({"fault": "error", "error": kind, "operation": "launch", "count": count});
        let slow = |when: &str| json!({"fault": "latency", "milliseconds": milliseconds, "when": when, "count": count});
        let lost = |operation: &str| json!({"fault": "lost_answer", "operation": operation, "count": count});
        let faults: [Value; 16] = [
            lost("launch"),
            lost("launch"),
            lost("launch"),
            lost("terminate"),
            lost("terminate"),
            lost("status"),
            lost("list"),
            refused("capacity"),
            refused("outcome_unknown"),
            error("rate_limit"),
            error("transient"),
            slow("before"),
            slow("after"),
            json!({"fault": "never_boots", "count": 1}),
            match self.draw.below(3) {
                0 => json!({"fault": "empty_listing", "count": count}),
                1 => json!({"fault": "stale_listing", "seconds": 1 + count, "count": count}),
                _ => json!({"fault": "stale_listing", "seconds": 3600, "count": count}),
            },
            match self.draw.below(2) {
                0 => json!({"fault": "partial_listing", "how": "error", "count": count}),
                _ => json!({"fault": "partial_listing", "how": "missing", "count": count}),
            },
        ];
        if let Some(at) = self.draw.index(faults.len()) {
            let answer = self.cloud.call("POST", "/v1/faults", &faults[at]).await;
            answer.expect("the fault is ordered");
        }
    }
}
