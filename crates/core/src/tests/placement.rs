//! Placement in a fleet: offerings that are sold out, too dear, dropped, and come back.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_model::{
    CapacityKind, EndCause, EventKind, Offer, Phase, Price, ProviderError, ProviderErrorKind,
};
use navarch_policy::placement::Standing;

use super::Rig;

/// A pool of two regions of one cloud and one of another.
fn yaml(min: usize, keys: &str) -> String {
    format!(
        "server:
  heartbeat_interval: 15s
  heartbeat_timeout: 45s
  health_check_interval: 1h
instance_manager:
  launch_timeout: 2m
  registration_timeout: 2h
guards:
  launch_breaker: {{wait: 1m, max_wait: 8m, unproven_launches: 10}}
providers:
  fake: {{type: fake, gpu_count: 2}}
  far: {{type: fake, gpu_count: 2}}
pools:
  main:
    providers: [{{name: fake, regions: [r1, r2]}}, {{name: far, regions: [r3], priority: 1}}]
    instance_type: gpu
    min_nodes: {min}
    max_nodes: 20
    max_launches_per_hour: 60
{keys}"
    )
}

const R1: &str = "fake/r1/gpu";
const R2: &str = "fake/r2/gpu";
const R3: &str = "far/r3/gpu";

/// How many machines that may be alive were bought where.
fn bought(rig: &Rig) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for instance in rig.fleet.state().instances.values() {
        if instance.phase.may_be_alive() && instance.provider_id.is_some() {
            *found.entry(instance.offering.to_string()).or_default() += 1;
        }
    }
    found
}

fn counts<const N: usize>(of: [(&str, usize); N]) -> BTreeMap<String, usize> {
    of.map(|(name, count)| (name.to_owned(), count)).into()
}

fn refuse(rig: &mut Rig, offerings: &[&str], kind: ProviderErrorKind) {
    for offering in offerings {
        rig.refusals.insert((*offering).to_owned(), kind);
    }
}

fn offer(region: &str, dollars: u64, available: bool) -> Offer {
    Offer {
        region: region.to_owned(),
        zone: String::new(),
        instance_type: "gpu".to_owned(),
        capacity: CapacityKind::OnDemand,
        price: Some(Price::from_micros(dollars * 1_000_000)),
        available: Some(available),
    }
}

/// What the report says of each offering: the place in the order, or the guard and its cause.
fn standings(rig: &Rig) -> Vec<String> {
    let report = rig
        .report
        .pools
        .values()
        .next()
        .expect("the pool is planned");
    let word = |standing: &Standing| match standing {
        Standing::Open(place) => place.to_string(),
        Standing::Closed(block) => format!("{} {}", block.guard, block.cause),
    };
    report
        .offerings
        .iter()
        .map(|one| word(&one.standing))
        .collect()
}

#[test]
fn by_priority_the_first_is_asked_and_the_next_where_it_is_sold_out() {
    let mut rig = Rig::new(&yaml(3, ""));
    rig.run(5);
    assert_eq!(bought(&rig), counts([(R1, 3)]));

    let mut rig = Rig::new(&yaml(3, ""));
    refuse(&mut rig, &[R1], ProviderErrorKind::Capacity);
    rig.run(10);
    assert_eq!(bought(&rig), counts([(R2, 3)]));
    assert_eq!(standings(&rig), ["offering_rest refused", "1", "2"]);
    // Refused together, they are one refusal, and rest as long as one.
    let memory = &rig.fleet.state().pools.values().next().unwrap().offerings[R1];
    assert_eq!(memory.refusals, 1);
    let rests = memory.retry_at.unwrap().since(rig.now.core).as_secs();
    assert!((15..=60).contains(&rests), "{rests}");
}

#[test]
fn what_was_not_asked_for_at_an_offering_that_is_sold_out_is_asked_for_elsewhere() {
    let mut rig = Rig::new(&yaml(3, ""));
    rig.plan();
    assert_eq!(rig.of(Phase::Requested).len(), 3);
    rig.plan();
    let launches = rig.launches();
    assert_eq!(launches.len(), 3);
    // The first is refused, and the others had not begun.
    rig.launch_fails(&launches[0].0, ProviderErrorKind::Capacity);
    rig.launch_fails(&launches[1].0, ProviderErrorKind::Transient);
    rig.launch_fails(&launches[2].0, ProviderErrorKind::Transient);
    rig.run(20);
    assert_eq!(bought(&rig), counts([(R2, 3)]));
    let ends: Vec<_> = launches
        .iter()
        .map(|(key, _)| rig.instance(&key.instance).end.clone().unwrap())
        .collect();
    assert_eq!(
        ends,
        [EndCause::LaunchRefused, EndCause::Moved, EndCause::Moved]
    );
    assert!(
        rig.instance(&launches[1].0.instance)
            .message
            .ends_with("fake/r2/gpu is asked instead"),
    );
}

