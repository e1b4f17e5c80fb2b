//! Package `navarch`: what existing agents and the classic commands call.

use navarch_api::service::{Call, ControlPlane};
use navarch_api::{ApiError, Reply as Listed, convert, requests, wire};
use navarch_core::liveness::Deaf;
use navarch_core::{Input, Reply};
use navarch_model::{NodeId, Time};

use super::Handlers;
use super::names::Named;
use crate::access::Caller;

impl ControlPlane for Handlers {
    async fn register_node(
        &self,
        call: Call,
        request: wire::RegisterNodeRequest,
    ) -> Result<wire::RegisterNodeResponse, ApiError> {
        let address = call
            .extension::<Caller>()
            .map(|caller| caller.address().to_string())
            .unwrap_or_default();
        let registration = requests::registration(request, address)?;
        self.ask_for_agent(Input::Register(registration)).await?;
        Ok(wire::RegisterNodeResponse {
            success: true,
            message: "registration successful".to_owned(),
            config: convert::node_config(&self.published.settings()).into(),
        })
    }

    async fn report_health(
        &self,
        _call: Call,
        request: wire::ReportHealthRequest,
    ) -> Result<wire::ReportHealthResponse, ApiError> {
        let report = requests::report(request, Time(self.time.now().wall.0))?;
        match self.ask_for_agent(Input::Report(report)).await? {
            Reply::Reported(concluded) => Ok(wire::ReportHealthResponse {
                acknowledged: true,
                node_status: concluded.number().into(),
            }),
            other => Err(ApiError::internal(format!("unexpected reply {other:?}"))),
        }
    }

    async fn send_heartbeat(
        &self,
        _call: Call,
        request: wire::HeartbeatRequest,
    ) -> Result<wire::HeartbeatResponse, ApiError> {
        let beat = requests::beat(request)?;
        let heard = self.published.pulses.beat(
            &beat.node,
            Some(&*beat.session).filter(|session| !session.is_empty()),
            beat.sample,
            self.time.now(),
        );
        match heard {
            Ok(None) => {}
            // Soft state: nothing has to be durable before the beat is acknowledged.
            Ok(Some(_)) => {
                let node = NodeId::new(beat.node);
                self.fleet.feed(Input::Back { node });
            }
            Err(Deaf::Unknown) => return Err(self.unknown_node(&NodeId::new(beat.node))),
            Err(Deaf::Superseded) => {
                return Err(super::superseded_session(&NodeId::new(beat.node)));
            }
        }
        Ok(wire::HeartbeatResponse { acknowledged: true })
    }

    async fn get_node_commands(
        &self,
        _call: Call,
        request: wire::GetNodeCommandsRequest,
    ) -> Result<wire::GetNodeCommandsResponse, ApiError> {
        let (node, session) = requests::poll(&request)?;
        super::current(&self.published, &node, session.as_ref())?;
        // Nothing waits for most polls, and those cost no turn of the loop.
        if !self.published.has_command(&node) {
            return Ok(wire::GetNodeCommandsResponse::default());
        }
        match self.ask_for_agent(Input::Poll { node, session }).await? {
            Reply::Commands(commands) => Ok(wire::GetNodeCommandsResponse {
                commands: commands
                    .iter()
                    .map(|command| convert::node_command(command))
                    .collect(),
            }),
            other => Err(ApiError::internal(format!("unexpected reply {other:?}"))),
        }
    }

    async fn list_nodes(
        &self,
        _call: Call,
        request: wire::ListNodesRequest,
    ) -> Result<Listed<wire::ListNodesResponse>, ApiError> {
        let query = requests::nodes(request)?;
        // Unknown providers and regions have an empty list, as in the Go project, which knows no
        // filter by pool.
        let named = Named {
            pool: query.pool.as_ref(),
            ..Named::default()
        };
        self.must_exist(named).await?;
        let nodes = self.published.read(|state| {
            state
                .nodes
                .values()
                .filter(|node| query.matches(node))
                .cloned()
                .collect::<Vec<_>>()
        });
        Ok(Listed::Parts(self.listed.of(&nodes, self)))
    }

    async fn get_node(
        &self,
        _call: Call,
        request: wire::GetNodeRequest,
    ) -> Result<wire::GetNodeResponse, ApiError> {
        let node = self.find_node(&requests::node(&request)?).await?;
        Ok(wire::GetNodeResponse {
            node: self.node_info(&node).into(),
        })
    }

    async fn issue_command(
        &self,
        call: Call,
        request: wire::IssueCommandRequest,
    ) -> Result<wire::IssueCommandResponse, ApiError> {
        let order = requests::command(request)?;
        let (node, kind) = (order.node, order.kind);
        let input = Input::Command {
            node: node.clone(),
            kind,
            parameters: order.parameters,
        };
        match self.order(&call, input).await? {
            Reply::Commanded {
                id,
                issued,
                holds,
                status: concluded,
            } => {
                let (holds, concluded) = match self.scheduler_answer(&node, kind, &id).await? {
                    Some(node) => (node.hold_names(), node.status()),
                    None => (holds, concluded),
                };
                Ok(wire::IssueCommandResponse {
                    command_id: id.as_str().to_owned(),
                    issued_at: convert::timestamp(issued).into(),
                    remaining_holds: holds,
                    node_status: concluded.number().into(),
                })
            }
            other => Err(ApiError::internal(format!("unexpected reply {other:?}"))),
        }
    }

    async fn list_instances(
        &self,
        _call: Call,
        request: wire::ListInstancesRequest,
    ) -> Result<Listed<wire::ListInstancesResponse>, ApiError> {
        let query = requests::instances(request)?;
        let instances = self.published.read(|state| {
            state
                .instances
                .values()
                .filter(|instance| query.matches(instance))
                .cloned()
                .collect::<Vec<_>>()
        });
        Ok(Listed::Message(wire::ListInstancesResponse {
            instances: instances
                .iter()
                .map(|instance| convert::instance(instance))
                .collect(),
        }))
    }

    async fn get_instance(
        &self,
        _call: Call,
        request: wire::GetInstanceRequest,
    ) -> Result<wire::GetInstanceResponse, ApiError> {
        let id = requests::instance(&request)?;
        let known = self
            .published
            .read(|state| state.instances.get(&id).cloned());
        let found = match known {
            Some(instance) => Some(instance),
            None => {
                let wanted = id.clone();
                let read = self.archive.read(move |history| history.instance(&wanted));
                read.await.map_err(|error| super::unreadable(&error))?
            }
        };
        let Some(instance) = found else {
            return Err(ApiError::not_found(format!("instance not found: {id}")));
        };
        Ok(wire::GetInstanceResponse {
            instance: convert::instance(&instance).into(),
        })
    }
}
