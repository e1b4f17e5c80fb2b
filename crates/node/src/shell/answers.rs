//! What calls come to.

use std::sync::Arc;
use std::time::Duration;

use navarch_api::{ClientError, Code, wire};
use navarch_core::agent::{Dropped, Outcome};
use navarch_core::liveness::GpuSample;
use navarch_model::{Gpu, NodeStatus};

use super::{Done, Shell};
use crate::freshness::Made;
use crate::reading::{self, Reading};
use crate::usage::Usage;
use crate::watch::{self, Heard};
use crate::wire as message;
use crate::worker::NoAnswer;

impl Shell {
    pub(super) fn registered(
        &mut self,
        gpus: Vec<Gpu>,
        result: Result<wire::RegisterNodeResponse, ClientError>,
    ) {
        let now = self.now();
        let outcome = self.judge("failed to register", &result);
        let intervals = result
            .ok()
            .and_then(|answer| answer.config.into_option())
            .map(|config| message::intervals(&config));
        self.agent
            .registered(outcome, intervals, now, &mut self.ids);
        if outcome != Outcome::Taken {
            return;
        }
        self.gpus = gpus;
        tracing::info!(count = self.gpus.len(), "detected GPUs");
        let intervals = self.agent.intervals();
        tracing::info!(
            node_id = %self.identity.node, session_id = %self.agent.session(),
            boot_id = %self.scribe.boot, "registered"
        );
        tracing::info!(
            heartbeat_interval = ?intervals.beat, health_check_interval = ?intervals.full,
            "received config from control plane"
        );
        if !std::mem::replace(&mut self.ever_registered, true) {
            tracing::info!("node daemon started successfully");
        }
        if !self.watching {
            self.begin_watch(Duration::ZERO);
        }
    }

    pub(super) fn beaten(
        &mut self,
        result: Result<(), ClientError>,
        samples: Option<Vec<GpuSample>>,
        usage: Usage,
        took: Duration,
    ) {
        let now = self.now();
        let outcome = self.judge("failed to send heartbeat", &result);
        if outcome == Outcome::Taken {
            let samples = samples.as_deref().unwrap_or_default();
            let count = samples.len();
            let sum: f64 = samples.iter().map(|gpu| gpu.utilization).sum();
            tracing::debug!(
                cpu_percent = usage.cpu_percent, memory_percent = usage.memory_percent,
                gpu_count = count,
                gpu_avg_util = if count > 0 { sum / count as f64 } else { 0.0 },
                gpu_max_temp = samples.iter().map(|gpu| gpu.temperature).max(),
                acknowledged = true, duration = ?took, "heartbeat sent"
            );
        }
        if samples.is_none() && !self.hung {
            // A driver that does not answer is a finding; a full reading makes it one.
            self.hung = true;
            self.agent.read_soon(now);
        }
        self.agent.beaten(outcome, now, &mut self.ids);
    }

    pub(super) fn read(&mut self, reading: Result<Reading, NoAnswer>, made: Made) {
        let (now, wall) = (self.now(), self.wall());
        let took = made.ended.since(made.began);
        let lost = matches!(reading, Err(NoAnswer::Late(limit)) if made.was_paused(limit));
        // Once: a driver that hangs on a machine that pauses all the time is a finding in the end.
        if lost && !std::mem::replace(&mut self.paused, true) {
            tracing::info!(
                ?took,
                "the agent was paused while it read the GPUs; reading again"
            );
            self.begin_read();
            return;
        }
        self.paused = false;
        let facts = match &reading {
            Ok(reading) => {
                let facts = self.scribe.full(reading, &self.gpus, wall);
                if reading.count.is_ok() {
                    self.gpus = reading::gpus(reading, &self.gpus);
                }
                facts
            }
            Err(error) => self.scribe.unanswered(error, wall),
        };
        self.hung = match reading {
            Ok(_) => {
                self.worked("failed to run health checks");
                tracing::debug!(readings = facts.len(), duration = ?took, "health checks run");
                false
            }
            Err(error) => {
                self.complain("failed to run health checks", &error);
                true
            }
        };
        self.newest = Some((made, facts.len()));
        self.agent.read(facts, now, &mut self.ids);
        self.reading = false;
        if std::mem::take(&mut self.read_again) {
            self.agent.read_soon(now);
        }
    }

    pub(super) fn sent(
        &mut self,
        result: Result<wire::ReportHealthResponse, ClientError>,
        full: bool,
        facts: usize,
    ) {
        let now = self.now();
        let outcome = self.judge("failed to report health", &result);
        self.agent.sent(outcome, now, &mut self.ids);
        if matches!(outcome, Outcome::Taken | Outcome::Refused) {
            self.keep();
        }
        match self.agent.take_dropped() {
            Some(Dropped::Fact(fact)) => tracing::warn!(
                event_type = fact.event_type.short(), gpu_index = fact.gpu.unwrap_or(-1),
                xid = fact.metrics.get("xid_code"), detail = %fact.message,
                "the control plane refused an event; it is dropped and counted as lost"
            ),
            Some(Dropped::Reading(facts)) => tracing::error!(
                facts,
                "the control plane refused a full reading; the node counts as not reporting until \
                 one is taken. Do the versions of the agent and the control plane fit?"
            ),
            None => {}
        }
        if let Ok(answer) = result {
            let number = answer.node_status.to_i32();
            let status = NodeStatus::from_number(number).map_or("?", NodeStatus::short);
            if self.status.replace(number) != Some(number) {
                tracing::info!(node_status = status, facts, full, "health check completed");
            } else {
                tracing::debug!(node_status = status, facts, full, "health check completed");
            }
        }
    }

    pub(super) fn polled(&mut self, result: Result<Vec<wire::NodeCommand>, ClientError>) {
        let now = self.now();
        let outcome = self.judge("failed to poll commands", &result);
        self.agent.polled(outcome, now, &mut self.ids);
        self.take_commands(result.unwrap_or_default());
    }

    pub(super) fn heard(&mut self, heard: Heard) {
        let now = self.now();
        match heard {
            Heard::Commands(commands, listening) => {
                self.watch_failures = 0;
                self.worked("failed to watch commands");
                self.agent.push(true, now);
                let clock = Arc::clone(&self.clock);
                self.calls.push(Box::pin(async move {
                    Done::Heard(listening.next(&*clock).await)
                }));
                self.take_commands(commands);
            }
            Heard::Ended(error) => {
                self.agent.push(false, now);
                self.complain("failed to watch commands", &error);
                let wait = match error.code {
                    Code::Unimplemented => watch::REOPEN_OLDER,
                    _ => watch::REOPEN.delay(self.watch_failures, &mut *self.ids.0),
                };
                self.watch_failures = self.watch_failures.saturating_add(1);
                self.begin_watch(wait);
            }
        }
    }
}