#[test]
fn a_total_stock_out_is_explained_and_tried_again_for_ever() {
    let mut rig = Rig::new(&yaml(2, ""));
    refuse(&mut rig, &[R1, R2, R3], ProviderErrorKind::Capacity);
    rig.run(30);
    assert_eq!(bought(&rig), counts([]));
    let told = rig.explain(&[]);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].starts_with(
            "launch a machine waits for placement: none of 3 offerings is open: fake/r1/gpu refused \
             the last launch: capacity: as ordered; fake/r2/gpu refused"
        ),
        "{told:?}"
    );
    let asked = |rig: &Rig| rig.fleet.state().instances.len();
    let mut before = asked(&rig);
    for hour in 0..4 {
        // The wait doubles up to eight minutes, and one launch is tried each time.
        rig.run(1800);
        let now = asked(&rig);
        assert!(now > before || hour > 1, "hour {hour}: {before} to {now}");
        before = now;
    }
    let refused = rig.count(EventKind::ProviderError);
    assert!((20..200).contains(&refused), "{refused}");
    rig.refusals.remove(R3);
    rig.run(600);
    assert_eq!(bought(&rig), counts([(R3, 2)]));
    rig.refusals.clear();
    rig.run(600);
    assert_eq!(standings(&rig), ["1", "2", "3"]);
}

#[test]
fn an_offering_that_refused_is_tried_with_one_launch() {
    let mut rig = Rig::new(&yaml(0, ""));
    let only = yaml(4, "")
        .replace("regions: [r1, r2]", "regions: [r1]")
        .replace(", {name: far, regions: [r3], priority: 1}", "");
    rig.configure(&only);
    refuse(&mut rig, &[R1], ProviderErrorKind::Capacity);
    rig.run(3);
    let first = rig.count(EventKind::ProviderError);
    rig.run(70);
    let again = rig.count(EventKind::ProviderError) - first;
    assert_eq!(again, 1, "one of four was tried");
    rig.refusals.clear();
    rig.run(240);
    assert_eq!(bought(&rig), counts([(R1, 4)]));
    let memory = &rig.fleet.state().pools.values().next().unwrap().offerings[R1];
    assert_eq!((memory.refusals, memory.retry_at), (0, None));
}

#[test]
fn quota_rests_the_region_and_credentials_the_whole_provider() {
    let zones = yaml(1, "").replace("regions: [r1, r2]", "regions: [r1, r2], zones: [a, b]");
    for (kind, expected) in [
        (
            ProviderErrorKind::Capacity,
            ["offering_rest refused", "1", "2", "3", "4"],
        ),
        (
            ProviderErrorKind::Quota,
            [
                "offering_rest refused",
                "offering_rest refused",
                "1",
                "2",
                "3",
            ],
        ),
        (
            ProviderErrorKind::Auth,
            [
                "offering_rest refused",
                "offering_rest refused",
                "offering_rest refused",
                "offering_rest refused",
                "1",
            ],
        ),
    ] {
        let mut rig = Rig::new(&zones);
        refuse(&mut rig, &["fake/r1/a/gpu"], kind);
        rig.run(4);
        assert_eq!(standings(&rig), expected, "{kind:?}");
    }
    // Once the credentials are right again, everything of the provider is open at once.
    let mut rig = Rig::new(&zones);
    refuse(&mut rig, &["fake/r1/a/gpu"], ProviderErrorKind::Auth);
    refuse(
        &mut rig,
        &["far/r3/a/gpu", "far/r3/gpu"],
        ProviderErrorKind::Capacity,
    );
    rig.run(4);
    let report = &rig.report.pools.values().next().unwrap().offerings;
    let reason = |place: usize| report[place].standing.block().unwrap().reason.clone();
    assert_eq!(reason(3), "everything of fake rests: auth: as ordered");
    rig.refusals.remove("fake/r1/a/gpu");
    rig.run(120);
    assert_eq!(bought(&rig), counts([("fake/r1/a/gpu", 1)]));
    assert_eq!(standings(&rig)[..4], ["1", "2", "3", "4"]);
}

