//! What holds whatever happens: the number of machines, and that the order of nodes decides nothing.

use navarch_model::{Automation, NodeCommandType, Phase, PoolName, ProviderErrorKind};

use super::*;

/// Numbers that look random, the same for each seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn machines_stay_within_the_most_and_the_surge_whatever_happens() {
    let (mut most_seen, mut replaced) = (0, 0);
    for seed in 0..40 {
        let mut dice = Dice::new(seed);
        let most = 1 + dice.below(5);
        let surge = dice.below(3);
        let least = dice.below(most + 1);
        let keys = format!(
            "    max_surge: {surge}\nguards:\n  minimum_life: 0s\n  launch_breaker: {{wait: 5s, max_wait: 20s}}\n"
        );
        let text = yaml(least, most, &keys).replace("budget: 1", "budget: 5");
        let honours = [Idempotency::TokenOrName, Idempotency::None][dice.below(2)];
        let mut rig = Rig::on(&text, honours);
        for step in 0..150 {
            disturb(&mut rig, &mut dice, most);
            rig.pass(1 + dice.below(20) as u64);
            rig.take(Input::Tick);
            rig.plan();
            if dice.below(4) > 0 {
                rig.answer();
            }
            let instances = rig.fleet.state().instances.values();
            let alive = instances.filter(|one| one.phase.may_be_alive()).count();
            assert!(
                alive <= most + surge && rig.machines.len() <= most + surge,
                "seed {seed}, step {step}: {alive} on record and {} in the cloud, of {most} and {surge}",
                rig.machines.len()
            );
            most_seen = most_seen.max(alive.saturating_sub(most));
        }
        replaced += rig.count(EventKind::DrainStarted);
    }
    assert!(most_seen > 0 && replaced > 20, "{most_seen} {replaced}");
}

/// Something happens, or nothing.
fn disturb(rig: &mut Rig, dice: &mut Dice, most: usize) {
    let pool = PoolName::new("main");
    for id in rig.of(Phase::PendingRegistration) {
        if dice.below(3) > 0 {
            rig.register(&id);
        }
    }
    let running = rig.of(Phase::Running);
    for id in &running {
        if dice.below(2) == 0 {
            rig.full(id, 45);
        }
    }
    let one = (!running.is_empty()).then(|| running[dice.below(running.len())].clone());
    match (dice.below(12), one) {
        (0, _) => {
            // Outside the bounds it is refused.
            let _ = rig.feed(Input::ScalePool {
                pool,
                nodes: dice.below(most + 2) as u32,
                reason: String::new(),
            });
        }
        (1, Some(id)) => rig.xid(&id, 79, 0),
        (2, Some(id)) if rig.node(&id).silent_since.is_none() => rig.silent(&id),
        (3, Some(id)) if rig.node(&id).silent_since.is_some() => rig.back(&id),
        (4, Some(id)) => {
            let kinds = [
                NodeCommandType::Cordon,
                NodeCommandType::Uncordon,
                NodeCommandType::Terminate,
            ];
            let _ = rig.feed(Input::Command {
                node: NodeId::new(id.as_str()),
                kind: kinds[dice.below(3)],
                parameters: BTreeMap::new(),
            });
        }
        (5, _) => {
            let kinds = [
                ProviderErrorKind::Capacity,
                ProviderErrorKind::Transient,
                ProviderErrorKind::OutcomeUnknown,
            ];
            let kind = kinds[dice.below(3)];
            rig.refusals.insert("fake/here/gpu".to_owned(), kind);
        }
        (6 | 7, _) => rig.refusals.clear(),
        (8, _) => {
            let modes = [Automation::On, Automation::On, Automation::Observe];
            rig.take(Input::SetAutomation {
                pool: None,
                mode: modes[dice.below(3)],
                reason: String::new(),
            });
        }
        (9, _) if dice.below(3) == 0 => rig.start(),
        _ => {}
    }
}
