//! Tables of placement, written by hand, and what holds for every fleet.

use navarch_model::Time;
use proptest::prelude::*;
use proptest::strategy::Strategy as AnyValue;

use super::Strategy;
use super::*;

fn price(dollars: u64) -> Price {
    Price::from_micros(dollars * 1_000_000)
}

/// A candidate of its own with one offering.
fn one(group: usize) -> Candidate {
    Candidate {
        group,
        priority: 0,
        weight: 1,
        machines: 0,
        listed: Listed::NoList,
        max_price: None,
        block: None,
    }
}

fn listed(group: usize, dollars: Option<u64>, available: Option<bool>) -> Candidate {
    Candidate {
        listed: Listed::Found {
            price: dollars.map(price),
            available,
        },
        ..one(group)
    }
}

fn resting() -> Option<Block> {
    Some(Block::new("offering_rest", "refused", "sold out").until(Time(60)))
}

fn blocked(candidate: Candidate) -> Candidate {
    Candidate {
        block: resting(),
        ..candidate
    }
}

fn ranked(strategy: Strategy, candidates: &[Candidate]) -> Ranking {
    rank(strategy, candidates, |place| format!("offering {place}"))
}

fn order(strategy: Strategy, candidates: &[Candidate]) -> Vec<usize> {
    ranked(strategy, candidates).order
}

fn with_priorities(priorities: &[i32]) -> Vec<Candidate> {
    let with = |(group, priority): (usize, &i32)| Candidate {
        priority: *priority,
        ..one(group)
    };
    priorities.iter().enumerate().map(with).collect()
}

#[test]
fn priority_asks_the_lowest_first_and_ties_in_the_order_of_the_file() {
    for (priorities, expected) in [
        (&[0][..], &[0][..]),
        (&[3, 1, 2], &[1, 2, 0]),
        (&[1, 1, 1], &[0, 1, 2]),
        (&[2, -1, 2], &[1, 0, 2]),
        (&[], &[]),
    ] {
        let candidates = with_priorities(priorities);
        assert_eq!(
            order(Strategy::Priority, &candidates),
            expected,
            "{priorities:?}"
        );
    }
}

#[test]
fn what_rests_is_passed_over_and_comes_back_with_its_rank() {
    let mut candidates = with_priorities(&[1, 2, 3]);
    candidates[0] = blocked(candidates[0].clone());
    let ranking = ranked(Strategy::Priority, &candidates);
    assert_eq!(ranking.order, [1, 2]);
    assert_eq!(
        ranking.standings,
        [
            Standing::Closed(resting().unwrap()),
            Standing::Open(1),
            Standing::Open(2)
        ]
    );
    candidates[0].block = None;
    assert_eq!(order(Strategy::Priority, &candidates), [0, 1, 2]);
}

#[test]
fn when_all_rest_nothing_is_asked_and_each_says_when_it_is_again() {
    let candidates: Vec<_> = (0..3).map(|group| blocked(one(group))).collect();
    for (_, strategy) in Strategy::WORDS {
        let ranking = ranked(strategy, &candidates);
        assert_eq!(ranking.first(), None);
        for standing in ranking.standings {
            assert_eq!(
                standing.block().and_then(|block| block.until),
                Some(Time(60))
            );
        }
    }
}

#[test]
fn cost_asks_the_cheapest_first_and_what_has_no_price_last() {
    let candidates = [
        one(0),
        listed(1, Some(30), Some(true)),
        listed(2, None, Some(true)),
        listed(3, Some(10), Some(true)),
        listed(4, Some(20), Some(false)),
        Candidate {
            priority: -1,
            ..listed(5, Some(30), None)
        },
        Candidate {
            listed: Listed::Unknown,
            ..one(6)
        },
    ];
    let ranking = ranked(Strategy::Cost, &candidates);
    assert_eq!(ranking.order, [3, 5, 1, 0, 2, 6]);
    let block = ranking.standings[4].block().expect("it is sold out");
    assert_eq!((block.guard, block.cause), ("listing", "sold_out"));
    assert_eq!(block.reason, "the cloud lists offering 4 as sold out");
}