#[test]
fn a_wish_to_wait_is_kept() {
    let mut rig = Rig::new(&yaml(1, ""));
    rig.plan();
    rig.plan();
    let (key, _) = rig.launches().pop().unwrap();
    let mut error = ProviderError::new(ProviderErrorKind::Quota, "later");
    error.retry_after = Some(std::time::Duration::from_secs(3000));
    rig.take(super::Input::LaunchResult {
        key,
        result: Err(error),
    });
    let memory = &rig.fleet.state().pools.values().next().unwrap().offerings[R1];
    assert_eq!(memory.retry_at.unwrap().since(rig.now.core).as_secs(), 3000);
}

#[test]
fn by_cost_the_cheapest_that_is_there_is_asked_and_nothing_above_the_limit() {
    let text = yaml(2, "    strategy: cost\n    max_price: 10\n");
    let mut rig = Rig::new(&text);
    let fake = vec![offer("r1", 9, true), offer("r2", 4, false)];
    rig.offers.insert("fake".to_owned(), Ok(Some(fake)));
    rig.offers
        .insert("far".to_owned(), Ok(Some(vec![offer("r3", 11, true)])));
    rig.run(5);
    assert_eq!(bought(&rig), counts([(R1, 2)]));
    assert_eq!(standings(&rig), ["1", "listing sold_out", "max_price over"]);

    // The list is asked for again once it is old and a machine is wanted.
    let fake = vec![offer("r1", 12, true), offer("r2", 4, true)];
    rig.offers.insert("fake".to_owned(), Ok(Some(fake)));
    rig.pass(601);
    rig.run(5);
    assert_eq!(standings(&rig)[0], "1", "nobody wants a machine");
    rig.configure(&text.replace("min_nodes: 2", "min_nodes: 3"));
    rig.run(5);
    assert_eq!(bought(&rig), counts([(R1, 2), (R2, 1)]));
    assert_eq!(standings(&rig), ["max_price over", "1", "max_price over"]);
}

#[test]
fn with_a_limit_nothing_is_bought_without_a_price_and_the_list_is_asked_for_again() {
    let mut rig = Rig::new(&yaml(1, "    max_price: 10\n"));
    let down = ProviderError::new(ProviderErrorKind::Transient, "down");
    rig.offers.insert("fake".to_owned(), Err(down.clone()));
    rig.offers.insert("far".to_owned(), Err(down));
    rig.run(60);
    assert_eq!(bought(&rig), counts([]));
    assert_eq!(standings(&rig), ["max_price unknown"; 3]);
    rig.offers
        .insert("far".to_owned(), Ok(Some(vec![offer("r3", 1, true)])));
    rig.run(120);
    assert_eq!(bought(&rig), counts([(R3, 1)]));
}

#[test]
fn round_robin_shares_by_weight_and_buys_again_what_was_lost() {
    let text = yaml(6, "    strategy: round-robin\n").replace("priority: 1", "weight: 2");
    let mut rig = Rig::new(&text);
    rig.run(5);
    assert_eq!(bought(&rig), counts([(R1, 1), (R2, 1), (R3, 4)]));
}

#[test]
fn launches_under_way_are_limited() {
    let mut rig = Rig::new(&yaml(5, "    parallel_launches: 2\n"));
    rig.plan();
    assert_eq!(rig.of(Phase::Requested).len(), 2);
    assert_eq!(
        rig.explain(&[]),
        ["launch a machine waits for parallel_launches: 2 launches are under way; the limit is 2"]
    );
    rig.run(10);
    assert_eq!(bought(&rig), counts([(R1, 5)]));
}

