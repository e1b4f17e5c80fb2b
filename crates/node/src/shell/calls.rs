//! The calls that a step begins.

use std::sync::Arc;
use std::time::Duration;

use navarch_core::agent::{CALL_LIMIT, Outcome, Outgoing};
use navarch_gpu::GpuBackend;

use super::{Done, IDENTIFY_LIMIT, READ_LIMIT, SAMPLE_LIMIT, Shell, bounded};
use crate::freshness::{Made, Moment};
use crate::reading::{self, Reading};
use crate::watch;
use crate::wire as message;

impl Shell {
    pub(super) fn begin_register(&mut self) {
        let (clock, worker) = (Arc::clone(&self.clock), self.worker.clone());
        let (client, identity) = (self.client.clone(), Arc::clone(&self.identity));
        let (boot, session) = (self.scribe.boot.clone(), self.agent.session().clone());
        let known = self.gpus.clone();
        self.calls.push(Box::pin(async move {
            let reading = worker.ask(&*clock, IDENTIFY_LIMIT, Reading::take).await;
            let gpus = match &reading {
                Ok(reading) if reading.count.is_ok() => reading::gpus(reading, &known),
                _ => known,
            };
            let request = message::registration(&identity, &boot, &session, &gpus);
            let call = client.register_node(request);
            let result = bounded(&clock, CALL_LIMIT, call).await;
            Done::Registered(gpus, result)
        }));
    }

    pub(super) fn begin_beat(&mut self) {
        let usage = self.meter.measure();
        let (clock, worker) = (Arc::clone(&self.clock), self.worker.clone());
        let (client, identity) = (self.client.clone(), Arc::clone(&self.identity));
        let (boot, session) = (self.scribe.boot.clone(), self.agent.session().clone());
        let (hung, began) = (self.hung, self.clock.monotonic());
        let limit = self.agent.intervals().beat_limit();
        self.calls.push(Box::pin(async move {
            let samples = if hung {
                None
            } else {
                let asked = worker.ask(&*clock, SAMPLE_LIMIT, Reading::samples);
                asked.await.ok()
            };
            let gpus = samples.as_deref().unwrap_or_default();
            let request = message::heartbeat(&identity, &boot, &session, usage, gpus);
            let call = client.send_heartbeat(request);
            let result = bounded(&clock, limit, call).await.map(|_| ());
            Done::Beaten {
                result,
                samples,
                usage,
                took: clock.monotonic().saturating_sub(began),
            }
        }));
    }

    pub(super) fn begin_read(&mut self) {
        self.reading = true;
        self.read_again = false;
        let (clock, worker) = (Arc::clone(&self.clock), self.worker.clone());
        let (began, boot_time) = (self.moment(), Arc::clone(&self.boot_time));
        self.calls.push(Box::pin(async move {
            let (at, since_boot) = (Arc::clone(&clock), Arc::clone(&boot_time));
            // The driver's thread notes when it answered: it may take long until we hear.
            let question = move |backend: &dyn GpuBackend| {
                let reading = Reading::take(backend);
                (reading, Moment::now(&*at, &since_boot))
            };
            let (reading, ended) = match worker.ask(&*clock, READ_LIMIT, question).await {
                Ok((reading, ended)) => (Ok(reading), ended),
                Err(error) => (Err(error), Moment::now(&*clock, &boot_time)),
            };
            Done::Read(reading, Made { began, ended })
        }));
    }

    pub(super) fn begin_send(&mut self, mut outgoing: Outgoing) {
        if let Some((made, facts)) = self.newest.filter(|_| outgoing.full) {
            let now = self.moment();
            let interval = self.agent.intervals().full;
            if made.is_old(now, interval, READ_LIMIT) {
                tracing::info!(
                    age = ?now.since(made.ended),
                    "a reading is too old to be sent; reading again"
                );
                // What happened is sent all the same; it has its own time.
                let left = outgoing.facts.len().saturating_sub(facts);
                outgoing.facts.truncate(left);
                outgoing.full = false;
                let now = self.now();
                self.agent.read_soon(now);
                if outgoing.facts.is_empty() {
                    self.agent.sent(Outcome::Taken, now, &mut self.ids);
                    return;
                }
            }
        }
        let (clock, client) = (Arc::clone(&self.clock), self.client.clone());
        let (full, facts) = (outgoing.full, outgoing.facts.len());
        let request = message::report(
            &self.identity,
            &self.scribe.boot,
            self.agent.session(),
            outgoing,
        );
        self.calls.push(Box::pin(async move {
            let call = client.report_health(request);
            let result = bounded(&clock, CALL_LIMIT, call).await;
            Done::Sent {
                result,
                full,
                facts,
            }
        }));
    }

    pub(super) fn begin_poll(&mut self) {
        let (clock, client) = (Arc::clone(&self.clock), self.client.clone());
        let request = message::poll(&self.identity, self.agent.session());
        self.calls.push(Box::pin(async move {
            let call = client.get_node_commands(request);
            let result = bounded(&clock, CALL_LIMIT, call).await;
            Done::Polled(result.map(|answer| answer.commands))
        }));
    }

    pub(super) fn begin_watch(&mut self, wait: Duration) {
        self.watching = true;
        let request = message::watch(&self.identity, self.agent.session());
        let open = watch::open(self.client.clone(), Arc::clone(&self.clock), request, wait);
        self.calls
            .push(Box::pin(async move { Done::Heard(open.await) }));
    }
}
