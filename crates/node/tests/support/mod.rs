//! A double of the control plane's handlers: it records what agents send and answers as a test
//! orders, over the real services and a real socket. It keeps no fleet and decides nothing.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use futures_util::stream;
use navarch_api::service::{
    Agents, Answers, Call, CallLimits, Calls, ControlPlane, Dev, Fleet, Observer, Pools, routes,
};
use navarch_api::{ApiError, Reply, v1, wire};
use navarch_time::{RealClock, Tasks, timeout};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How long a test waits for what must come. Long, since machines that build are slow; reached
/// only when a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How the double answers.
#[derive(Debug, Clone, Copy, Default)]
pub enum Mood {
    /// It takes everything.
    #[default]
    Normal,
    /// It cannot be reached, as far as an agent can tell.
    Away,
    /// It refuses reports and heartbeats so, until the next registration.
    Refusing(fn() -> ApiError),
}

/// What was recorded, and what to answer.
#[derive(Debug, Default)]
pub struct Recorded {
    pub mood: Mood,
    pub registrations: Vec<wire::RegisterNodeRequest>,
    pub beats: Vec<wire::HeartbeatRequest>,
    pub reports: Vec<wire::ReportHealthRequest>,
    /// Reports and heartbeats that were not taken.
    pub refusals: usize,
    pub acknowledgements: Vec<v1::AcknowledgeCommandRequest>,
    pub polls: usize,
    pub authorizations: Vec<String>,
    /// Whether commands are pushed, or the stream does not exist.
    pub without_push: bool,
    /// The commands that wait.
    pub waiting: Vec<wire::NodeCommand>,
    pub beat_milliseconds: i64,
    pub full_milliseconds: i64,
}

impl Recorded {
    /// The events of every report, in order.
    pub fn events(&self) -> impl Iterator<Item = &wire::HealthEvent> {
        self.reports.iter().flat_map(|report| &report.events)
    }

    /// The XIDs that were reported, each once: a report may come again.
    pub fn xids(&self) -> Vec<&str> {
        let mut codes = Vec::new();
        for code in self
            .events()
            .filter_map(|event| event.metrics.get("xid_code"))
        {
            if !codes.contains(&code.as_str()) {
                codes.push(code);
            }
        }
        codes
    }
}

struct Inner {
    recorded: Mutex<Recorded>,
    changes: watch::Sender<u64>,
}

/// The double, serving on loopback.
pub struct Double {
    inner: Arc<Inner>,
    address: SocketAddr,
    _tasks: Tasks,
}