#[test]
fn an_offering_that_leaves_the_settings_keeps_its_machines_and_gets_no_more() {
    let mut rig = Rig::new(&yaml(2, ""));
    rig.run(5);
    assert_eq!(bought(&rig), counts([(R1, 2)]));
    // One more intent at the offering that is dropped before its call is made.
    rig.configure(&yaml(3, ""));
    rig.plan();
    let intent = rig.of(Phase::Requested).remove(0);
    rig.configure(&yaml(3, "").replace("regions: [r1, r2]", "regions: [r2]"));
    rig.run(5);
    assert_eq!(bought(&rig), counts([(R1, 2), (R2, 1)]));
    assert_eq!(rig.instance(&intent).end, Some(EndCause::Moved));
    // What is remembered of it goes with the last machine.
    let remembered = |rig: &Rig| -> Vec<String> {
        let pools = rig.fleet.state().pools.values();
        pools
            .flat_map(|pool| pool.offerings.keys().cloned())
            .collect()
    };
    for id in rig.of(Phase::PendingRegistration) {
        rig.register(&id);
        rig.full(&id, 45);
    }
    assert_eq!(remembered(&rig), [R1, R2]);
    for id in rig.of(Phase::Running) {
        if rig.instance(&id).offering.region == "r1" {
            rig.take(super::Input::EndInstance {
                instance: id,
                reason: String::new(),
            });
        }
    }
    rig.run(5);
    assert_eq!(remembered(&rig), [R1, R2]);
    rig.pass(3601);
    rig.run(1);
    assert_eq!(remembered(&rig), [R2]);
}

#[test]
fn a_repair_waits_only_while_every_offering_is_behind_an_open_breaker() {
    use navarch_model::{Breaker, Stamp};
    let mut rig = Rig::new(&yaml(1, ""));
    rig.up(1);
    let pool = navarch_model::PoolName::new("main");
    let settings = rig.fleet.settings().clone();
    let settings = &settings.pools[&pool];
    let now = rig.now.core;
    let (later, over) = (now + Duration::from_secs(1), now);
    // How many offerings are behind a breaker whose wait is over then, for how many repairs that are
    // planned already, and whether another may begin.
    for (behind, probe_at, planned, expected) in [
        (0, later, 0, true),
        (1, later, 0, true),
        (2, later, 1, true),
        (3, later, 0, false),
        // The repair is the one launch that is tried.
        (3, over, 0, true),
        (3, over, 1, false),
    ] {
        let open = Breaker {
            opened: Some(Stamp::default()),
            probe_at: Some(probe_at),
            ..Breaker::default()
        };
        for one in &settings.offerings[..behind] {
            rig.fleet
                .change_offerings(&pool, [&*one.offering], |memory| {
                    memory.breaker = open.clone();
                });
        }
        let found = rig.fleet.offering_is_open(&pool, settings, planned, now);
        let may = found.is_ok();
        assert_eq!(may, expected, "{behind} {probe_at:?} {planned}: {found:?}");
    }
    // A machine that is missing is tried first.
    rig.take(super::Input::ScalePool {
        pool: pool.clone(),
        nodes: 2,
        reason: String::new(),
    });
    let found = rig.fleet.offering_is_open(&pool, settings, 0, now);
    assert_eq!(found.map_err(|block| block.cause), Err("probing"));
}

#[test]
fn a_pool_that_grows_beyond_its_minimum_asks_for_prices_again() {
    for (min, asked) in [(2, 4), (0, 1)] {
        let mut rig = Rig::new(&yaml(min, "    strategy: cost\n    max_price: 10\n"));
        let fake = vec![offer("r1", 9, true)];
        rig.offers.insert("fake".to_owned(), Ok(Some(fake)));
        rig.run(5);
        // What was listed does not survive a start.
        rig.start();
        rig.take(super::Input::ScalePool {
            pool: navarch_model::PoolName::new("main"),
            nodes: asked,
            reason: String::new(),
        });
        rig.run(10);
        assert_eq!(bought(&rig), counts([(R1, asked as usize)]), "from {min}");
    }
}

#[test]
fn a_machine_that_serves_says_nothing_of_a_refusal() {
    let mut rig = Rig::new(&yaml(1, ""));
    rig.run(5);
    let first = rig.of(Phase::PendingRegistration).remove(0);
    refuse(&mut rig, &[R1], ProviderErrorKind::Auth);
    rig.configure(&yaml(2, ""));
    rig.run(5);
    assert_eq!(bought(&rig), counts([(R1, 1), (R3, 1)]));
    rig.register(&first);
    rig.full(&first, 45);
    let memory = &rig.fleet.state().pools.values().next().unwrap().offerings[R1];
    assert!(memory.proven);
    assert_eq!(memory.refused, Some(ProviderErrorKind::Auth));
    assert!(memory.refusals > 0 && memory.retry_at.is_some());
}

