//! How long a round takes, and when the next one begins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use navarch_config::{Question, Source, Url};
use navarch_core::{Input, Settings};
use navarch_model::{FleetId, State};
use navarch_policy::HealthPolicy;
use navarch_time::{Clock as _, SharedClock, Tasks, VirtualClock};

use super::{AT_ONCE, Call, Gatherer, Open, QueueSource, ask};
use crate::fleet::FleetHandle;
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

#[test]
fn another_interval_counts_at_once() {
    let settings = |interval: &str| {
        let text = format!(
            "server: {{autoscale_interval: {interval}}}
providers: {{fake: {{}}}}
pools: {{dev: {{provider: fake, instance_type: x, max_nodes: 5, autoscaling: {{type: reactive}}}}}}
"
        );
        let (config, _) = navarch_config::Config::parse("f", &text).expect("it is sound");
        Arc::new(Settings::new(&config, |_| navarch_model::Idempotency::None))
    };
    let clock = VirtualClock::new();
    clock.run(async {
        let tasks = Tasks::new();
        let state = State::new(FleetId::new("fleet"));
        let published = Published::new(state, settings("1h"), HealthPolicy::builtin());
        let published = Arc::new(published);
        let (fleet, mut jobs) = FleetHandle::new(16);
        let gatherer = Gatherer {
            fleet,
            published: Arc::clone(&published),
            clock: clock.shared(),
        };
        tasks.spawn("gather signals", gatherer.run(tasks.token()));
        let mut next = async || {
            let job = jobs.priority.recv().await.expect("the queue is open");
            assert!(matches!(job.input, Input::Signals(_)), "{:?}", job.input);
            clock.monotonic().as_secs()
        };
        assert_eq!(next().await, 0);
        clock.shared().sleep(Duration::from_secs(60)).await;
        published.set_settings(settings("10s"));
        assert_eq!([next().await, next().await], [60, 70]);
        // The same interval is no news.
        published.set_settings(settings("10s"));
        assert_eq!(next().await, 80);
    });
}
