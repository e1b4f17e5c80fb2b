//! A control plane that is none: handlers that answer at once, on a real socket.

#![allow(
    clippy::allow_attributes,
    dead_code,
    reason = "each test file uses a part of it"
)]

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use navarch_api::service::{
    self, Agents, Answers, Call, CallLimits, ControlPlane, Dev, Fleet, Observer, Pools,
};
use navarch_api::{ApiError, Part, Reply, v1, wire};
use navarch_time::Tasks;

/// Who a layer says is calling.
#[derive(Debug, Clone)]
pub struct Caller(pub &'static str);

/// Handlers that answer from their request alone.
pub struct Double;

/// What both lists of nodes hold.
pub fn nodes() -> Vec<wire::NodeInfo> {
    ["node-a", "node-b"]
        .into_iter()
        .map(|id| wire::NodeInfo {
            node_id: id.to_owned(),
            status: wire::NodeStatus::Active.into(),
            ..Default::default()
        })
        .collect()
}

impl ControlPlane for Double {
    async fn register_node(
        &self,
        call: Call,
        request: wire::RegisterNodeRequest,
    ) -> Result<wire::RegisterNodeResponse, ApiError> {
        let caller = call
            .extension::<Caller>()
            .map_or("nobody", |caller| caller.0);
        Ok(wire::RegisterNodeResponse {
            success: true,
            message: format!("{} by {caller} over {}", request.node_id, call.protocol()),
            ..Default::default()
        })
    }

    async fn report_health(
        &self,
        _: Call,
        request: wire::ReportHealthRequest,
    ) -> Result<wire::ReportHealthResponse, ApiError> {
        Ok(wire::ReportHealthResponse {
            acknowledged: request.full,
            node_status: wire::NodeStatus::Unhealthy.into(),
        })
    }

    async fn send_heartbeat(
        &self,
        call: Call,
        request: wire::HeartbeatRequest,
    ) -> Result<wire::HeartbeatResponse, ApiError> {
        match request.node_id.as_str() {
            "panics" => panic!("as ordered"),
            "never" => std::future::pending().await,
            _ => Ok(wire::HeartbeatResponse {
                acknowledged: call.time_remaining().is_some(),
            }),
        }
    }

    async fn get_node_commands(
        &self,
        _: Call,
        _: wire::GetNodeCommandsRequest,
    ) -> Result<wire::GetNodeCommandsResponse, ApiError> {
        Ok(wire::GetNodeCommandsResponse::default())
    }

    async fn list_nodes(
        &self,
        _: Call,
        request: wire::ListNodesRequest,
    ) -> Result<Reply<wire::ListNodesResponse>, ApiError> {
        Ok(match request.pool.as_str() {
            "empty" => Reply::Parts(vec![]),
            _ => Reply::Parts(nodes().into_iter().map(Part::new).collect()),
        })
    }

    async fn get_node(
        &self,
        _: Call,
        request: wire::GetNodeRequest,
    ) -> Result<wire::GetNodeResponse, ApiError> {
        Err(ApiError::not_found(format!(
            "node not found: {}",
            request.node_id
        )))
    }

    async fn issue_command(
        &self,
        _: Call,
        _: wire::IssueCommandRequest,
    ) -> Result<wire::IssueCommandResponse, ApiError> {
        Err(ApiError::failed_precondition("node x is not cordoned"))
    }

    async fn list_instances(
        &self,
        _: Call,
        _: wire::ListInstancesRequest,
    ) -> Result<Reply<wire::ListInstancesResponse>, ApiError> {
        Ok(wire::ListInstancesResponse::default().into())
    }

    async fn get_instance(
        &self,
        _: Call,
        _: wire::GetInstanceRequest,
    ) -> Result<wire::GetInstanceResponse, ApiError> {
        Ok(wire::GetInstanceResponse::default())
    }
}

impl Agents for Double {
    async fn acknowledge_command(
        &self,
        _: Call,
        request: v1::AcknowledgeCommandRequest,
    ) -> Result<v1::AcknowledgeCommandResponse, ApiError> {
        Ok(v1::AcknowledgeCommandResponse {
            acknowledged: request.exit_code == Some(0),
            state: request.output,
        })
    }

    async fn watch_commands(
        &self,
        _: Call,
        request: v1::WatchCommandsRequest,
    ) -> Result<Answers<v1::WatchCommandsResponse>, ApiError> {
        let command = wire::NodeCommand {
            command_id: format!("for-{}", request.node_id),
            r#type: wire::NodeCommandType::RunDiagnostic.into(),
            ..Default::default()
        };
        let first = v1::WatchCommandsResponse {
            commands: vec![command],
            next_within_milliseconds: 1000,
        };
        // One command, then the stream stays open.
        let answers = futures_util::stream::iter([Ok(first)]);
        Ok(Box::pin(answers.chain(futures_util::stream::pending())))
    }
}

macro_rules! answer_default {
    ($($method:ident $request:ident $response:ident;)+) => {$(
        async fn $method(
            &self,
            _: Call,
            _: v1::$request,
        ) -> Result<v1::$response, ApiError> {
            Ok(v1::$response::default())
        }
    )+};
}

impl Fleet for Double {
    answer_default! {
        get_server_info GetServerInfoRequest GetServerInfoResponse;
        explain_node ExplainNodeRequest ExplainNodeResponse;
        confirm_silence ConfirmSilenceRequest ConfirmSilenceResponse;
        list_commands ListCommandsRequest ListCommandsResponse;
        list_incidents ListIncidentsRequest ListIncidentsResponse;
        get_incident GetIncidentRequest GetIncidentResponse;
        close_incident CloseIncidentRequest CloseIncidentResponse;
        list_events ListEventsRequest ListEventsResponse;
        list_pools ListPoolsRequest ListPoolsResponse;
        get_plan GetPlanRequest GetPlanResponse;
        get_automation GetAutomationRequest GetAutomationResponse;
        set_automation SetAutomationRequest SetAutomationResponse;
        add_hold AddHoldRequest AddHoldResponse;
        remove_hold RemoveHoldRequest RemoveHoldResponse;
        list_holds ListHoldsRequest ListHoldsResponse;
        list_unclaimed ListUnclaimedRequest ListUnclaimedResponse;
        adopt_instance AdoptInstanceRequest AdoptInstanceResponse;
        terminate_instance TerminateInstanceRequest TerminateInstanceResponse;
        scale_pool ScalePoolRequest ScalePoolResponse;
        reset_breaker ResetBreakerRequest ResetBreakerResponse;
        get_policy GetPolicyRequest GetPolicyResponse;
        get_config GetConfigRequest GetConfigResponse;
    }

    /// Three answers after the given sequence, then what the filter's pool says.
    async fn watch_events(
        &self,
        _: Call,
        request: v1::WatchEventsRequest,
    ) -> Result<Answers<v1::WatchEventsResponse>, ApiError> {
        let after = request
            .after_sequence
            .ok_or_else(|| ApiError::invalid_argument("after_sequence is required here"))?;
        let answers = futures_util::stream::iter(after + 1..=after + 3).map(|sequence| {
            Ok(v1::WatchEventsResponse {
                resume_after_sequence: sequence,
                ..Default::default()
            })
        });
        let pool = request.filter.as_option().map(|filter| filter.pool.clone());
        Ok(match pool.as_deref() {
            Some("slow") => {
                let cut = ApiError::resource_exhausted("too slow; resume after 3");
                Box::pin(answers.chain(futures_util::stream::iter([Err(cut)])))
            }
            Some("panics") => Box::pin(answers.map(|answer| match answer {
                Ok(answer) if answer.resume_after_sequence == 3 => panic!("as ordered"),
                other => other,
            })),
            _ => Box::pin(answers),
        })
    }
}

impl Observer for Double {}

impl Pools for Double {
    answer_default! {
        get_pool_status GetPoolStatusRequest GetPoolStatusResponse;
        query_metrics QueryMetricsRequest QueryMetricsResponse;
    }
}

impl Dev for Double {
    async fn inject_fault(
        &self,
        _: Call,
        _: v1::InjectFaultRequest,
    ) -> Result<v1::InjectFaultResponse, ApiError> {
        Err(ApiError::unimplemented("no fake provider"))
    }

    async fn clear_fault(
        &self,
        _: Call,
        request: v1::ClearFaultRequest,
    ) -> Result<v1::ClearFaultResponse, ApiError> {
        Ok(v1::ClearFaultResponse {
            kinds: vec![request.kind],
            message: String::new(),
        })
    }
}

/// Puts the caller into the request, and refuses one without a token as the Go project does.
async fn authenticate(
    mut request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    let token = request.headers().get(http::header::AUTHORIZATION);
    match token.map(http::HeaderValue::as_bytes) {
        Some(b"Bearer right") => {
            request.extensions_mut().insert(Caller("operator"));
            next.run(request).await
        }
        Some(b"Bearer agent") => {
            ApiError::permission_denied("agents may not").into_response(request.headers())
        }
        _ => http::Response::builder()
            .status(401)
            .header("www-authenticate", "Bearer realm=\"navarch\"")
            .header("content-type", "text/plain; charset=utf-8")
            .body("unauthorized\n".into())
            .expect("the response is well-formed"),
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    _tasks: Tasks,
}

impl Server {
    /// Serves the double behind a layer that asks for the token `right`.
    pub async fn start() -> Self {
        let limits = CallLimits {
            max_request_bytes: 64 * 1024,
            handler_timeout: std::time::Duration::from_millis(200),
        };
        let app = service::routes(&service::Calls::new(&Arc::new(Double), limits))
            .route(
                "/moved/{*rest}",
                axum::routing::any(|| async { axum::response::Redirect::temporary("/other") }),
            )
            .layer(axum::middleware::from_fn(authenticate));
        Self::serve(app).await
    }

    /// Serves any routes.
    pub async fn serve(app: axum::Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let tasks = Tasks::new();
        tasks.spawn("server", async move {
            axum::serve(listener, app).await.expect("it serves");
        });
        Self {
            address,
            _tasks: tasks,
        }
    }

    /// The address as clients write it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