#[test]
fn a_refusal_that_concerns_many_offerings_of_a_pool_is_one_change_of_it() {
    let zones = yaml(1, "").replace("regions: [r1, r2]", "regions: [r1, r2], zones: [a, b]");
    let mut rig = Rig::new(&zones);
    rig.plan();
    rig.plan();
    let (key, _) = rig.launches().pop().unwrap();
    let answers = [
        Err(ProviderError::new(ProviderErrorKind::Auth, "as told")),
        Ok(navarch_model::Machine {
            provider_id: navarch_model::ProviderInstanceId::new("m-1"),
            instance: Some(key.instance.clone()),
            fleet: None,
            status: navarch_model::CloudStatus::Running,
            interruption_at: None,
        }),
    ];
    for result in answers {
        let key = key.clone();
        let input = super::Input::LaunchResult { key, result };
        let applied = rig.fleet.apply(input, rig.now, &mut rig.ids);
        let pools = applied.changes.iter();
        let pools = pools.filter(|change| matches!(change, navarch_model::Change::Pool(_)));
        assert_eq!(pools.count(), 1);
    }
}

#[test]
fn a_machine_that_is_found_belongs_to_the_offering_that_is_nearest() {
    let at = |keys: &str| {
        let text = yaml(1, "").replace("regions: [r1, r2]", keys);
        let settings = super::settings(&text, navarch_model::Idempotency::TokenOrName);
        let pool = settings.pools[&navarch_model::PoolName::new("main")].clone();
        move |region: &str, zone: &str, kind: &str| {
            let is = navarch_model::Description {
                region: region.to_owned(),
                zone: zone.to_owned(),
                instance_type: kind.to_owned(),
                ..navarch_model::Description::default()
            };
            let provider = navarch_model::ProviderName::new("fake");
            pool.found_at(&provider, Some(&is))
                .unwrap()
                .name
                .to_string()
        }
    };
    let any_zone = at("regions: [r1, r2]");
    assert_eq!(
        any_zone("r2", "r2-b", "gpu"),
        R2,
        "the cloud chose the zone"
    );
    let zones = at("regions: [r1, r2], zones: [a, b]");
    assert_eq!(zones("r2", "b", "gpu"), "fake/r2/b/gpu");
    assert_eq!(
        zones("r2", "c", "gpu"),
        "fake/r2/a/gpu",
        "the region is right"
    );
    assert_eq!(zones("r2", "b", "tpu"), "fake/r1/a/gpu", "nothing is");
    assert_eq!(zones("r9", "b", "gpu"), "fake/r1/a/gpu");
}

#[test]
fn a_cloud_that_does_not_answer_is_left_for_one_that_does() {
    for kind in [ProviderErrorKind::Transient, ProviderErrorKind::RateLimit] {
        let mut rig = Rig::new(&yaml(3, ""));
        refuse(&mut rig, &[R1], kind);
        rig.run(30);
        assert_eq!(bought(&rig), counts([]), "it may be over in a moment");
        let asked = rig.of(Phase::Launching);
        assert_eq!(asked.len(), 3);
        // Until then each is tried again, and the report says when.
        for id in &asked {
            assert!(rig.waits().contains(&(id.as_str(), "offering_rest")));
        }
        let mut seconds = 0;
        while bought(&rig) != counts([(R2, 3)]) {
            rig.run(1);
            seconds += 1;
            assert!(seconds < 1770, "{kind:?}");
        }
        assert_eq!(standings(&rig)[0], "offering_rest refused");
        for id in &asked {
            assert_eq!(rig.instance(id).end, Some(EndCause::Moved));
        }
        let report = &rig.report.pools.values().next().unwrap().offerings[0];
        let why = format!("launches at {R1} fail: {}: as ordered", kind.word());
        assert_eq!(report.standing.block().unwrap().reason, why);
        // One launch finds that it is over.
        rig.refusals.clear();
        rig.configure(&yaml(6, ""));
        rig.run(600);
        assert_eq!(standings(&rig)[0], "1");
    }
}

