//! What records say of themselves: times, ids, offerings, holds, incidents, nodes and breakers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{
    changes_of, evidence, forgetting_of, incident, instance, node, small_fleet, stamp,
};
use navarch_model::{
    Breaker, CapacityKind, Change, CommandId, Description, DrainCause, Ending, Gpu, HealthStatus,
    Hold, HoldKind, IdSource, IncidentId, Notice, NoticeKind, Offering, PoolName, ProviderName,
    Stamp, State, Time, Told, ids,
};

#[test]
fn times_stop_at_the_ends_of_their_axis() {
    let minute = Duration::from_secs(60);
    assert_eq!(Time(0) + minute, Time(60_000_000));
    assert_eq!(Time(0) - minute, Time(-60_000_000));
    assert_eq!(Time::NEVER + minute, Time::NEVER);
    assert_eq!(Time(5) + Duration::MAX, Time::NEVER);
    assert_eq!(Time(-5) - Duration::MAX, Time(i64::MIN));
    assert_eq!(Time(7).since(Time(3)), Duration::from_micros(4));
    assert_eq!(Time(3).since(Time(7)), Duration::ZERO);
    assert_eq!(
        Time(i64::MAX).since(Time(i64::MIN)),
        Duration::from_micros(i64::MAX as u64)
    );
    let moment = Stamp {
        core: Time(1),
        wall: Time(1_000),
    };
    assert_eq!(
        moment.after(Duration::from_micros(9)),
        Stamp {
            core: Time(10),
            wall: Time(1_009),
        }
    );
}

/// The same bits, for ever.
struct Bits(u64);

impl IdSource for Bits {
    fn next_bits(&mut self) -> u64 {
        self.0
    }
}

#[test]
fn ids_are_made_of_the_bits_they_are_given() {
    for (bits, id, uuid) in [
        (0, "nv-000000000000", "00000000-0000-4000-8000-000000000000"),
        (
            u64::MAX,
            "nv-zzzzzzzzzzzz",
            "ffffffff-ffff-4fff-bfff-ffffffffffff",
        ),
        (
            0x0123_4567_89ab_cdef,
            "nv-ffkqt4yc5t82",
            "01234567-89ab-4def-8123-456789abcdef",
        ),
    ] {
        assert_eq!(ids::fresh("nv", &mut Bits(bits)), id);
        assert_eq!(ids::fresh_uuid(&mut Bits(bits)), uuid);
    }
    let id = CommandId::new("c-1");
    assert_eq!(format!("{id:>6}|{id:<6}|{id}"), "   c-1|c-1   |c-1");
    assert_eq!(format!("{id:?}"), "\"c-1\"");
    assert!(BTreeSet::from([id]).contains("c-1"), "found by its text");
}

#[test]
fn offerings_leave_out_what_they_lack() {
    for (region, zone, text) in [
        ("r1", "a", "cloud/r1/a/h100"),
        ("r1", "", "cloud/r1/h100"),
        ("", "", "cloud/h100"),
    ] {
        let offering = Offering {
            provider: ProviderName::new("cloud"),
            region: region.to_owned(),
            zone: zone.to_owned(),
            instance_type: "h100".to_owned(),
            capacity: CapacityKind::OnDemand,
        };
        assert_eq!(offering.to_string(), text);
    }
}

fn named(name: &str, owner: &str, drains: bool) -> HoldKind {
    HoldKind::Named {
        name: name.to_owned(),
        owner: owner.to_owned(),
        drains,
    }
}

#[test]
fn holds_say_who_they_are_and_what_they_ask_for() {
    let id = IncidentId::new("inc-1");
    // kind, name, drains, set beside the control plane, owner
    for (kind, name, drains, beside, owner) in [
        (
            HoldKind::OperatorCordon,
            "operator:cordon",
            false,
            true,
            "operator",
        ),
        (
            HoldKind::OperatorDrain,
            "operator:drain",
            true,
            true,
            "operator",
        ),
        (
            HoldKind::Incident(id.clone()),
            "incident:inc-1",
            false,
            false,
            "navarch",
        ),
        (
            HoldKind::AdmissionGate,
            "gate:admission",
            false,
            false,
            "navarch",
        ),
        (
            HoldKind::Drain(DrainCause::Incident(id)),
            "drain:inc-1",
            true,
            false,
            "navarch",
        ),
        (
            HoldKind::Drain(DrainCause::Shrink),
            "drain:shrink",
            true,
            false,
            "navarch",
        ),
        (
            HoldKind::Drain(DrainCause::Interruption),
            "drain:interruption",
            true,
            false,
            "navarch",
        ),
        (
            HoldKind::Drain(DrainCause::Terminating),
            "drain:terminating",
            true,
            false,
            "navarch",
        ),
        (
            named("disk", "storage", false),
            "hold:storage/disk",
            false,
            true,
            "storage",
        ),
        (
            named("job", "slurm", true),
            "hold:slurm/job",
            true,
            true,
            "slurm",
        ),
    ] {
        assert_eq!(kind.name(), name);
        assert_eq!(kind.drains(), drains, "{name}");
        assert_eq!(kind.is_operators(), beside, "{name}");
        assert_eq!(kind.owner(), owner, "{name}");
    }
}

