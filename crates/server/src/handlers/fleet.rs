//! `navarch.v1.FleetService`: what operators ask and order.

use std::sync::Arc;

use navarch_api::service::{Answers, Call, Fleet};
use navarch_api::{ApiError, convert, requests, v1};
use navarch_core::{Input, Reply};
use navarch_model::{Automation, PoolName};

use super::Handlers;
use crate::access::until_revoked;

impl Handlers {
    /// The mode in force in a pool, as the last plan saw it.
    pub(super) fn effective(&self) -> impl Fn(&PoolName) -> Automation + use<> {
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
        self.explain(&request).await
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
        let node = self.find_node(&node).await?;
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
        self.find_node(&node).await?;
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
        self.holds(&request).await
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
        self.incidents(&request).await
    }

    async fn get_incident(
        &self,
        _call: Call,
        request: v1::GetIncidentRequest,
    ) -> Result<v1::GetIncidentResponse, ApiError> {
        let incident = self
            .incident_on_record(&requests::incident(&request)?)
            .await?;
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
        let incident = self.incident_on_record(&incident).await?;
        Ok(v1::CloseIncidentResponse {
            incident: convert::incident(&incident).into(),
        })
    }

    async fn list_events(
        &self,
        _call: Call,
        request: v1::ListEventsRequest,
    ) -> Result<v1::ListEventsResponse, ApiError> {
        self.page_of_events(request).await
    }

    async fn watch_events(
        &self,
        call: Call,
        request: v1::WatchEventsRequest,
    ) -> Result<Answers<v1::WatchEventsResponse>, ApiError> {
        Ok(until_revoked(&call, self.stream_of_events(request).await?))
    }

    async fn list_pools(
        &self,
        _call: Call,
        _request: v1::ListPoolsRequest,
    ) -> Result<v1::ListPoolsResponse, ApiError> {
        let settings = self.published.settings();
        let effective = self.effective();
        Ok(self
            .published
            .read(|state| convert::pools(state, &settings, &effective)))
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
            return Err(self.unknown_pool(pool));
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

    async fn scale_pool(
        &self,
        call: Call,
        request: v1::ScalePoolRequest,
    ) -> Result<v1::ScalePoolResponse, ApiError> {
        let (pool, nodes, reason) = requests::scale_pool(request)?;
        let input = Input::ScalePool {
            pool: pool.clone(),
            nodes,
            reason,
        };
        match self.order(&call, input).await? {
            Reply::Sized { from, to } => {
                let settings = self.published.settings();
                let mode = self
                    .published
                    .read(|state| navarch_core::fleet::automation(state, &settings, &pool));
                Ok(convert::sized(from, to, mode))
            }
            other => Err(ApiError::internal(format!("unexpected reply {other:?}"))),
        }
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

    async fn get_config(
        &self,
        _call: Call,
        _request: v1::GetConfigRequest,
    ) -> Result<v1::GetConfigResponse, ApiError> {
        let held = self.config_text();
        let mut answer = v1::GetConfigResponse {
            source: held.source,
            text: held.text,
            loaded_at: convert::timestamp(held.loaded).into(),
            ..Default::default()
        };
        if let Some((at, problems)) = held.refused {
            answer.refused = v1::RefusedConfig {
                time: convert::timestamp(at).into(),
                problems,
            }
            .into();
        }
        Ok(answer)
    }
}