#[test]
fn an_only_cloud_that_does_not_answer_is_asked_again_and_again() {
    let only = yaml(1, "")
        .replace("regions: [r1, r2]", "regions: [r1]")
        .replace(", {name: far, regions: [r3], priority: 1}", "");
    let mut rig = Rig::new(&only);
    refuse(&mut rig, &[R1], ProviderErrorKind::Transient);
    rig.run(1800);
    assert_eq!(standings(&rig), ["1"], "nothing is gained by a rest");
    rig.refusals.clear();
    rig.run(301);
    assert_eq!(bought(&rig), counts([(R1, 1)]));
}

#[test]
fn launches_that_are_called_back_say_nothing_of_their_cloud() {
    let mut rig = Rig::new(&yaml(0, ""));
    let size = |rig: &mut Rig, nodes| {
        rig.take(super::Input::ScalePool {
            pool: navarch_model::PoolName::new("main"),
            nodes,
            reason: String::new(),
        });
    };
    size(&mut rig, 1);
    rig.plan();
    let intent = rig.of(Phase::Requested).remove(0);
    for _ in 0..8 {
        rig.plan();
        let (key, _) = rig.launches().pop().unwrap();
        size(&mut rig, 0);
        rig.launch_not_begun(&key);
        size(&mut rig, 1);
        rig.pass(10);
    }
    rig.plan();
    let intent = rig.instance(&intent);
    assert_eq!((intent.attempt, intent.launches), (9, 1));
    assert_eq!(standings(&rig)[0], "1");
}

/// Lets time pass until a launch is asked for.
fn next_launch(rig: &mut Rig) -> crate::CallKey {
    for _ in 0..600 {
        rig.pass(1);
        rig.take(super::Input::Tick);
        rig.plan();
        if let Some((key, _)) = rig.launches().pop() {
            return key;
        }
        rig.answer();
    }
    panic!("no launch is asked for")
}

#[test]
fn launches_that_were_begun_before_they_were_called_back_speak_for_their_cloud() {
    let mut rig = Rig::new(&yaml(0, ""));
    let size = |rig: &mut Rig, nodes| {
        rig.take(super::Input::ScalePool {
            pool: navarch_model::PoolName::new("main"),
            nodes,
            reason: String::new(),
        });
    };
    size(&mut rig, 1);
    for _ in 0..5 {
        let key = next_launch(&mut rig);
        size(&mut rig, 0);
        rig.launch_fails(&key, ProviderErrorKind::Transient);
        size(&mut rig, 1);
    }
    rig.plan();
    assert_eq!(standings(&rig)[0], "offering_rest refused");
}

#[test]
fn a_launch_whose_turn_does_not_come_in_time_is_asked_for_elsewhere() {
    let mut rig = Rig::new(&yaml(1, ""));
    for _ in 0..5 {
        let key = next_launch(&mut rig);
        rig.launch_not_begun(&key);
    }
    rig.run(5);
    assert_eq!(bought(&rig), counts([(R2, 1)]));
}

/// Two pools at one cloud, of which only the second buys by price.
fn two_pools() -> Rig {
    let text = yaml(1, "").replace(
        "pools:\n",
        "pools:
  dear: {provider: fake, regions: [r1], instance_type: gpu, min_nodes: 1, max_nodes: 2, max_price: 10}
",
    );
    let mut rig = Rig::new(&text);
    let fake = vec![offer("r1", 9, true)];
    rig.offers.insert("fake".to_owned(), Ok(Some(fake)));
    rig
}

fn asks_for_prices(actions: &[crate::Action]) -> bool {
    let asks = |action: &crate::Action| matches!(action, crate::Action::Prices { .. });
    actions.iter().any(asks)
}

#[test]
fn a_price_list_concerns_only_the_pools_that_buy_by_it() {
    let mut rig = two_pools();
    let pool = |name| navarch_model::PoolName::new(name);
    rig.run(30);
    rig.pass(700);
    rig.take(super::Input::Tick);
    rig.plan();
    rig.take(super::Input::ScalePool {
        pool: pool("dear"),
        nodes: 2,
        reason: String::new(),
    });
    for _ in 0..3 {
        rig.plan();
    }
    // The question is under way, and nothing else.
    let asked = rig.drop_calls();
    let asks = |effect: &super::Effect| matches!(effect, super::Effect::Prices { .. });
    assert!(asked.iter().any(asks), "{asked:?}");
    assert_eq!(rig.fleet.plan(rig.now).pools(), 0);
    rig.take(super::Input::PricesResult {
        provider: navarch_model::ProviderName::new("fake"),
        result: Ok(Some(vec![offer("r1", 8, true)])),
    });
    let plan = rig.fleet.plan(rig.now);
    assert!(plan.is_about(&pool("dear")) && !plan.is_about(&pool("main")));
}