#[test]
fn nodes_name_their_holders() {
    let hold = Hold {
        reason: "a reason".to_owned(),
        since: stamp(1),
        expires: None,
        drained: None,
    };
    let job = || named("job", "slurm", true);
    let disk = || named("disk", "storage", false);
    // holds, somebody beside us holds it, by whom, status
    for (holds, held, holders, status) in [
        (vec![HoldKind::AdmissionGate], false, None, "cordoned"),
        (
            vec![HoldKind::OperatorDrain],
            true,
            Some("an operator holds the node"),
            "draining",
        ),
        (
            vec![job()],
            true,
            Some("the hold job of slurm stands on the node"),
            "draining",
        ),
        (
            vec![disk(), job()],
            true,
            Some("the hold disk of storage, job of slurm stands on the node"),
            "draining",
        ),
        (
            vec![HoldKind::OperatorCordon, job()],
            true,
            Some("an operator and the hold job of slurm hold the node"),
            "draining",
        ),
    ] {
        let mut held_node = node("n1");
        held_node.holds = holds
            .iter()
            .map(|kind| (kind.clone(), hold.clone()))
            .collect();
        assert_eq!(held_node.is_held_by_operator(), held, "{holds:?}");
        if let Some(holders) = holders {
            assert_eq!(held_node.holders(), holders);
        }
        assert_eq!(
            held_node.hold_names(),
            holds.iter().map(HoldKind::name).collect::<Vec<_>>()
        );
        assert_eq!(
            held_node.named_hold("job").map(|(kind, _)| kind),
            holds.contains(&job()).then(job).as_ref()
        );
        assert_eq!(held_node.our_drain(), None);
        assert_eq!(held_node.status().short(), status, "{holds:?}");
    }
    let mut drained = node("n1");
    drained
        .holds
        .insert(HoldKind::Drain(DrainCause::Shrink), hold.clone());
    assert_eq!(drained.our_drain(), Some((&DrainCause::Shrink, &hold)));
}

#[test]
fn a_node_is_as_sick_as_the_worst_that_stands_on_it() {
    use HealthStatus::{Degraded, Healthy, Unhealthy};
    // last report, open incidents, health, status
    for (reported, open, health, status) in [
        (Healthy, &[][..], Healthy, "active"),
        (Healthy, &[Degraded], Degraded, "active"),
        (Degraded, &[], Degraded, "active"),
        (Unhealthy, &[Degraded], Unhealthy, "active"),
        (Healthy, &[Degraded, Unhealthy], Unhealthy, "unhealthy"),
    ] {
        let mut sick = node("n1");
        sick.reported = reported;
        sick.open_incidents = open
            .iter()
            .enumerate()
            .map(|(at, severity)| (IncidentId::new(format!("inc-{at}")), *severity))
            .collect();
        assert_eq!(sick.health(), health, "{reported:?} {open:?}");
        assert_eq!(sick.status().short(), status, "{reported:?} {open:?}");
    }
}

#[test]
fn gpus_without_a_uuid_identify_nobody() {
    let mut with_gpus = node("n1");
    with_gpus.description = Arc::new(Description {
        gpus: ["GPU-b", "", "GPU-a"]
            .map(|uuid| Gpu {
                uuid: uuid.to_owned(),
                ..Gpu::default()
            })
            .to_vec(),
        ..Description::default()
    });
    assert_eq!(with_gpus.gpu_uuids(), BTreeSet::from(["GPU-a", "GPU-b"]));
}

#[test]
fn incidents_keep_their_first_and_latest_evidence_and_count_all() {
    let mut fault = incident("inc-1", "n1");
    for second in 0..20 {
        fault.add_evidence(evidence(stamp(second)), 3);
        assert_eq!(fault.last_evidence, stamp(second));
    }
    assert_eq!(fault.evidence_count, 60);
    let kept: Vec<_> = fault.evidence.iter().map(|one| one.at).collect();
    assert_eq!(
        kept,
        [0, 13, 14, 15, 16, 17, 18, 19].map(stamp),
        "the first and the latest seven"
    );
}

