//! Every call of the contract, once: the handler traits and the client are made from this list.

/// Hands the list to the macro `$make`. A call is `unary`, `list` (unary, and its answer may be
/// put together from parts that were encoded before) or `stream` (the answer is a stream). Then
/// comes the least role that may make it.
macro_rules! every_service {
    ($make:ident) => {
        $make! {
            /// Package `navarch`: what existing agents and the classic commands call.
            ControlPlane, control_plane, crate::wire, "/navarch.ControlPlaneService/" {
                /// Announces a machine, or announces it again.
                unary Agent register_node "RegisterNode" (RegisterNodeRequest) -> RegisterNodeResponse;
                /// Delivers raw facts; the answer carries the node's status after them.
                unary Agent report_health "ReportHealth" (ReportHealthRequest) -> ReportHealthResponse;
                /// Says that the agent is alive.
                unary Agent send_heartbeat "SendHeartbeat" (HeartbeatRequest) -> HeartbeatResponse;
                /// Returns the commands that wait for a node.
                unary Agent get_node_commands "GetNodeCommands"
                    (GetNodeCommandsRequest) -> GetNodeCommandsResponse;
                /// Returns the nodes that match every given filter, ordered by id.
                list Viewer list_nodes "ListNodes" (ListNodesRequest) -> ListNodesResponse;
                /// Returns one node.
                unary Viewer get_node "GetNode" (GetNodeRequest) -> GetNodeResponse;
                /// Applies or queues a command for one node.
                unary Operator issue_command "IssueCommand" (IssueCommandRequest) -> IssueCommandResponse;
                /// Returns the instances that match every given filter, ordered by id.
                list Viewer list_instances "ListInstances" (ListInstancesRequest) -> ListInstancesResponse;
                /// Returns one instance.
                unary Viewer get_instance "GetInstance" (GetInstanceRequest) -> GetInstanceResponse;
            }

            /// `navarch.v1.AgentService`: what our agents call beyond the classic service.
            Agents, agents, crate::v1, "/navarch.v1.AgentService/" {
                /// Reports what became of a command. A repeat changes nothing.
                unary Agent acknowledge_command "AcknowledgeCommand"
                    (AcknowledgeCommandRequest) -> AcknowledgeCommandResponse;
                /// Sends the commands that wait for a node, then each new one.
                stream Agent watch_commands "WatchCommands"
                    (WatchCommandsRequest) -> WatchCommandsResponse;
            }

            /// `navarch.v1.FleetService`: what operators ask and order.
            Fleet, fleet, crate::v1, "/navarch.v1.FleetService/" {
                /// Says who answers.
                unary Viewer get_server_info "GetServerInfo"
                    (GetServerInfoRequest) -> GetServerInfoResponse;
                /// Tells why a node is as it is and what it waits for.
                unary Viewer explain_node "ExplainNode" (ExplainNodeRequest) -> ExplainNodeResponse;
                /// Takes an operator's word that a silent node's machine is dead.
                unary Operator confirm_silence "ConfirmSilence"
                    (ConfirmSilenceRequest) -> ConfirmSilenceResponse;
                /// Returns the commands of one node with their results.
                unary Viewer list_commands "ListCommands" (ListCommandsRequest) -> ListCommandsResponse;
                /// Holds a node beside the control plane, or renews a hold.
                unary Operator add_hold "AddHold" (AddHoldRequest) -> AddHoldResponse;
                /// Lifts a named hold.
                unary Operator remove_hold "RemoveHold" (RemoveHoldRequest) -> RemoveHoldResponse;
                /// Returns the holds that stand.
                unary Viewer list_holds "ListHolds" (ListHoldsRequest) -> ListHoldsResponse;
                /// Returns the machines with this fleet's tag that no record knows.
                unary Viewer list_unclaimed "ListUnclaimed"
                    (ListUnclaimedRequest) -> ListUnclaimedResponse;
                /// Takes such a machine into a pool.
                unary Operator adopt_instance "AdoptInstance"
                    (AdoptInstanceRequest) -> AdoptInstanceResponse;
                /// Ends an instance, or a machine that no record knows.
                unary Operator terminate_instance "TerminateInstance"
                    (TerminateInstanceRequest) -> TerminateInstanceResponse;
                /// Returns the incidents that match every given filter.
                unary Viewer list_incidents "ListIncidents"
                    (ListIncidentsRequest) -> ListIncidentsResponse;
                /// Returns one incident.
                unary Viewer get_incident "GetIncident" (GetIncidentRequest) -> GetIncidentResponse;
                /// Ends an incident by an operator's word.
                unary Operator close_incident "CloseIncident"
                    (CloseIncidentRequest) -> CloseIncidentResponse;
                /// Returns a page of the record.
                unary Viewer list_events "ListEvents" (ListEventsRequest) -> ListEventsResponse;
                /// Sends the events after a point of the record, then each new one.
                stream Viewer watch_events "WatchEvents" (WatchEventsRequest) -> WatchEventsResponse;
                /// Returns every pool.
                unary Viewer list_pools "ListPools" (ListPoolsRequest) -> ListPoolsResponse;
                /// Returns what the control plane does next, and what it waits for.
                unary Viewer get_plan "GetPlan" (GetPlanRequest) -> GetPlanResponse;
                /// Returns the automation switches.
                unary Viewer get_automation "GetAutomation"
                    (GetAutomationRequest) -> GetAutomationResponse;
                /// Sets the automation switch of the fleet or of one pool.
                unary Operator set_automation "SetAutomation"
                    (SetAutomationRequest) -> SetAutomationResponse;
                /// Asks for another size of a pool.
                unary Operator scale_pool "ScalePool" (ScalePoolRequest) -> ScalePoolResponse;
                /// Closes breakers of a pool.
                unary Operator reset_breaker "ResetBreaker" (ResetBreakerRequest) -> ResetBreakerResponse;
                /// Returns the health policy in force.
                unary Viewer get_policy "GetPolicy" (GetPolicyRequest) -> GetPolicyResponse;
                /// Returns the configuration in force, without its secrets.
                unary Admin get_config "GetConfig" (GetConfigRequest) -> GetConfigResponse;
            }

            /// `navarch.v1.PoolService`: what operators ask of one pool and order for it.
            Pools, pools, crate::v1, "/navarch.v1.PoolService/" {
                /// Returns how one pool stands.
                unary Viewer get_pool_status "GetPoolStatus"
                    (GetPoolStatusRequest) -> GetPoolStatusResponse;
                /// Returns what the GPUs of a node or a pool measured lately.
                unary Viewer query_metrics "QueryMetrics" (QueryMetricsRequest) -> QueryMetricsResponse;
            }

            /// `navarch.v1.DevService`: faults to order from a fake provider's machines.
            Dev, dev, crate::v1, "/navarch.v1.DevService/" {
                /// Makes a machine show a fault.
                unary Admin inject_fault "InjectFault" (InjectFaultRequest) -> InjectFaultResponse;
                /// Takes faults away, with the evidence of a repair.
                unary Admin clear_fault "ClearFault" (ClearFaultRequest) -> ClearFaultResponse;
            }
        }
    };
}

pub(crate) use every_service;