impl Double {
    /// Starts one. Heartbeats every 30 s and full reports every 60 s, by the agent's clock.
    pub async fn start() -> Self {
        let recorded = Recorded {
            beat_milliseconds: 30_000,
            full_milliseconds: 60_000,
            ..Recorded::default()
        };
        let inner = Arc::new(Inner {
            recorded: Mutex::new(recorded),
            changes: watch::Sender::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let handlers = Arc::new(Handlers(Arc::clone(&inner)));
        let app = routes(&Calls::new(&handlers, CallLimits::default()))
            .layer(from_fn_with_state(Arc::clone(&inner), note_token));
        let tasks = Tasks::new();
        tasks.spawn("double", async move {
            axum::serve(listener, app).await.expect("it serves");
        });
        Self {
            inner,
            address,
            _tasks: tasks,
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes how it answers.
    pub fn set(&self, change: impl FnOnce(&mut Recorded)) {
        change(&mut self.inner.lock());
        self.inner.changed();
    }

    /// Looks at what was recorded.
    pub fn look<T>(&self, look: impl FnOnce(&Recorded) -> T) -> T {
        look(&self.inner.lock())
    }

    /// Waits until what was recorded is as wanted.
    pub async fn until<T>(&self, what: &str, look: impl Fn(&Recorded) -> Option<T>) -> T {
        let waiting = async {
            let mut changes = self.changes();
            loop {
                if let Some(found) = self.look(&look) {
                    return found;
                }
                changes.changed().await.expect("the double lives");
            }
        };
        match timeout(&RealClock::new(), PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("never: {what}; {:#?}", self.inner.lock()),
        }
    }

    /// Tells of every change of what was recorded.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    /// Records, unless the mood is against it.
    fn record<T>(
        &self,
        needs_node: bool,
        record: impl FnOnce(&mut Recorded) -> T,
    ) -> Result<T, ApiError> {
        let mut recorded = self.lock();
        let result = match recorded.mood {
            Mood::Away => {
                recorded.refusals += usize::from(needs_node);
                Err(ApiError::unavailable("away"))
            }
            Mood::Refusing(refusal) if needs_node => {
                recorded.refusals += 1;
                Err(refusal())
            }
            _ => Ok(record(&mut recorded)),
        };
        drop(recorded);
        self.changed();
        result
    }
}

async fn note_token(State(inner): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    let token = request.headers().get(AUTHORIZATION);
    let token = token
        .and_then(|token| token.to_str().ok())
        .unwrap_or_default();
    inner.lock().authorizations.push(token.to_owned());
    next.run(request).await
}

struct Handlers(Arc<Inner>);

impl ControlPlane for Handlers {
    async fn register_node(
        &self,
        _call: Call,
        request: wire::RegisterNodeRequest,
    ) -> Result<wire::RegisterNodeResponse, ApiError> {
        // The real one checks; what it would refuse must not pass here.
        navarch_api::requests::registration(request.clone(), String::new())?;
        self.0.record(false, |recorded| {
            recorded.registrations.push(request);
            recorded.mood = Mood::Normal;
            wire::RegisterNodeResponse {
                success: true,
                config: wire::NodeConfig {
                    heartbeat_interval_milliseconds: recorded.beat_milliseconds,
                    health_check_interval_milliseconds: recorded.full_milliseconds,
                    ..Default::default()
                }
                .into(),
                ..Default::default()
            }
        })
    }

    async fn report_health(
        &self,
        _call: Call,
        request: wire::ReportHealthRequest,
    ) -> Result<wire::ReportHealthResponse, ApiError> {
        navarch_api::requests::report(request.clone(), navarch_model::Time(0))?;
        self.0.record(true, |recorded| {
            recorded.reports.push(request);
            wire::ReportHealthResponse {
                acknowledged: true,
                node_status: wire::NodeStatus::NODE_STATUS_ACTIVE.into(),
            }
        })
    }

    async fn send_heartbeat(
        &self,
        _call: Call,
        request: wire::HeartbeatRequest,
    ) -> Result<wire::HeartbeatResponse, ApiError> {
        navarch_api::requests::beat(request.clone())?;
        self.0.record(true, |recorded| {
            recorded.beats.push(request);
            wire::HeartbeatResponse { acknowledged: true }
        })
    }

    async fn get_node_commands(
        &self,
        _call: Call,
        _request: wire::GetNodeCommandsRequest,
    ) -> Result<wire::GetNodeCommandsResponse, ApiError> {
        self.0.record(false, |recorded| {
            recorded.polls += 1;
            wire::GetNodeCommandsResponse {
                commands: recorded.waiting.clone(),
            }
        })
    }

    async fn list_nodes(
        &self,
        _call: Call,
        _request: wire::ListNodesRequest,
    ) -> Result<Reply<wire::ListNodesResponse>, ApiError> {
        Err(not_an_agents())
    }

    async fn get_node(
        &self,
        _call: Call,
        _request: wire::GetNodeRequest,
    ) -> Result<wire::GetNodeResponse, ApiError> {
        Err(not_an_agents())
    }

    async fn issue_command(
        &self,
        _call: Call,
        _request: wire::IssueCommandRequest,
    ) -> Result<wire::IssueCommandResponse, ApiError> {
        Err(not_an_agents())
    }

    async fn list_instances(
        &self,
        _call: Call,
        _request: wire::ListInstancesRequest,
    ) -> Result<Reply<wire::ListInstancesResponse>, ApiError> {
        Err(not_an_agents())
    }

    async fn get_instance(
        &self,
        _call: Call,
        _request: wire::GetInstanceRequest,
    ) -> Result<wire::GetInstanceResponse, ApiError> {
        Err(not_an_agents())
    }
}

impl Agents for Handlers {
    async fn acknowledge_command(
        &self,
        _call: Call,
        request: v1::AcknowledgeCommandRequest,
    ) -> Result<v1::AcknowledgeCommandResponse, ApiError> {
        navarch_api::requests::acknowledgement(request.clone())?;
        self.0.record(false, |recorded| {
            recorded
                .waiting
                .retain(|command| command.command_id != request.command_id);
            recorded.acknowledgements.push(request);
            v1::AcknowledgeCommandResponse {
                acknowledged: true,
                ..Default::default()
            }
        })
    }

    async fn watch_commands(
        &self,
        _call: Call,
        _request: v1::WatchCommandsRequest,
    ) -> Result<Answers<v1::WatchCommandsResponse>, ApiError> {
        if self.0.record(false, |recorded| recorded.without_push)? {
            return Err(ApiError::unimplemented("method not found: WatchCommands"));
        }
        let start = (Arc::clone(&self.0), self.0.changes.subscribe(), None);
        Ok(Box::pin(stream::unfold(start, |state| async {
            let (inner, mut changes, mut sent) = state;
            loop {
                changes.mark_unchanged();
                let waiting = inner.lock().waiting.clone();
                if sent.as_ref() != Some(&waiting) {
                    sent = Some(waiting.clone());
                    let answer = v1::WatchCommandsResponse {
                        commands: waiting,
                        next_within_milliseconds: 3_600_000,
                    };
                    return Some((Ok(answer), (inner, changes, sent)));
                }
                changes.changed().await.ok()?;
            }
        })))
    }
}

fn not_an_agents() -> ApiError {
    ApiError::permission_denied("no agent calls this")
}

macro_rules! not_an_agents {
    ($($method:ident $request:ident $response:ident;)+) => {$(
        async fn $method(
            &self,
            _call: Call,
            _request: v1::$request,
        ) -> Result<v1::$response, ApiError> {
            Err(not_an_agents())
        }
    )+};
}

impl Fleet for Handlers {
    not_an_agents! {
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

    async fn watch_events(
        &self,
        _call: Call,
        _request: v1::WatchEventsRequest,
    ) -> Result<Answers<v1::WatchEventsResponse>, ApiError> {
        Err(not_an_agents())
    }
}

impl Observer for Handlers {}

impl Pools for Handlers {
    not_an_agents! {
        get_pool_status GetPoolStatusRequest GetPoolStatusResponse;
        query_metrics QueryMetricsRequest QueryMetricsResponse;
    }
}

impl Dev for Handlers {
    not_an_agents! {
        inject_fault InjectFaultRequest InjectFaultResponse;
        clear_fault ClearFaultRequest ClearFaultResponse;
    }
}
