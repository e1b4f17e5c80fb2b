//! Tests of the agent's core.

use super::*;
use navarch_model::HealthEventType;

struct Fixed;

impl IdSource for Fixed {
    fn next_bits(&mut self) -> u64 {
        1 << 63
    }
}

fn at(seconds: i64) -> Time {
    Time(seconds * 1_000_000)
}

fn xid(code: u32) -> Fact {
    Fact {
        event_type: HealthEventType::Xid,
        metrics: [("xid_code".to_owned(), code.to_string())].into(),
        ..Fact::default()
    }
}

fn agent() -> Agent {
    Agent::new(
        SessionId::new("s"),
        Spool::new(SpoolLimits::default()),
        Vec::new(),
    )
}

/// An agent that registered and sent its first heartbeat and full report at time 0.
fn settled() -> Agent {
    let mut agent = agent();
    assert_eq!(agent.next(at(0)), Step::Register);
    agent.registered(Outcome::Taken, None, at(0), &mut Fixed);
    agent.push(true, at(0));
    assert_eq!(agent.next(at(0)), Step::Beat);
    agent.beaten(Outcome::Taken, at(0), &mut Fixed);
    assert_eq!(agent.next(at(0)), Step::ReadAll);
    agent.read(vec![Fact::default()], at(0), &mut Fixed);
    assert!(matches!(agent.next(at(0)), Step::Send(report) if report.full));
    agent.sent(Outcome::Taken, at(0), &mut Fixed);
    agent
}

#[test]
fn first_heartbeat_and_full_report_go_at_once_and_then_at_their_intervals() {
    let mut agent = settled();
    assert_eq!(agent.next(at(0)), Step::Wait(at(30)));
    assert_eq!(agent.next(at(30)), Step::Beat);
    // One at a time, however long it takes.
    assert_eq!(agent.next(at(59)), Step::Wait(at(60)));
    assert_eq!(agent.next(at(60)), Step::ReadAll);
}

#[test]
fn a_fact_is_sent_again_until_it_was_taken() {
    let mut agent = settled();
    agent.happened(vec![xid(79)]);
    let Step::Send(first) = agent.next(at(1)) else {
        panic!("nothing sent")
    };
    assert_eq!(
        (first.sequence, first.full, first.facts.len()),
        (2, false, 1)
    );
    agent.sent(Outcome::Failed, at(1), &mut Fixed);
    // Not before its wait, then the same report under the same sequence.
    assert!(matches!(agent.next(at(1)), Step::Wait(_)));
    assert_eq!(agent.next(at(2)), Step::Send(first));
    agent.sent(Outcome::Taken, at(2), &mut Fixed);
    assert!(agent.spool().is_empty());
    assert_eq!(agent.next(at(2)), Step::Wait(at(30)));
}

