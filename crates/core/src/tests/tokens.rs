//! Clouds that honour no client token: what may have been bought is not bought again.

use std::sync::Arc;

use navarch_model::{
    EndCause, Idempotency, InstanceId, Machine, Phase, ProviderErrorKind, ProviderName, Stamp,
    State,
};

use super::{Rig, yaml};
use crate::Fleet;
use crate::input::{Effect, Input};

/// A control plane takes over from an older copy of the store. Nothing is answered yet.
fn restore(rig: &mut Rig, copy: &State) {
    let settings = Arc::clone(rig.fleet.settings());
    let policy = Arc::clone(rig.fleet.policy());
    rig.fleet = Fleet::new(copy.clone(), settings, policy);
    rig.drop_calls();
    rig.take(Input::Started { epoch: 2 });
}

/// An intent that no call was made for, as far as the copy of the store knows. Where `bought`, its
/// machine was made after the copy.
fn restored(idempotency: Idempotency, bought: bool) -> (Rig, InstanceId) {
    let mut rig = Rig::on(&yaml(1, 2, ""), idempotency);
    rig.plan();
    let copy = rig.fleet.state().clone();
    let id = rig.of(Phase::Requested).remove(0);
    if bought {
        rig.answer();
        rig.plan();
        rig.answer();
        assert_eq!(rig.machines.len(), 1);
    }
    rig.pass(5);
    restore(&mut rig, &copy);
    (rig, id)
}

/// Takes the launch calls and the listings that wait.
fn calls(rig: &mut Rig) -> (usize, Vec<(ProviderName, Stamp)>) {
    let mut launches = 0;
    let mut listings = Vec::new();
    for effect in rig.drop_calls() {
        match effect {
            Effect::Launch { .. } => launches += 1,
            Effect::List {
                provider, began, ..
            } => listings.push((provider, began)),
            _ => {}
        }
    }
    (launches, listings)
}

fn list(rig: &mut Rig, (provider, began): (ProviderName, Stamp), shown: Vec<Machine>, whole: bool) {
    rig.take(Input::ListResult {
        provider,
        began,
        result: Ok((shown, whole)),
    });
}

#[test]
fn a_restored_intent_is_bought_only_after_two_listings_lack_it() {
    let (mut rig, id) = restored(Idempotency::None, false);
    rig.plan();
    let (launches, mut listings) = calls(&mut rig);
    assert_eq!((launches, listings.len()), (0, 1));
    assert_eq!(
        rig.explain(&[(&id, "A")]),
        [
            "launch A waits for proof: an earlier call may have made the machine: it is bought only after \
          2 complete listings of fake since the start lack it and nothing else, and 0 did; \
          `navarch instance terminate A` gives it up"
        ]
    );
    // Half a listing proves nothing.
    list(&mut rig, listings.remove(0), Vec::new(), false);
    rig.pass(20);
    rig.plan();
    let (launches, mut listings) = calls(&mut rig);
    assert_eq!(
        (launches, listings.len()),
        (0, 1),
        "it is listed soon again"
    );
    // Nor does one alone: what a cloud made a moment ago it may show late.
    list(&mut rig, listings.remove(0), Vec::new(), true);
    rig.plan();
    assert_eq!(calls(&mut rig).0, 0);
    let told = rig.explain(&[(&id, "A")]).remove(0);
    assert!(told.contains("and nothing else, and 1 did"), "{told}");
    rig.pass(20);
    rig.plan();
    let (launches, mut listings) = calls(&mut rig);
    assert_eq!((launches, listings.len()), (0, 1));
    list(&mut rig, listings.remove(0), Vec::new(), true);
    rig.plan();
    assert_eq!(calls(&mut rig).0, 1);
    assert_eq!(rig.instance(&id).phase, Phase::Launching);
}

#[test]
fn a_listing_that_lacks_a_known_machine_proves_no_intent_unbought() {
    let mut rig = Rig::on(&yaml(1, 4, ""), Idempotency::None);
    let known = rig.up(1).remove(0);
    rig.configure(&yaml(2, 4, ""));
    rig.plan();
    let copy = rig.fleet.state().clone();
    let id = rig.of(Phase::Requested).remove(0);
    rig.answer();
    rig.plan();
    rig.answer();
    assert_eq!(rig.machines.len(), 2);
    rig.pass(5);
    restore(&mut rig, &copy);
    // The cloud is slow to show what it has: first neither machine, then the older, then both.
    for second in 0..180 {
        rig.plan();
        let (launches, listings) = calls(&mut rig);
        assert_eq!(launches, 0, "{second} s");
        for one in listings {
            let shown = rig.machines.values().filter(|machine| match second {
                0..100 => false,
                100..115 => machine.instance.as_ref() == Some(&known),
                _ => true,
            });
            let shown = shown.cloned().collect();
            list(&mut rig, one, shown, true);
        }
        rig.pass(1);
    }
    assert_eq!(rig.instance(&id).phase, Phase::PendingRegistration);
}