#[test]
fn availability_asks_what_has_machines_by_priority_and_what_nobody_knows_last() {
    let candidates = [
        Candidate {
            listed: Listed::Unknown,
            ..one(0)
        },
        Candidate {
            priority: 2,
            ..listed(1, None, Some(true))
        },
        Candidate {
            listed: Listed::Missing,
            ..one(2)
        },
        listed(3, Some(1), Some(false)),
        // A cloud without a list is taken to have machines.
        Candidate {
            priority: 1,
            ..one(4)
        },
    ];
    let ranking = ranked(Strategy::Availability, &candidates);
    assert_eq!(ranking.order, [4, 1, 0]);
    let causes = [2, 3].map(|place| ranking.standings[place].block().unwrap().cause);
    assert_eq!(causes, ["missing", "sold_out"]);
}

#[test]
fn a_list_that_the_strategy_does_not_ask_for_decides_nothing() {
    let candidates = [
        listed(0, Some(1), Some(false)),
        Candidate {
            listed: Listed::Missing,
            ..one(1)
        },
    ];
    for strategy in [Strategy::Priority, Strategy::RoundRobin] {
        assert_eq!(order(strategy, &candidates), [0, 1], "{strategy:?}");
    }
}

#[test]
fn a_limit_on_the_price_holds_for_every_strategy_and_refuses_what_has_no_price() {
    let limited = |candidate| Candidate {
        max_price: Some(price(10)),
        ..candidate
    };
    let candidates = [
        limited(listed(0, Some(11), Some(true))),
        limited(listed(1, Some(10), Some(true))),
        limited(listed(2, None, Some(true))),
        limited(one(3)),
        one(4),
    ];
    for (_, strategy) in Strategy::WORDS {
        let ranking = ranked(strategy, &candidates);
        let mut open = ranking.order.clone();
        open.sort_unstable();
        assert_eq!(open, [1, 4], "{strategy:?}");
        let reasons: Vec<_> = [0, 2]
            .map(|place| ranking.standings[place].block().unwrap().reason.clone())
            .into();
        assert_eq!(
            reasons,
            [
                "offering 0 costs $11.00/h; max_price is $10.00/h",
                "the price of offering 2 is not known, and max_price is $10.00/h",
            ]
        );
    }
}

/// Buys machines one after another and counts them.
fn bought(candidates: &mut [Candidate], count: usize) -> Vec<usize> {
    for _ in 0..count {
        if let Some(place) = ranked(Strategy::RoundRobin, candidates).first() {
            candidates[place].machines += 1;
        }
    }
    candidates.iter().map(|one| one.machines).collect()
}

#[test]
fn round_robin_gives_each_its_weight_of_the_machines_that_are_there() {
    let weighted = |weights: &[u32]| -> Vec<Candidate> {
        let with = |(group, weight): (usize, &u32)| Candidate {
            weight: *weight,
            ..one(group)
        };
        weights.iter().enumerate().map(with).collect()
    };
    for (weights, count, expected) in [
        (&[1, 1, 1][..], 6, &[2, 2, 2][..]),
        (&[2, 1], 6, &[4, 2]),
        (&[3, 1], 8, &[6, 2]),
        // A weight that is missing counts as 1.
        (&[0, 1], 4, &[2, 2]),
        (&[5], 3, &[3]),
    ] {
        assert_eq!(
            bought(&mut weighted(weights), count),
            expected,
            "{weights:?}"
        );
    }
    // The first of equal ones, then the others: as the reference's selector.
    let mut three = weighted(&[1, 1, 1]);
    let firsts: Vec<_> = (0..4)
        .map(|_| {
            let place = ranked(Strategy::RoundRobin, &three).first().unwrap();
            three[place].machines += 1;
            place
        })
        .collect();
    assert_eq!(firsts, [0, 1, 2, 0]);
}