#[test]
fn what_waits_goes_when_a_heartbeat_finds_the_control_plane_back() {
    let mut agent = settled();
    agent.happened(vec![xid(79)]);
    let mut now = at(1);
    // A long absence: heartbeats are tried again soon, reports after ever longer waits.
    let mut last = 0;
    while now < at(100) {
        match agent.next(now) {
            Step::Beat => agent.beaten(Outcome::Failed, now, &mut Fixed),
            Step::Send(_) => {
                last = now.0;
                agent.sent(Outcome::Failed, now, &mut Fixed);
            }
            Step::ReadAll => agent.read(vec![Fact::default()], now, &mut Fixed),
            Step::Wait(until) => now = until,
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(agent.next(now), Step::Beat);
    let due = agent.send.after.expect("a wait");
    assert!(due > now && now.0 > last, "{due:?} {now:?}");
    agent.beaten(Outcome::Taken, now, &mut Fixed);
    let Step::Send(report) = agent.next(now) else {
        panic!("nothing sent")
    };
    assert_eq!(report.facts, vec![xid(79)]);
    // A report that fails while heartbeats pass is no absence.
    agent.sent(Outcome::Failed, now, &mut Fixed);
    let Step::Wait(beat) = agent.next(now) else {
        panic!("no wait")
    };
    assert!(beat > now);
}

#[test]
fn an_unknown_node_registers_again_and_loses_nothing() {
    let mut agent = settled();
    agent.happened(vec![xid(79)]);
    assert!(matches!(agent.next(at(1)), Step::Send(_)));
    agent.sent(Outcome::Unknown, at(1), &mut Fixed);
    assert_eq!(agent.next(at(1)), Step::Register);
    agent.registered(Outcome::Taken, None, at(1), &mut Fixed);
    assert_eq!(agent.next(at(1)), Step::Beat);
    assert_eq!(agent.next(at(1)), Step::ReadAll);
    let Step::Send(report) = agent.next(at(1)) else {
        panic!("nothing sent")
    };
    assert_eq!((report.sequence, report.facts), (3, vec![xid(79)]));
}

/// A reading that names itself.
fn reading(name: &str) -> Vec<Fact> {
    vec![Fact {
        watch: name.to_owned(),
        ..Fact::default()
    }]
}

/// An agent whose every call fails from time 60 to time 3600. It reads in vain all the while, and
/// a fact of time 61 waits too. Returns the time, and the number of the last reading.
fn back_from_an_outage() -> (Agent, Time, u32) {
    let mut agent = settled();
    let (mut now, mut readings) = (at(60), 0);
    while now < at(3600) {
        if now >= at(61) && agent.spool().is_empty() {
            agent.happened(vec![xid(79)]);
        }
        match agent.next(now) {
            Step::Beat => agent.beaten(Outcome::Failed, now, &mut Fixed),
            Step::Send(_) => agent.sent(Outcome::Failed, now, &mut Fixed),
            Step::ReadAll => {
                readings += 1;
                agent.read(reading(&readings.to_string()), now, &mut Fixed);
            }
            Step::Wait(until) => {
                assert!(until > now, "it spins");
                now = until;
            }
            step => panic!("{step:?}"),
        }
    }
    assert!(agent.spool().len() == 1 && readings > 0);
    (agent, now, readings)
}

/// What an agent whose every call succeeds does at a time: whether each report is full, with the
/// names of its facts, or `None` for a reading, which takes until everything else is done.
fn settle(agent: &mut Agent, now: Time) -> Vec<Option<(bool, Vec<String>)>> {
    let (mut done, mut reads) = (Vec::new(), 0);
    loop {
        match agent.next(now) {
            Step::Register => agent.registered(Outcome::Taken, None, now, &mut Fixed),
            Step::Beat => agent.beaten(Outcome::Taken, now, &mut Fixed),
            Step::ReadAll => {
                reads += 1;
                done.push(None);
            }
            Step::Send(report) => {
                let name = |fact: &Fact| match fact.metrics.get("xid_code") {
                    Some(code) => code.clone(),
                    None => fact.watch.clone(),
                };
                done.push(Some((report.full, report.facts.iter().map(name).collect())));
                agent.sent(Outcome::Taken, now, &mut Fixed);
            }
            Step::Poll => agent.polled(Outcome::Taken, now, &mut Fixed),
            Step::Wait(_) if reads > 0 => {
                reads -= 1;
                agent.read(reading("new"), now, &mut Fixed);
            }
            Step::Wait(_) => return done,
        }
        assert!(done.len() < 100, "it never ends: {done:?}");
    }
}

#[test]
fn after_an_outage_the_newest_reading_is_sent_and_no_older_one() {
    let (mut agent, now, last) = back_from_an_outage();
    assert!(last >= 55, "it reads all the while: {last}");
    agent.beaten(Outcome::Taken, now, &mut Fixed);
    let sent = settle(&mut agent, now);
    let full: Vec<_> = sent.iter().flatten().filter(|(full, _)| *full).collect();
    assert!(
        full.iter()
            .all(|(_, names)| names.last() == Some(&last.to_string())
                || names.last().is_some_and(|name| name == "new")),
        "{sent:?}"
    );
    assert!(!full.is_empty());
    let faults = sent.iter().flatten().flat_map(|(_, names)| names);
    assert_eq!(faults.filter(|name| *name == "79").count(), 1, "{sent:?}");
}

#[test]
fn a_node_that_registers_again_is_read_before_a_full_report_is_sent() {
    let (mut agent, now, _) = back_from_an_outage();
    agent.begin(Busy::Beat);
    agent.beaten(Outcome::Unknown, now, &mut Fixed);
    let new = vec!["new".to_owned()];
    assert_eq!(
        settle(&mut agent, now),
        [
            None,
            Some((false, vec!["79".to_owned()])),
            Some((true, new))
        ]
    );
}

#[test]
fn facts_beside_a_reading_that_is_replaced_keep_their_sequence() {
    let mut agent = settled();
    agent.happened(vec![xid(79)]);
    agent.read(reading("old"), at(1), &mut Fixed);
    let Step::Send(first) = agent.next(at(1)) else {
        panic!("nothing sent")
    };
    assert_eq!((first.full, first.facts.len()), (true, 2));
    // The newer reading comes while the older one is under way, and its answer is lost.
    agent.read(reading("new"), at(1), &mut Fixed);
    agent.sent(Outcome::Failed, at(1), &mut Fixed);
    let Step::Send(second) = agent.next(at(2)) else {
        panic!("nothing sent")
    };
    let facts = Outgoing {
        sequence: first.sequence,
        full: false,
        facts: vec![xid(79)],
    };
    assert_eq!(second, facts, "a control plane that took it takes it once");
    agent.sent(Outcome::Failed, at(2), &mut Fixed);
    assert_eq!(agent.next(at(4)), Step::Send(facts));
    agent.sent(Outcome::Taken, at(4), &mut Fixed);
    let newer = Outgoing {
        sequence: first.sequence + 1,
        full: true,
        facts: reading("new"),
    };
    assert_eq!(agent.next(at(4)), Step::Send(newer));
    // A reading that went alone is replaced as a whole.
    agent.sent(Outcome::Failed, at(4), &mut Fixed);
    agent.read(reading("newest"), at(5), &mut Fixed);
    let newest = Outgoing {
        sequence: first.sequence + 2,
        full: true,
        facts: reading("newest"),
    };
    assert_eq!(agent.next(at(8)), Step::Send(newest));
}

#[test]
fn a_full_spool_sends_no_fact_twice_while_a_report_is_under_way() {
    let spool = Spool::new(SpoolLimits { bytes: 1500 });
    let mut agent = Agent::new(SessionId::new("s"), spool, Vec::new());
    agent.registered(Outcome::Taken, None, at(0), &mut Fixed);
    let fact = |happened| Fact {
        happened,
        ..xid(13)
    };
    agent.happened((0..100).map(fact).collect());
    assert!(agent.spool().len() < 100, "it is full");
    let mut told = Vec::new();
    let mut next = 100;
    agent.begin(Busy::Read);
    agent.begin(Busy::Beat);
    agent.push(true, at(0));
    while let Step::Send(report) = agent.next(at(0)) {
        if next < 110 {
            agent.happened(vec![fact(next), fact(next + 1)]);
            next += 2;
        }
        told.extend(
            report
                .facts
                .iter()
                .filter(|fact| fact.watch.is_empty())
                .map(|fact| fact.happened),
        );
        agent.sent(Outcome::Taken, at(0), &mut Fixed);
        assert!(told.len() < 200, "it never ends");
    }
    let mut once = told.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(told, once, "in order, and each once");
    assert!(agent.spool().is_empty());
}

#[test]
fn registration_backs_off() {
    let mut agent = agent();
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(agent.next(now), Step::Register);
        agent.registered(Outcome::Failed, None, now, &mut Fixed);
        let Step::Wait(until) = agent.next(now) else {
            panic!("no wait")
        };
        waits.push(until.since(now).as_millis());
        now = until;
    }
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
}

#[test]
fn two_agents_under_one_id_take_it_from_each_other_ever_more_rarely() {
    let mut agent = settled();
    let mut now = at(1);
    let mut waits = Vec::new();
    let mut rival = Vec::new();
    for _ in 0..10 {
        agent.happened(vec![xid(79)]);
        let mut steps = 0;
        // Whatever it does as a registered agent, the other one was faster.
        while !matches!(agent.next(now), Step::Send(_)) {
            agent.beaten(Outcome::Taken, now, &mut Fixed);
            agent.read(vec![Fact::default()], now, &mut Fixed);
            steps += 1;
            assert!(steps < 10);
        }
        agent.sent(Outcome::Superseded, now, &mut Fixed);
        let Step::Wait(until) = agent.next(now) else {
            panic!("no wait")
        };
        waits.push(until.since(now).as_millis());
        rival.push(agent.has_rival());
        now = until;
        assert_eq!(agent.next(now), Step::Register);
        agent.registered(Outcome::Taken, None, now, &mut Fixed);
    }
    let doubling = [500, 1000, 2000, 4000, 8000, 16_000, 32_000];
    assert_eq!(waits[..7], doubling);
    assert_eq!(waits[7..], [60_000; 3]);
    assert_eq!(rival[..3], [false, false, true]);
    assert!(rival[3..].iter().all(|rival| *rival));
    // Once the other is gone for long, one more loss is an ordinary restart again.
    let later = now + RIVALRY_QUIET + Duration::from_secs(61);
    assert_eq!(agent.next(later), Step::Beat);
    assert_eq!(agent.next(later), Step::ReadAll);
    agent.happened(vec![xid(79)]);
    assert!(matches!(agent.next(later), Step::Send(_)));
    agent.sent(Outcome::Superseded, later, &mut Fixed);
    assert!(!agent.has_rival());
    assert_eq!(
        agent.next(later),
        Step::Wait(later + Duration::from_millis(500))
    );
}

#[test]
fn a_loss_that_several_calls_tell_of_is_one() {
    for loss in [Outcome::Superseded, Outcome::Unknown] {
        let mut agent = settled();
        agent.push(false, at(30));
        assert_eq!(agent.next(at(30)), Step::Beat);
        agent.happened(vec![xid(79)]);
        assert!(matches!(agent.next(at(30)), Step::Send(_)));
        assert_eq!(agent.next(at(30)), Step::Poll);
        agent.beaten(loss, at(30), &mut Fixed);
        // While it is about to register again, and when it has.
        agent.sent(loss, at(30), &mut Fixed);
        assert_eq!(agent.next(at(31)), Step::Register);
        agent.registered(Outcome::Taken, None, at(31), &mut Fixed);
        agent.polled(loss, at(31), &mut Fixed);
        assert!(agent.is_registered(), "{loss:?}");
        assert_eq!(agent.next(at(31)), Step::Beat);
        agent.beaten(Outcome::Superseded, at(31), &mut Fixed);
        let losses = if loss == Outcome::Superseded { 2 } else { 1 };
        let wait = Duration::from_millis(500) * losses;
        assert_eq!(agent.next(at(31)), Step::Wait(at(31) + wait), "{loss:?}");
    }
}

/// Sends everything to a control plane that refuses these XIDs. Returns the XIDs that were
/// taken, the number of reports, and what was dropped.
fn send_all(agent: &mut Agent, refuses: &[u32]) -> (Vec<String>, usize, Vec<Dropped>) {
    let (mut taken, mut reports, mut dropped) = (Vec::new(), 0, Vec::new());
    while let Step::Send(report) = agent.next(at(1)) {
        reports += 1;
        assert!(reports < 1000, "it never ends");
        let code = |fact: &Fact| fact.metrics.get("xid_code").cloned();
        let bad = |fact: &Fact| {
            code(fact).is_some_and(|code| refuses.iter().any(|bad| bad.to_string() == code))
        };
        let outcome = if report.facts.iter().any(bad) {
            Outcome::Refused
        } else {
            taken.extend(report.facts.iter().filter_map(code));
            Outcome::Taken
        };
        agent.sent(outcome, at(1), &mut Fixed);
        dropped.extend(agent.take_dropped());
    }
    (taken, reports, dropped)
}

#[test]
fn a_refused_fact_is_found_by_halves_and_the_others_are_told() {
    for bad in [&[1_u32][..], &[150], &[256], &[600], &[3, 4, 599], &[]] {
        let mut agent = settled();
        agent.happened((1..=600).map(xid).collect());
        let (taken, reports, dropped) = send_all(&mut agent, bad);
        let expected: Vec<String> = (1..=600_u32)
            .filter(|code| !bad.contains(code))
            .map(|code| code.to_string())
            .collect();
        assert_eq!(taken, expected, "{bad:?}");
        let lost: Vec<Dropped> = bad.iter().map(|code| Dropped::Fact(xid(*code))).collect();
        assert_eq!(dropped, lost, "{bad:?}");
        assert!(reports <= 4 + 17 * bad.len(), "{bad:?}: {reports}");
        assert!(agent.spool().is_empty());
    }
}

#[test]
fn a_refused_fact_is_counted_as_lost_and_its_count_is_never_the_next_loss() {
    let mut agent = settled();
    agent.happened(vec![xid(13), xid(79)]);
    let mut messages = Vec::new();
    while let Step::Send(report) = agent.next(at(1)) {
        let loss = report.facts.iter().find(|fact| fact.watch == "spool");
        messages.extend(loss.map(|fact| fact.message.clone()));
        // One that refuses everything.
        agent.sent(Outcome::Refused, at(1), &mut Fixed);
    }
    assert_eq!(messages, ["2 events were refused by the control plane"]);
}

#[test]
fn a_refused_fact_does_not_take_the_full_reading_along() {
    let mut agent = settled();
    agent.happened(vec![xid(79)]);
    agent.read(vec![xid(1), xid(2)], at(1), &mut Fixed);
    let (taken, _, dropped) = send_all(&mut agent, &[79]);
    assert_eq!(taken, ["1", "2"]);
    assert_eq!(dropped, [Dropped::Fact(xid(79))]);
    // Nor the other way round; a reading is dropped as a whole, for the next one comes soon.
    agent.happened(vec![xid(79)]);
    agent.read(vec![xid(1), xid(2)], at(1), &mut Fixed);
    let (taken, _, dropped) = send_all(&mut agent, &[2]);
    assert_eq!(taken, ["79"]);
    assert_eq!(dropped, [Dropped::Reading(2)]);
}

#[test]
fn repeats_of_commands_are_known() {
    let mut agent = agent();
    for number in 0..=REMEMBERED_COMMANDS {
        let id = CommandId::new(number.to_string());
        assert!(agent.is_new(&id));
        agent.finish(id.clone());
        assert!(!agent.is_new(&id));
    }
    assert!(
        agent.is_new(&CommandId::new("0")),
        "the oldest is forgotten first"
    );
}

#[test]
fn what_is_refused_for_now_is_sent_when_the_control_plane_says() {
    let later = |seconds: u64| Outcome::Later(Duration::from_secs(seconds));
    let mut agent = settled();
    agent.happened(vec![xid(79)]);
    assert!(matches!(agent.next(at(1)), Step::Send(_)));
    agent.sent(later(20), at(1), &mut Fixed);
    // Its own wait would be over long before.
    assert_eq!(agent.next(at(20)), Step::Wait(at(21)));
    let Step::Send(again) = agent.next(at(21)) else {
        panic!("nothing sent")
    };
    assert_eq!(again.facts.len(), 1, "nothing is lost");
    agent.sent(Outcome::Taken, at(21), &mut Fixed);
    // A heartbeat comes no sooner than it is due, and no later than that and the wait.
    assert_eq!(agent.next(at(30)), Step::Beat);
    agent.beaten(later(5), at(30), &mut Fixed);
    assert_eq!(agent.next(at(31)), Step::Wait(at(60)));
    assert_eq!(agent.next(at(60)), Step::Beat);
    agent.beaten(later(50), at(60), &mut Fixed);
    assert_eq!(agent.next(at(60)), Step::ReadAll);
    agent.read(Vec::new(), at(60), &mut Fixed);
    let Step::Send(_) = agent.next(at(60)) else {
        panic!("nothing sent")
    };
    agent.sent(Outcome::Taken, at(60), &mut Fixed);
    assert_eq!(agent.next(at(61)), Step::Wait(at(110)));

    let mut new = super::tests::agent();
    assert_eq!(new.next(at(0)), Step::Register);
    new.registered(later(40), None, at(0), &mut Fixed);
    assert_eq!(new.next(at(39)), Step::Wait(at(40)));
    assert_eq!(new.next(at(40)), Step::Register);
}

#[test]
fn a_lost_heartbeat_is_made_up_for_before_the_node_counts_as_silent() {
    // Silence is three intervals by default.
    for beat in [1, 2, 3, 5, 10, 15, 30, 60] {
        let beat = Duration::from_secs(beat);
        let intervals = Intervals {
            beat,
            ..Intervals::default()
        };
        let limit = intervals.beat_limit();
        assert!(limit <= beat && limit <= CALL_LIMIT, "{beat:?}");
        // The lost one comes late, its answer is waited for, and the next one comes late.
        let late = 1.0 + JITTER;
        let made_up = beat.mul_f64(late) + limit + (beat / 4).mul_f64(late);
        assert!(made_up < 3 * beat, "{beat:?}: {made_up:?}");
    }
}