#[test]
fn a_new_configuration_keeps_the_lists_of_what_it_names() {
    let text = yaml(1, "    max_price: 10\n");
    let mut rig = Rig::new(&text);
    let fake = vec![offer("r1", 9, true), offer("r2", 9, true)];
    rig.offers.insert("fake".to_owned(), Ok(Some(fake)));
    rig.run(5);
    for (other, asked) in [
        (text.replace("max_nodes: 20", "max_nodes: 21"), false),
        (text.replace("regions: [r1, r2]", "regions: [r1]"), false),
        (text.replace("regions: [r1, r2]", "regions: [r1, r4]"), true),
    ] {
        rig.configure(&other.replace("min_nodes: 1", "min_nodes: 2"));
        assert_eq!(asks_for_prices(&rig.plan()), asked, "{other}");
        rig.configure(&text);
        rig.run(5);
    }
}

/// A pool that is full and buys below ten dollars, and that knows no price any more.
fn full_and_dear() -> (Rig, navarch_model::InstanceId) {
    let mut rig = Rig::new(&yaml(2, "    max_price: 10\n"));
    let fake = vec![offer("r1", 9, true)];
    rig.offers.insert("fake".to_owned(), Ok(Some(fake)));
    let up = rig.up(2);
    // Nobody wants a machine, so nobody asks.
    for _ in 0..4 {
        rig.pass(500);
        rig.take(super::Input::Tick);
        rig.plan();
        for id in &up {
            rig.full(id, 45);
        }
    }
    assert_eq!(standings(&rig)[0], "max_price unknown");
    rig.drop_calls();
    (rig, up[0].clone())
}

#[test]
fn a_repair_asks_for_prices_before_it_begins() {
    let (mut rig, id) = full_and_dear();
    rig.xid(&id, 79, 0);
    let actions = rig.plan();
    assert!(asks_for_prices(&actions), "{actions:?}");
    assert!(
        rig.waits().contains(&(id.as_str(), "listing")),
        "{:?}",
        rig.waits()
    );
    assert!(rig.node(&id).our_drain().is_none());
    rig.answer();
    rig.plan();
    assert!(rig.node(&id).our_drain().is_some());
    rig.run(5);
    assert_eq!(
        bought(&rig),
        counts([(R1, 3)]),
        "its replacement comes first"
    );
}

#[test]
fn a_repair_does_not_begin_where_nothing_is_to_be_had_at_its_price() {
    let down = ProviderError::new(ProviderErrorKind::Transient, "down");
    let dearer = Ok(Some(vec![offer("r1", 12, true)]));
    for now in [Err(down), dearer] {
        let (mut rig, id) = full_and_dear();
        rig.offers.insert("fake".to_owned(), now.clone());
        rig.xid(&id, 79, 0);
        rig.run(120);
        assert!(rig.node(&id).our_drain().is_none(), "{now:?}");
        assert!(
            rig.waits().contains(&(id.as_str(), "max_price")),
            "{:?}",
            rig.waits()
        );
        // It is asked for again, and the repair goes on.
        let fake = vec![offer("r1", 9, true)];
        rig.offers.insert("fake".to_owned(), Ok(Some(fake)));
        rig.run(620);
        assert!(rig.node(&id).our_drain().is_some(), "{now:?}");
    }
}

#[test]
fn a_list_that_gets_old_is_a_reason_to_plan_for_what_is_to_be_repaired() {
    let mut rig = Rig::new(&yaml(2, "    max_price: 10\n    budget: 0\n"));
    let fake = vec![offer("r1", 9, true)];
    rig.offers.insert("fake".to_owned(), Ok(Some(fake)));
    let up = rig.up(2);
    rig.xid(&up[0], 79, 0);
    // The rig compares each plan with the plan of every pool.
    rig.run(650);
    assert!(rig.waits().contains(&(up[0].as_str(), "budget")));
}

