//! `navarch.v1.FleetService`: what operators ask and order.

use std::sync::Arc;

use futures_util::stream;
use navarch_api::service::{Answers, Call, Fleet};
use navarch_api::{ApiError, convert, requests, v1};
use navarch_core::{Input, Reply};
use navarch_model::{Automation, Event, HealthStatus, Incident, Node, PoolName};
use navarch_store::{EventQuery, History, IncidentQuery, MAX_LIMIT, Order};
use navarch_time::timeout;

use super::{Handlers, KEEP_ALIVE, unreadable};
use crate::fleet::FleetClock;

impl Handlers {
    /// The mode in force in a pool, as the last plan saw it.
    fn effective(&self) -> impl Fn(&PoolName) -> Automation + use<> {
        let report = self.published.report();
        move |pool| {
            report
                .pools
                .get(pool)
                .map_or(Automation::Off, |pool| pool.automation)
        }
    }

    fn automation_now(&self) -> v1::GetAutomationResponse {
        let settings = self.published.settings();
        self.published.read(|state| {
            convert::automation(state, &settings, |pool| {
                navarch_core::fleet::automation(state, &settings, pool)
            })
        })
    }

    fn incident_on_record(
        &self,
        id: &navarch_model::IncidentId,
    ) -> Result<Arc<Incident>, ApiError> {
        let known = self
            .published
            .read(|state| state.incidents.get(id).cloned());
        let found = match known {
            Some(incident) => Some(incident),
            None => self
                .history
                .incident(id)
                .map_err(|error| unreadable(&error))?,
        };
        found.ok_or_else(|| ApiError::not_found(format!("incident not found: {id}")))
    }

    /// Where a node stands, in one line.
    fn summary(&self, node: &Node, open: &[Arc<Incident>]) -> String {
        let mut text = format!(
            "{} is {}",
            node.id,
            node.status().short().to_ascii_uppercase()
        );
        let worst = open
            .iter()
            .filter(|incident| incident.severity >= HealthStatus::Degraded);
        let reasons: Vec<String> = worst
            .map(|incident| format!("{} ({})", incident.key.class, incident.citation))
            .collect();
        if !reasons.is_empty() {
            text.push_str(" because of ");
            text.push_str(&reasons.join("; "));
        }
        let holds = node.hold_names();
        if !holds.is_empty() {
            text.push_str("; holds: ");
            text.push_str(&holds.join(", "));
        }
        text
    }
}