#[test]
fn a_machine_that_is_lost_is_bought_again_where_it_was_and_a_stock_out_is_caught_up() {
    let mut two = [one(0), one(1)];
    assert_eq!(bought(&mut two, 4), [2, 2]);
    two[1].machines = 1;
    assert_eq!(ranked(Strategy::RoundRobin, &two).first(), Some(1));
    two[1].block = resting();
    assert_eq!(bought(&mut two, 2), [4, 1]);
    two[1].block = None;
    assert_eq!(bought(&mut two, 3), [4, 4]);
}

#[test]
fn the_zones_of_one_candidate_share_its_weight() {
    // Three zones of the first, one of the second.
    let mut zones = [one(0), one(0), one(0), one(1)];
    assert_eq!(bought(&mut zones, 6), [1, 1, 1, 3]);
}

#[test]
fn refusals_say_what_rests() {
    for kind in ProviderErrorKind::ALL {
        let expected = match kind {
            ProviderErrorKind::Auth => Scope::Provider,
            ProviderErrorKind::Quota => Scope::Region,
            _ => Scope::Offering,
        };
        assert_eq!(scope(kind), expected, "{kind:?}");
    }
}

#[test]
fn limits_on_calls_under_way() {
    for (under_way, limit, blocked) in [
        (0, None, false),
        (1000, None, false),
        (0, Some(1), false),
        (1, Some(1), true),
        (3, Some(2), true),
    ] {
        assert_eq!(
            parallel_launches(under_way, limit).is_some(),
            blocked,
            "{under_way} {limit:?}"
        );
    }
    for (refusals, asking, blocked) in [(0, 9, false), (1, 0, false), (1, 1, true), (9, 2, true)] {
        assert_eq!(
            one_at_a_time("x", refusals, asking).is_some(),
            blocked,
            "{refusals} {asking}"
        );
    }
}

fn any_listed() -> impl AnyValue<Value = Listed> {
    prop_oneof![
        Just(Listed::NoList),
        Just(Listed::Unknown),
        Just(Listed::Missing),
        (
            proptest::option::of(0_u64..5),
            proptest::option::of(any::<bool>())
        )
            .prop_map(|(dollars, available)| Listed::Found {
                price: dollars.map(price),
                available
            }),
    ]
}

fn any_candidate() -> impl AnyValue<Value = Candidate> {
    (
        0_usize..4,
        -2_i32..3,
        0_u32..4,
        0_usize..5,
        any_listed(),
        proptest::option::of(0_u64..5),
        any::<bool>(),
    )
        .prop_map(
            |(group, priority, weight, machines, listed, most, rests)| Candidate {
                group,
                priority,
                weight,
                machines,
                listed,
                max_price: most.map(price),
                block: if rests { resting() } else { None },
            },
        )
}

fn full_at(place: usize) -> Block {
    Block::new("launch_breaker", "unproven", format!("{place} is full"))
}

fn any_strategy() -> impl AnyValue<Value = Strategy> {
    proptest::sample::select(Strategy::WORDS.map(|(_, strategy)| strategy).to_vec())
}