#[test]
fn the_listing_that_settles_a_restored_intent_makes_its_pool_due() {
    let (mut rig, _) = restored(Idempotency::None, false);
    rig.plan();
    let (_, mut listings) = calls(&mut rig);
    list(&mut rig, listings.remove(0), Vec::new(), true);
    rig.pass(20);
    rig.plan();
    let (_, mut listings) = calls(&mut rig);
    list(&mut rig, listings.remove(0), Vec::new(), true);
    // The rig compares the plan of what changed with the plan of all.
    rig.plan();
    assert_eq!(calls(&mut rig).0, 1);
}

#[test]
fn a_restored_intent_whose_machine_is_listed_is_not_bought_again() {
    let (mut rig, id) = restored(Idempotency::None, true);
    for _ in 0..20 {
        rig.plan();
        let (launches, listings) = calls(&mut rig);
        assert_eq!(launches, 0);
        for one in listings {
            let shown = rig.machines.values().cloned().collect();
            list(&mut rig, one, shown, true);
        }
        rig.pass(1);
    }
    assert_eq!(rig.instance(&id).phase, Phase::PendingRegistration);
}

#[test]
fn an_operator_gives_up_an_intent_that_waits_for_a_listing() {
    let (mut rig, id) = restored(Idempotency::None, false);
    rig.plan();
    rig.take(Input::EndInstance {
        instance: id.clone(),
        reason: String::new(),
    });
    assert_eq!(rig.instance(&id).phase, Phase::Failed);
}

#[test]
fn an_intent_that_no_listing_settled_is_remembered_when_it_is_given_up() {
    let clouds = [Idempotency::None, Idempotency::TokenOrName];
    for (cloud, by_operator) in clouds
        .into_iter()
        .flat_map(|one| [(one, false), (one, true)])
    {
        let (mut rig, id) = restored(cloud, true);
        let (name, late) = rig.machines.pop_first().expect("it was bought");
        if by_operator {
            rig.take(Input::EndInstance {
                instance: id.clone(),
                reason: String::new(),
            });
        }
        rig.configure(&yaml(0, 2, ""));
        rig.plan();
        assert_eq!(rig.instance(&id).phase, Phase::Failed);
        for _ in 0..20 {
            rig.pass(3600);
            rig.take(Input::Tick);
        }
        rig.machines.insert(name, late);
        rig.run(300);
        assert!(rig.machines.is_empty(), "{cloud:?}, {by_operator}");
    }
}

#[test]
fn where_tokens_are_honoured_a_restored_intent_is_bought_at_once() {
    let (mut rig, _) = restored(Idempotency::TokenOrName, false);
    rig.plan();
    assert_eq!(calls(&mut rig).0, 1);
}

#[test]
fn an_intent_of_this_life_waits_for_no_listing() {
    let mut rig = Rig::on(&yaml(1, 2, ""), Idempotency::None);
    rig.plan();
    rig.plan();
    assert_eq!(calls(&mut rig).0, 1);
}

#[test]
fn an_unknown_outcome_is_not_bought_again_before_two_listings_lack_it() {
    let mut rig = Rig::on(&yaml(1, 4, ""), Idempotency::None);
    rig.plan();
    rig.plan();
    let (key, _) = rig.launches().pop().unwrap();
    rig.answer();
    let called = rig.now;
    rig.launch_fails(&key, ProviderErrorKind::OutcomeUnknown);
    rig.plan();
    let id = key.instance.clone();
    assert_eq!(
        rig.explain(&[(&id, "A")]),
        [
            "launch waits for outcome_unknown: launch answer lost: as told; it is bought again only \
          after 2 complete listings lack it, and 0 did; `navarch instance terminate A` gives it up"
        ]
    );
    // Look-ups by name find nothing, and that alone proves nothing.
    let mut answered = 0;
    for second in 0..200 {
        rig.pass(1);
        rig.plan();
        assert!(rig.launches().is_empty(), "{second} s");
        for effect in rig.drop_calls() {
            match effect {
                // None of the listings that began before the call's deadline counts.
                Effect::List {
                    provider, began, ..
                } => {
                    let late = began.core.since(called.core).as_secs() >= 120;
                    answered += usize::from(late);
                    list(&mut rig, (provider, began), Vec::new(), true);
                }
                Effect::Lookup { key, .. } => {
                    rig.take(Input::LookupResult {
                        key,
                        result: Ok(None),
                    });
                }
                other => panic!("{other:?}"),
            }
        }
        if answered == 2 {
            break;
        }
        assert_eq!(rig.instance(&id).phase, Phase::OutcomeUnknown, "{second} s");
        assert_eq!(rig.fleet.state().instances.len(), 1);
    }
    assert_eq!(rig.instance(&id).phase, Phase::Failed);
    assert_eq!(rig.instance(&id).end, Some(EndCause::LaunchAbandoned));
    rig.run(2);
    assert_eq!(rig.machines.len(), 1, "now another is bought");
}