impl Fleet for Handlers {
    async fn get_server_info(
        &self,
        _call: Call,
        _request: v1::GetServerInfoRequest,
    ) -> Result<v1::GetServerInfoResponse, ApiError> {
        let meta = self.published.read(|state| Arc::clone(&state.meta));
        Ok(v1::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fleet_id: meta.fleet.as_str().to_owned(),
            started_at: convert::timestamp(self.started).into(),
            sequence: *self.published.events().borrow(),
            paused: meta.automation.mode != Automation::On,
            epoch: meta.epoch,
            time: convert::timestamp(self.time.now()).into(),
            automation: convert::mode(meta.automation.mode),
        })
    }

    async fn explain_node(
        &self,
        _call: Call,
        request: v1::ExplainNodeRequest,
    ) -> Result<v1::ExplainNodeResponse, ApiError> {
        let (id, limit) = requests::explain(&request)?;
        let node = self.find_node(&id)?;
        let query = EventQuery {
            node: Some(id.clone()),
            order: Order::NewestFirst,
            limit: limit + 1,
            ..EventQuery::default()
        };
        let mut events = self
            .history
            .events(&query)
            .map_err(|error| unreadable(&error))?;
        // What befell the machine before its agent registered belongs to the story.
        if let Some(instance) = &node.instance {
            let query = EventQuery {
                instance: Some(instance.clone()),
                order: Order::NewestFirst,
                limit: limit + 1,
                ..EventQuery::default()
            };
            events.extend(
                self.history
                    .events(&query)
                    .map_err(|error| unreadable(&error))?,
            );
        }
        events.sort_by_key(|event| event.sequence);
        events.dedup_by_key(|event| event.sequence);
        let truncated = events.len() > limit;
        let first = events.len().saturating_sub(limit);
        let open: Vec<Arc<Incident>> = self.published.read(|state| {
            node.open_incidents
                .keys()
                .filter_map(|id| state.incidents.get(id).cloned())
                .collect()
        });
        let report = self.published.report();
        let now = self.time.now();
        let waits = report
            .pools
            .values()
            .flat_map(|pool| &pool.waits)
            .filter(|wait| {
                wait.about == id.as_str()
                    || node
                        .instance
                        .as_ref()
                        .is_some_and(|instance| wait.about == instance.as_str())
            })
            .map(|wait| convert::wait(wait, now))
            .collect();
        Ok(v1::ExplainNodeResponse {
            summary: self.summary(&node, &open),
            node: self.node_info(&node).into(),
            open_incidents: open
                .iter()
                .map(|incident| convert::incident(incident))
                .collect(),
            waits,
            lines: events[first..]
                .iter()
                .map(|event| convert::explain_line(event))
                .collect(),
            truncated,
        })
    }

    async fn confirm_silence(
        &self,
        call: Call,
        request: v1::ConfirmSilenceRequest,
    ) -> Result<v1::ConfirmSilenceResponse, ApiError> {
        let (node, reason) = requests::confirm_silence(request)?;
        self.order(
            &call,
            Input::ConfirmDead {
                node: node.clone(),
                reason,
            },
        )
        .await?;
        let node = self.find_node(&node)?;
        Ok(v1::ConfirmSilenceResponse {
            node: self.node_info(&node).into(),
        })
    }

    async fn list_commands(
        &self,
        _call: Call,
        request: v1::ListCommandsRequest,
    ) -> Result<v1::ListCommandsResponse, ApiError> {
        let node = requests::node_commands(&request)?;
        self.find_node(&node)?;
        let mut commands = self.published.read(|state| {
            state
                .commands
                .values()
                .filter(|command| command.node == node)
                .cloned()
                .collect::<Vec<_>>()
        });
        commands.sort_by_key(|command| std::cmp::Reverse((command.issued, command.id.clone())));
        Ok(v1::ListCommandsResponse {
            commands: commands
                .iter()
                .map(|command| convert::command(command))
                .collect(),
        })
    }

    async fn add_hold(
        &self,
        call: Call,
        request: v1::AddHoldRequest,
    ) -> Result<v1::AddHoldResponse, ApiError> {
        self.set_hold(&call, request).await
    }

    async fn remove_hold(
        &self,
        call: Call,
        request: v1::RemoveHoldRequest,
    ) -> Result<v1::RemoveHoldResponse, ApiError> {
        self.lift_hold(&call, request).await
    }

    async fn list_holds(
        &self,
        _call: Call,
        request: v1::ListHoldsRequest,
    ) -> Result<v1::ListHoldsResponse, ApiError> {
        self.holds(&request)
    }

    async fn list_unclaimed(
        &self,
        _call: Call,
        request: v1::ListUnclaimedRequest,
    ) -> Result<v1::ListUnclaimedResponse, ApiError> {
        self.unclaimed(&request)
    }

    async fn adopt_instance(
        &self,
        call: Call,
        request: v1::AdoptInstanceRequest,
    ) -> Result<v1::AdoptInstanceResponse, ApiError> {
        self.adopt(&call, request).await
    }

    async fn terminate_instance(
        &self,
        call: Call,
        request: v1::TerminateInstanceRequest,
    ) -> Result<v1::TerminateInstanceResponse, ApiError> {
        self.end_machine(&call, request).await
    }

    async fn list_incidents(
        &self,
        _call: Call,
        request: v1::ListIncidentsRequest,
    ) -> Result<v1::ListIncidentsResponse, ApiError> {
        let wanted = requests::incidents(&request)?;
        let query = |open| IncidentQuery {
            node: wanted.node.clone(),
            pool: wanted.pool.clone(),
            open: Some(open),
            limit: wanted.limit,
            ..IncidentQuery::default()
        };
        let read = |open| {
            self.history
                .incidents(&query(open))
                .map_err(|error| unreadable(&error))
        };
        let mut incidents = read(true)?;
        if !wanted.open_only {
            incidents.extend(read(false)?);
        }
        incidents.truncate(wanted.limit);
        Ok(v1::ListIncidentsResponse {
            incidents: incidents
                .iter()
                .map(|incident| convert::incident(incident))
                .collect(),
        })
    }

    async fn get_incident(
        &self,
        _call: Call,
        request: v1::GetIncidentRequest,
    ) -> Result<v1::GetIncidentResponse, ApiError> {
        let incident = self.incident_on_record(&requests::incident(&request)?)?;
        Ok(v1::GetIncidentResponse {
            incident: convert::incident(&incident).into(),
        })
    }

    async fn close_incident(
        &self,
        call: Call,
        request: v1::CloseIncidentRequest,
    ) -> Result<v1::CloseIncidentResponse, ApiError> {
        let (incident, reason) = requests::incident_close(request)?;
        self.order(
            &call,
            Input::CloseIncident {
                incident: incident.clone(),
                reason,
            },
        )
        .await?;
        let incident = self.incident_on_record(&incident)?;
        Ok(v1::CloseIncidentResponse {
            incident: convert::incident(&incident).into(),
        })
    }

    async fn list_events(
        &self,
        _call: Call,
        request: v1::ListEventsRequest,
    ) -> Result<v1::ListEventsResponse, ApiError> {
        let page = requests::events(request)?;
        let query = EventQuery {
            after: Some(page.after),
            before: page.before,
            order: if page.latest {
                Order::NewestFirst
            } else {
                Order::OldestFirst
            },
            limit: (page.limit + 1).min(MAX_LIMIT),
            ..stored(&page.query)
        };
        let mut events = self
            .history
            .events(&query)
            .map_err(|error| unreadable(&error))?;
        let more = events.len() > page.limit;
        events.truncate(page.limit);
        events.sort_by_key(|event| event.sequence);
        let range = self
            .history
            .event_range()
            .map_err(|error| unreadable(&error))?;
        Ok(v1::ListEventsResponse {
            resume_after_sequence: events.last().map_or(page.after, |event| event.sequence),
            events: events.iter().map(|event| convert::event(event)).collect(),
            more,
            oldest_sequence: range.map_or(0, |range| *range.start()),
        })
    }

    async fn watch_events(
        &self,
        _call: Call,
        request: v1::WatchEventsRequest,
    ) -> Result<Answers<v1::WatchEventsResponse>, ApiError> {
        let (query, after) = requests::watch_events(request)?;
        let news = self.published.events();
        let after = after.unwrap_or_else(|| *news.borrow());
        let watch = Watch {
            query: stored(&query),
            after,
            news,
            history: Arc::clone(&self.history),
            time: self.time.clone(),
            closing: self.closing.clone(),
            first: true,
        };
        Ok(Box::pin(stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(answer) => Some((Ok(answer), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        })))
    }

    async fn list_pools(
        &self,
        _call: Call,
        _request: v1::ListPoolsRequest,
    ) -> Result<v1::ListPoolsResponse, ApiError> {
        let (settings, report) = (self.published.settings(), self.published.report());
        let effective = self.effective();
        Ok(self
            .published
            .read(|state| convert::pools(state, &settings, &report, &effective)))
    }

    async fn get_plan(
        &self,
        _call: Call,
        request: v1::GetPlanRequest,
    ) -> Result<v1::GetPlanResponse, ApiError> {
        let pool = requests::plan(&request)?;
        let (settings, report) = (self.published.settings(), self.published.report());
        if let Some(pool) = pool
            .as_ref()
            .filter(|pool| !settings.pools.contains_key(*pool))
        {
            return Err(ApiError::not_found(format!("pool not found: {pool}")));
        }
        Ok(self
            .published
            .read(|state| convert::plan(&report, state, &settings, pool.as_ref())))
    }

    async fn get_automation(
        &self,
        _call: Call,
        _request: v1::GetAutomationRequest,
    ) -> Result<v1::GetAutomationResponse, ApiError> {
        Ok(self.automation_now())
    }

    async fn set_automation(
        &self,
        call: Call,
        request: v1::SetAutomationRequest,
    ) -> Result<v1::SetAutomationResponse, ApiError> {
        let change = requests::automation(request)?;
        let (mode, reason) = (change.mode, change.reason);
        let input = match (change.pool, mode) {
            (pool, Some(mode)) => Input::SetAutomation { pool, mode, reason },
            (Some(pool), None) => Input::InheritAutomation { pool, reason },
            (None, None) => return Err(ApiError::invalid_argument("pool is required")),
        };
        self.order(&call, input).await?;
        Ok(convert::set_automation(self.automation_now()))
    }

    async fn reset_breaker(
        &self,
        call: Call,
        request: v1::ResetBreakerRequest,
    ) -> Result<v1::ResetBreakerResponse, ApiError> {
        let (pool, signature) = requests::reset_breaker(request)?;
        match self
            .order(&call, Input::ResetBreaker { pool, signature })
            .await?
        {
            Reply::Reset(signatures) => Ok(v1::ResetBreakerResponse { signatures }),
            other => Err(ApiError::internal(format!("unexpected reply {other:?}"))),
        }
    }

    async fn get_policy(
        &self,
        _call: Call,
        _request: v1::GetPolicyRequest,
    ) -> Result<v1::GetPolicyResponse, ApiError> {
        let text = self.policy_text();
        let mut answer = convert::policy(&text.policy, &text.text, text.loaded);
        if let Some((at, error)) = text.refused {
            answer.refused = v1::RefusedPolicy {
                time: convert::timestamp(at).into(),
                source: answer.source.clone(),
                error,
            }
            .into();
        }
        Ok(answer)
    }
}