#[test]
fn incidents_hit_their_breaker_when_they_turn_unhealthy_or_change_their_rule() {
    let severe = |severity, rule: &str| {
        let mut fault = incident("inc-1", "n1");
        fault.severity = severity;
        fault.check.rule = rule.to_owned();
        fault
    };
    let bad = HealthStatus::Unhealthy;
    let worn = HealthStatus::Degraded;
    // before, after, a hit
    for (before, after, hit) in [
        (None, severe(bad, "r"), true),
        (None, severe(worn, "r"), false),
        (Some(severe(worn, "r")), severe(bad, "r"), true),
        (Some(severe(bad, "r")), severe(bad, "r"), false),
        (Some(severe(bad, "r")), severe(bad, "s"), true),
        (Some(severe(bad, "r")), severe(worn, "s"), false),
    ] {
        let mut noted = after.clone();
        noted.note_hit(before.as_ref(), stamp(9));
        assert_eq!(noted.hit, hit.then(|| stamp(9)), "{before:?} to {after:?}");
    }
    let mut fault = severe(bad, "r");
    assert_eq!(fault.signature(), "r");
    assert_eq!(
        fault.hit_at(),
        Some(fault.opened),
        "without a note, its opening"
    );
    fault.hit = Some(stamp(9));
    assert_eq!(fault.hit_at(), Some(stamp(9)));
    fault.severity = worn;
    assert_eq!(fault.hit_at(), None);
}

#[test]
fn only_open_incidents_of_severity_unhealthy_make_a_node_unhealthy() {
    for (severity, closed, open, unhealthy) in [
        (HealthStatus::Unhealthy, false, true, true),
        (HealthStatus::Unhealthy, true, false, false),
        (HealthStatus::Degraded, false, true, false),
        (HealthStatus::Degraded, true, false, false),
    ] {
        let mut fault = incident("inc-1", "n1");
        fault.severity = severity;
        fault.closed = closed.then(|| (stamp(2), Ending::Recovered));
        assert_eq!(fault.is_open(), open);
        assert_eq!(fault.makes_unhealthy(), unhealthy, "{severity:?} {closed}");
    }
}

#[test]
fn a_breaker_that_was_reset_is_closed_and_remembers_when() {
    let closed = Breaker::closed(stamp(5));
    assert_eq!((closed.is_open(), closed.reset), (false, Some(stamp(5))));
    let open = Breaker {
        opened: Some(stamp(1)),
        ..Breaker::default()
    };
    assert!(open.is_open());
    assert_eq!(
        Breaker {
            reset: None,
            ..closed
        },
        Breaker::default(),
        "nothing else is remembered"
    );
}

#[test]
fn changes_put_records_in_and_forgetting_takes_them_out() {
    let full = small_fleet();
    let mut state = State::new(full.meta.fleet.clone());
    assert_eq!(state, State::new(full.meta.fleet.clone()));
    for change in changes_of(&full) {
        state.apply(&change);
    }
    assert_eq!(state, full);

    let mut other = instance("nv-1", "other");
    other.message = "later".to_owned();
    state.apply(&Change::Instance(Arc::new(other)));
    assert_eq!(state.instances["nv-1"].message, "later");
    assert_eq!(state.instances.len(), full.instances.len());

    for change in forgetting_of(&full) {
        state.apply(&change);
    }
    let empty = State {
        meta: Arc::clone(&full.meta),
        ..State::new(full.meta.fleet.clone())
    };
    assert_eq!(state, empty, "the fleet itself is never forgotten");
    assert!(full.pools.contains_key(&PoolName::new("pool")));
}

#[test]
fn a_copy_that_is_put_back_doubts_what_the_scheduler_was_told_to_stop_and_tells_the_rest_anew() {
    let notice = |attempts, unsure| Notice {
        sequence: 7,
        kind: NoticeKind::Drain,
        reason: "fan".to_owned(),
        created: stamp(3),
        asked: None,
        attempts,
        unsure,
        retry_at: (attempts > 0).then_some(Time(9)),
        error: "in use".to_owned(),
    };
    for (last, doubt, doubted) in [
        (NoticeKind::Uncordon, false, false),
        (NoticeKind::Uncordon, true, true),
        (NoticeKind::Cordon, false, true),
        (NoticeKind::Drain, false, true),
    ] {
        let mut told = Told {
            last,
            receiver: 5,
            doubt,
            sequence: 8,
            waiting: vec![notice(2, true), notice(1, false), notice(0, false)],
            ..Told::default()
        };
        told.restored();
        // None of them was sent, and each may have been heard.
        let anew = notice(0, true);
        let expected = Told {
            last,
            receiver: 5,
            doubt: doubted,
            sequence: 8,
            waiting: vec![anew.clone(), anew.clone(), anew],
            ..Told::default()
        };
        assert_eq!(told, expected, "{last:?} {doubt}");
    }
}
