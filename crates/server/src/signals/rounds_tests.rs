//! How long a round takes, and when the next one begins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use navarch_config::{Question, Source, Url};
use navarch_core::{Input, Settings};
use navarch_model::{FleetId, State};
use navarch_policy::HealthPolicy;
use navarch_time::{Clock as _, SharedClock, Tasks, VirtualClock};
use tokio::sync::mpsc;

use super::{AT_ONCE, Call, Gatherer, Open, QueueSource, ask};
use crate::fleet::{FleetHandle, Job};
use crate::publish::Published;

/// A source that takes its time.
struct Slow(SharedClock, Duration);

impl QueueSource for Slow {
    fn depth(&self) -> Call<'_> {
        Box::pin(async {
            self.0.sleep(self.1).await;
            Ok(7.0)
        })
    }
}

#[test]
fn a_round_ends_in_time_however_many_sources_hang() {
    let clock = VirtualClock::new();
    clock.run(async {
        let open: Open = (0..5 * AT_ONCE)
            .map(|number| {
                let question = Question::Http {
                    url: Url::new(format!("http://q/{number}")),
                    pointer: String::new(),
                };
                let source = Source {
                    question,
                    headers: BTreeMap::new(),
                    timeout: Duration::from_secs(4),
                };
                // The first few answer, in whatever time the others leave.
                let takes = Duration::from_secs(if number < 4 { 3 } else { 3600 });
                let slow: Arc<dyn QueueSource> = Arc::new(Slow(clock.shared(), takes));
                (source, Ok(slow))
            })
            .collect();
        let begun = clock.monotonic();
        let told = ask(&open, Duration::from_secs(10), &clock.shared()).await;
        assert_eq!(clock.monotonic() - begun, Duration::from_secs(10));
        assert_eq!(told.len(), 5 * AT_ONCE);
        let number = |wanted: &str| {
            let is_it = |told: &Result<f64, String>| match told {
                Ok(_) => wanted == "answered",
                Err(why) => why.contains(wanted),
            };
            told.iter().filter(|(_, told)| is_it(told)).count()
        };
        assert_eq!(number("answered"), 4);
        assert_eq!(number("no answer within 4 s"), 28);
        assert_eq!(
            number("no answer within 2 s") + number("no answer within 3 s"),
            16
        );
        assert_eq!(number("not asked in time"), 32);
    });
}

/// Settings with pools that have autoscalers.
fn settings(interval: &str, pools: &[&str]) -> Arc<Settings> {
    let pools = pools.iter().map(|pool| {
        format!(
            "  {pool}: {{provider: fake, instance_type: x, max_nodes: 5, autoscaling: {{type: reactive}}}}\n"
        )
    });
    let text = format!(
        "server: {{autoscale_interval: {interval}}}\nproviders: {{fake: {{}}}}\npools:\n{}",
        pools.collect::<String>()
    );
    let (config, _) = navarch_config::Config::parse("f", &text).expect("it is sound");
    Arc::new(Settings::new(&config, |_| navarch_model::Idempotency::None))
}

/// Runs a gatherer. The test gets what is published to it, and the inputs that it submits.
fn gather(
    clock: &VirtualClock,
    tasks: &Tasks,
    settings: Arc<Settings>,
) -> (Arc<Published>, mpsc::Receiver<Job>) {
    let state = State::new(FleetId::new("fleet"));
    let published = Arc::new(Published::new(state, settings, HealthPolicy::builtin()));
    let (fleet, jobs) = FleetHandle::new(16);
    let gatherer = Gatherer {
        fleet,
        published: Arc::clone(&published),
        clock: clock.shared(),
    };
    tasks.spawn("gather signals", gatherer.run(tasks.token()));
    (published, jobs.priority)
}

/// When the next round asks to be taken, in seconds. Until the answer is dropped, it goes on.
async fn next(clock: &VirtualClock, jobs: &mut mpsc::Receiver<Job>) -> (u64, Job) {
    let job = jobs.recv().await.expect("the queue is open");
    assert!(matches!(job.input, Input::Signals(_)), "{:?}", job.input);
    (clock.monotonic().as_secs(), job)
}

#[test]
fn other_settings_count_at_once_if_they_concern_signals() {
    let clock = VirtualClock::new();
    clock.run(async {
        let tasks = Tasks::new();
        let (published, mut jobs) = gather(&clock, &tasks, settings("1h", &["dev"]));
        let mut next = async || next(&clock, &mut jobs).await.0;
        assert_eq!(next().await, 0);
        clock.shared().sleep(Duration::from_secs(60)).await;
        published.set_settings(settings("10s", &["dev"]));
        assert_eq!([next().await, next().await], [60, 70]);
        clock.shared().sleep(Duration::from_secs(3)).await;
        // The same again is no news.
        published.set_settings(settings("10s", &["dev"]));
        assert_eq!(next().await, 80);
        clock.shared().sleep(Duration::from_secs(3)).await;
        // The autoscaler of another pool needs its first signals.
        published.set_settings(settings("10s", &["dev", "prod"]));
        assert_eq!([next().await, next().await], [83, 93]);
    });
}

#[test]
fn a_round_takes_its_time_out_of_the_interval() {
    let clock = VirtualClock::new();
    clock.run(async {
        let tasks = Tasks::new();
        let (_published, mut jobs) = gather(&clock, &tasks, settings("10s", &["dev"]));
        for (begins, takes) in [(0, 4), (10, 9), (20, 13), (33, 0), (43, 0)] {
            let (at, job) = next(&clock, &mut jobs).await;
            assert_eq!(at, begins);
            clock.shared().sleep(Duration::from_secs(takes)).await;
            drop(job);
        }
    });
}