/// The store's query for a checked one.
fn stored(query: &requests::EventQuery) -> EventQuery {
    EventQuery {
        pool: query.pool.clone(),
        instance: query.instance.clone(),
        node: query.node.clone(),
        incident: query.incident.clone(),
        kinds: query.kinds.iter().copied().collect(),
        limit: MAX_LIMIT,
        ..EventQuery::default()
    }
}

/// One watcher of the record. It reads what is committed at its own pace: nothing is buffered
/// for it, so a slow watcher costs nothing but its own delay.
struct Watch {
    query: EventQuery,
    after: u64,
    news: tokio::sync::watch::Receiver<u64>,
    history: Arc<dyn History>,
    time: FleetClock,
    closing: navarch_time::CancellationToken,
    first: bool,
}

impl Watch {
    async fn next(&mut self) -> Result<v1::WatchEventsResponse, ApiError> {
        let first = std::mem::take(&mut self.first);
        let newest = *self.news.borrow_and_update();
        if !first && newest <= self.after {
            let clock = Arc::clone(self.time.clock());
            tokio::select! {
                () = self.closing.cancelled() => return Err(closing()),
                news = timeout(&*clock, KEEP_ALIVE, self.news.changed()) => {
                    if matches!(news, Ok(Err(_))) {
                        return Err(closing());
                    }
                }
            }
        }
        let newest = *self.news.borrow_and_update();
        // The oldest first: what a full page leaves out comes with the next.
        let query = EventQuery {
            after: Some(self.after),
            order: Order::OldestFirst,
            ..self.query.clone()
        };
        let events: Vec<Arc<Event>> = self
            .history
            .events(&query)
            .map_err(|error| unreadable(&error))?;
        // A full page may have left some out; else everything up to the newest was looked at.
        self.after = match events.last() {
            Some(last) if events.len() >= MAX_LIMIT => last.sequence,
            last => newest
                .max(last.map_or(0, |last| last.sequence))
                .max(self.after),
        };
        Ok(v1::WatchEventsResponse {
            events: events.iter().map(|event| convert::event(event)).collect(),
            resume_after_sequence: self.after,
            next_within_milliseconds: i64::try_from(2 * KEEP_ALIVE.as_millis()).unwrap_or(i64::MAX),
        })
    }
}

fn closing() -> ApiError {
    ApiError::unavailable("the control plane is shutting down")
}