#[test]
fn an_offering_that_rested_is_shown_as_open_once_its_rest_is_over() {
    let mut rig = Rig::new(&yaml(1, ""));
    refuse(&mut rig, &[R1], ProviderErrorKind::Capacity);
    rig.run(10);
    assert_eq!(bought(&rig), counts([(R2, 1)]));
    assert_eq!(standings(&rig)[0], "offering_rest refused");
    rig.run(61);
    assert_eq!(standings(&rig)[0], "1");
}

#[test]
fn launches_whose_outcome_is_unknown_do_not_keep_others_from_being_made() {
    let mut rig = Rig::new(&yaml(4, "    parallel_launches: 2\n"));
    rig.plan();
    rig.plan();
    let launches = rig.launches();
    assert_eq!(launches.len(), 2);
    for (key, _) in &launches {
        rig.launch_fails(key, ProviderErrorKind::OutcomeUnknown);
    }
    assert_eq!(rig.of(Phase::OutcomeUnknown).len(), 2);
    rig.plan();
    assert_eq!(rig.of(Phase::Requested).len(), 2);
}

#[test]
fn a_list_that_is_too_old_to_be_believed_is_a_reason_to_plan() {
    let mut rig = Rig::new(&yaml(2, "    max_price: 10\n    automation: observe\n"));
    let fake = vec![offer("r1", 9, true)];
    rig.offers.insert("fake".to_owned(), Ok(Some(fake)));
    rig.run(5);
    assert_eq!(standings(&rig)[0], "1");
    let down = ProviderError::new(ProviderErrorKind::Transient, "down");
    rig.offers.insert("fake".to_owned(), Err(down.clone()));
    rig.offers.insert("far".to_owned(), Err(down));
    // The rig compares each plan with the plan of every pool.
    rig.run(1900);
    assert_eq!(standings(&rig)[0], "max_price unknown");
}

#[test]
fn an_intent_moves_when_another_offering_opens() {
    let mut rig = Rig::new(&yaml(3, ""));
    refuse(&mut rig, &[R1, R2, R3], ProviderErrorKind::Transient);
    // The rig compares each plan with the plan of every pool. Plans may be later than the last input.
    for _ in 0..1800 {
        rig.pass(1);
        rig.plan();
        rig.take(super::Input::Tick);
        rig.plan();
        rig.answer();
    }
    rig.refusals.remove(R3);
    rig.run(600);
    assert_eq!(bought(&rig), counts([(R3, 3)]));
}

#[test]
fn launches_that_were_called_back_do_not_wait_for_each_other() {
    let only = yaml(3, "")
        .replace("regions: [r1, r2]", "regions: [r1]")
        .replace(", {name: far, regions: [r3], priority: 1}", "");
    let mut rig = Rig::new(&only);
    rig.plan();
    rig.plan();
    let launches = rig.launches();
    for ((key, _), kind) in launches.iter().zip([
        ProviderErrorKind::Capacity,
        ProviderErrorKind::Transient,
        ProviderErrorKind::Transient,
    ]) {
        rig.launch_fails(key, kind);
    }
    rig.drop_calls();
    // The rest is a minute at most, and what is not begun is no unknown outcome yet.
    rig.run(100);
    assert_eq!(bought(&rig), counts([(R1, 3)]));
}

#[test]
fn an_intent_that_would_move_waits_for_its_own_offering_once_that_is_open_again() {
    let mut rig = Rig::new(&yaml(3, ""));
    rig.plan();
    rig.plan();
    let launches = rig.launches();
    rig.take(super::Input::SetAutomation {
        pool: None,
        mode: navarch_model::Automation::Off,
        reason: String::new(),
    });
    let kinds = [ProviderErrorKind::Capacity, ProviderErrorKind::Transient];
    for ((key, _), kind) in launches.iter().zip(kinds) {
        rig.launch_fails(key, kind);
    }
    rig.plan();
    let intent = launches[1].0.instance.clone();
    let says = |rig: &Rig| {
        let said = rig.explain(&[(&intent, "it")]);
        let of_it = said.into_iter().find(|line| line.contains(" it waits for"));
        of_it.unwrap_or_default()
    };
    let off = "waits for automation: automation is off";
    assert_eq!(says(&rig), format!("give up the launch of it {off}"));
    // No fact changes until the rest is over; the rig compares each plan with the plan of every pool.
    for _ in 0..61 {
        rig.pass(1);
        rig.plan();
    }
    assert_eq!(says(&rig), format!("launch it {off}"));
}
