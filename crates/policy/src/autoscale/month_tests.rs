//! A month in which the clocks of three zones change, through the scheduled autoscaler.

use navarch_config::{Config, Steps};
use navarch_model::Time;

use super::{Decision, Facts, Pace, Past, Recent, decide, recommend};

const SECOND: i64 = 1_000_000;
const QUARTER: i64 = 900;

/// Unix time in seconds.
const MARCH_1: i64 = 1_772_323_200;
const APRIL_12: i64 = 1_775_952_000;

/// A zone, the moment at which its clocks change, and how far they are ahead of UTC before and after,
/// in minutes: from the time zone database, by hand.
const ZONES: [(&str, i64, i64, i64); 3] = [
    // 8 March, 07:00 UTC: 02:00 becomes 03:00.
    ("America/New_York", 1_772_953_200, -300, -240),
    // 29 March, 01:00 UTC: 02:00 becomes 03:00.
    ("Europe/Berlin", 1_774_746_000, 60, 120),
    // 4 April, 15:00 UTC: 02:00 becomes 01:30.
    ("Australia/Lord_Howe", 1_775_314_800, 660, 630),
];

#[test]
fn windows_keep_to_the_clock_on_the_wall_when_it_changes() {
    for (zone, change, before, after) in ZONES {
        let text = format!(
            "providers: {{fake: {{}}}}
pools:
  main:
    provider: fake
    instance_type: gpu
    min_nodes: 0
    max_nodes: 8
    cooldown: 0s
    autoscaling:
      type: scheduled
      timezone: {zone}
      schedule:
        - {{start: '08:00', end: '18:00', min_nodes: 4}}
        - {{start: '18:00', end: '08:00', max_nodes: 1}}
"
        );
        let (config, _) = Config::parse("month.yaml", &text).expect("it is sound");
        let pool = config.pools.values().next().expect("there is one");
        let autoscaling = pool.autoscaling.as_ref().expect("it is configured");
        let pace = Pace {
            cooldown: pool.cooldown,
            stabilization: autoscaling.stabilization,
            step: Steps::default(),
        };
        let recent = Recent::default();
        let past = Past {
            raised: None,
            lowered: None,
            chosen: None,
            recent: &recent,
        };
        // Any size within the bounds stays: between the windows there is nothing.
        let mut size = 4;
        let mut changes = 0;
        for second in (MARCH_1..APRIL_12).step_by(QUARTER as usize) {
            let facts = Facts {
                current: size,
                serving: size,
                coming: 0,
                bounds: (0, 8),
                utilization: None,
                history: &[],
                queues: &[],
                wall: Time(second * SECOND),
            };
            let told = recommend(&autoscaling.autoscaler, pace.step, &facts);
            if let Decision::Resize { to, .. } = decide(size, &told, &pace, &past, facts.wall) {
                size = to;
                changes += 1;
            }
            let ahead = if second < change { before } else { after };
            let minute = (second / 60 + ahead).rem_euclid(24 * 60);
            let open = (8 * 60..18 * 60).contains(&minute);
            let expected = if open { 4 } else { 1 };
            assert_eq!(
                size, expected,
                "{zone}, {second}, minute {minute}: {}",
                told.reason
            );
        }
        // Two a day, and the first where the month begins at night.
        assert!((83..=85).contains(&changes), "{zone}: {changes}");
    }
}