proptest! {
    #[test]
    fn every_offering_is_open_or_says_why_not(
        strategy in any_strategy(),
        candidates in proptest::collection::vec(any_candidate(), 0..8),
    ) {
        let ranking = ranked(strategy, &candidates);
        prop_assert_eq!(ranking.standings.len(), candidates.len());
        for (place, standing) in ranking.standings.iter().enumerate() {
            match standing {
                Standing::Open(rank) => prop_assert_eq!(ranking.order[rank - 1], place),
                Standing::Closed(block) => {
                    prop_assert!(!ranking.order.contains(&place));
                    prop_assert!(!block.reason.is_empty());
                }
            }
        }
    }

    #[test]
    fn nothing_is_bought_above_its_limit_or_without_a_price_where_there_is_one(
        strategy in any_strategy(),
        candidates in proptest::collection::vec(any_candidate(), 1..8),
    ) {
        for place in ranked(strategy, &candidates).order {
            let one = &candidates[place];
            if let Some(most) = one.max_price {
                prop_assert!(one.listed.price().is_some_and(|price| price <= most));
            }
        }
    }

    #[test]
    fn whatever_was_refused_before_what_rests_no_more_is_asked(
        strategy in any_strategy(),
        count in 1_usize..8,
    ) {
        // A total stock-out, and then the rests are over.
        let mut candidates: Vec<_> = (0..count).map(|group| blocked(one(group))).collect();
        prop_assert_eq!(ranked(strategy, &candidates).first(), None);
        for one in &mut candidates {
            one.block = None;
        }
        prop_assert_eq!(ranked(strategy, &candidates).order.len(), count);
    }

    #[test]
    fn the_order_of_the_file_decides_between_equals_alone(
        strategy in any_strategy(),
        candidates in proptest::collection::vec(any_candidate(), 1..8),
        seed in any::<u64>(),
    ) {
        // Candidates that differ in every respect that the strategies look at.
        let distinct: Vec<Candidate> = candidates
            .into_iter()
            .enumerate()
            .map(|(group, one)| Candidate {
                group,
                priority: group as i32,
                weight: 1,
                machines: group * 2,
                listed: match one.listed {
                    Listed::Found { available, .. } => Listed::Found {
                        price: Some(price(group as u64)),
                        available,
                    },
                    other => other,
                },
                ..one
            })
            .collect();
        let mut places: Vec<usize> = (0..distinct.len()).collect();
        places.sort_by_key(|place| (*place as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let shuffled: Vec<_> = places.iter().map(|place| distinct[*place].clone()).collect();
        let by_group = |candidates: &[Candidate]| -> Vec<usize> {
            let order = ranked(strategy, candidates).order;
            order.into_iter().map(|place| candidates[place].group).collect()
        };
        prop_assert_eq!(by_group(&distinct), by_group(&shuffled));
    }

    /// Machines that are placed one after the other go where a ranking of all puts each of them.
    #[test]
    fn turns_are_what_a_ranking_says_first_each_time(
        strategy in any_strategy(),
        candidates in proptest::collection::vec(any_candidate(), 0..9),
        room in proptest::collection::vec(0_usize..5, 9),
        count in 0_usize..30,
    ) {
        let mut ranked_anew = candidates.clone();
        let mut turns = Turns::new(strategy, candidates.clone());
        let mut placed = vec![0; candidates.len()];
        for _ in 0..count {
            for (place, one) in ranked_anew.iter_mut().enumerate() {
                one.machines = candidates[place].machines + placed[place];
                let full = placed[place] >= room[place];
                one.block = candidates[place].block.clone().or_else(|| full.then(|| full_at(place)));
            }
            let judge = |place: usize| {
                let full = placed[place] >= room[place];
                candidates[place].block.clone().or_else(|| full.then(|| full_at(place)))
            };
            let ranking = ranked(strategy, &ranked_anew);
            let next = turns.next(|place| format!("offering {place}"), judge);
            prop_assert_eq!(next, ranking.first());
            let Some(place) = next else {
                let blocks: Vec<_> = ranking.standings.iter().filter_map(Standing::block).collect();
                prop_assert_eq!(turns.closed(), blocks);
                break;
            };
            turns.take(place);
            placed[place] += 1;
        }
    }

    #[test]
    fn shares_stay_within_one_machine_of_their_weight(
        weights in proptest::collection::vec(1_u32..6, 1..6),
        count in 0_usize..60,
    ) {
        let mut candidates: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(group, weight)| Candidate { weight: *weight, ..one(group) })
            .collect();
        let machines = bought(&mut candidates, count);
        let total: u32 = weights.iter().sum();
        for (machines, weight) in machines.iter().zip(&weights) {
            let fair = count as f64 * f64::from(*weight) / f64::from(total);
            prop_assert!((*machines as f64 - fair).abs() <= weights.len() as f64, "{machines} {fair}");
        }
    }
}
