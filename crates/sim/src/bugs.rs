//! Bugs that tests plant in the shells, to see that the simulator finds them.

use std::sync::Arc;

use navarch_config::Budget;
use navarch_core::{Action, Input, NotifyOutcome, Report, Settings};
use navarch_model::{Change, HoldKind, Node, NodeCommandType, NodeId, Phase, TerminateAnswer};

use navarch_policy::HealthPolicy;

use crate::world::Sim;

/// A budget with one slot more, of pools as small as tests have them.
fn one_more(budget: Budget) -> Budget {
    match budget {
        Budget::Count(slots) => Budget::Count(slots + 1),
        Budget::Share(_) => Budget::Count(2),
    }
}

/// A bug in a shell, in how it drives the core, planted to see that the simulator finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The intent to launch is left out of the commit.
    LaunchIntentDropped,
    /// Effects start before the commit, which a crash then loses.
    EffectsBeforeCommit,
    /// Replies leave before the commit, which a crash then loses.
    RepliesBeforeCommit,
    /// A changed hold is left out of the commit.
    HoldChangeDropped,
    /// A listing that is partial or failed is handed over as empty and complete.
    EmptyListingComplete,
    /// An accepted termination is handed over as a finished one.
    AcceptedIsGone,
    /// Machines of other fleets are handed over with the id of this one.
    NeighbourTagged,
    /// Launches that are called back while they wait for their turn are made all the same.
    CancelIgnored,
    /// A restored store goes on with the automation of its copy.
    RestoredGoesOn,
    /// A node that is heard again loses the holds that others set.
    BackLiftsHolds,
    /// An agent that starts again does not know which commands it finished.
    CommandsForgotten,
    /// An agent that starts again does not know what its spool lost.
    LossesForgotten,
    /// Terminations are never called.
    TerminationsDropped,
    /// The first change of a turn is left out of the commit.
    FirstChangeDropped,
    /// A notice that was refused, or whose answer was lost, is handed over as taken.
    EveryNoticeTaken,
    /// Budgets have one slot more than the configuration says.
    BudgetOffByOne,
    /// The budget of the fleet has one slot more than the configuration says.
    FleetBudgetOffByOne,
    /// The policy takes every fault for a condition, which silence or a good reading ends.
    LatchedIsCondition,
    /// A full report is handed over as that of another node.
    ReportOfAnother,
    /// Drains whose cause is gone are not cancelled.
    DrainNotCancelled,
    /// The try of a breaker that failed is handed over as one that helped, so that what waited is
    /// acted on.
    FailedTryHelped,
    /// The policy calls a machine well that has fewer GPUs than it had.
    LostGpusPass,
    /// The clouds are never asked what is there.
    ListingsDropped,
    /// That a machine is taken back is handed over of all the others.
    NoticeOfAnother,
}

impl Sim {
    /// What is handed to the core by a shell with a bug.
    pub(crate) fn mistaken(&self, input: Input) -> Input {
        match (self.config.bug, input) {
            (
                Some(Bug::EmptyListingComplete),
                Input::ListResult {
                    provider,
                    began,
                    result: Ok((_, false)) | Err(_),
                },
            ) => Input::ListResult {
                provider,
                began,
                result: Ok((Vec::new(), true)),
            },
            (
                Some(Bug::AcceptedIsGone),
                Input::TerminateResult {
                    key,
                    result: Ok(TerminateAnswer::Accepted),
                },
            ) => Input::TerminateResult {
                key,
                result: Ok(TerminateAnswer::Gone),
            },
            (
                Some(bug @ (Bug::NeighbourTagged | Bug::NoticeOfAnother)),
                Input::ListResult {
                    provider,
                    began,
                    result: Ok((mut machines, complete)),
                },
            ) => {
                let taken = machines.iter().find_map(|machine| machine.interruption_at);
                for machine in &mut machines {
                    if bug == Bug::NeighbourTagged {
                        machine.fleet = Some(self.fleet.clone());
                    } else {
                        machine.interruption_at = match machine.interruption_at {
                            Some(_) => None,
                            None => taken,
                        };
                    }
                }
                Input::ListResult {
                    provider,
                    began,
                    result: Ok((machines, complete)),
                }
            }
            (
                Some(Bug::EveryNoticeTaken),
                Input::NotifyResult {
                    node,
                    sequence,
                    outcome: _,
                },
            ) => Input::NotifyResult {
                node,
                sequence,
                outcome: NotifyOutcome::Taken,
            },
            (Some(Bug::BackLiftsHolds), Input::Back { node }) => self.lifting(node),
            (Some(Bug::ReportOfAnother), Input::Report(report)) => {
                Input::Report(self.relabelled(report))
            }
            (
                Some(Bug::FailedTryHelped),
                Input::Act(Action::JudgeProbe {
                    pool, signature, ..
                }),
            ) => Input::Act(Action::JudgeProbe {
                pool,
                signature,
                proven: true,
            }),
            (_, input) => input,
        }
    }

    /// A full report under the name of a node that has an incident, if there is one beside its own.
    fn relabelled(&self, report: Report) -> Report {
        let own = report.node.as_ref();
        let sick = self.seen.nodes.values().find(|node| {
            Some(&node.id) != own && node.terminated.is_none() && !node.open_incidents.is_empty()
        });
        match sick.filter(|_| report.full) {
            None => report,
            Some(node) => Report {
                node: Some(node.id.clone()),
                boot: node.boot.clone(),
                session: node.session.clone(),
                sequence: 0,
                ..report
            },
        }
    }

    /// The settings that a shell with a bug hands to the core.
    pub(crate) fn core_settings(&self) -> Arc<Settings> {
        let pools = match self.config.bug {
            Some(Bug::BudgetOffByOne) => true,
            Some(Bug::FleetBudgetOffByOne) => false,
            _ => return Arc::clone(&self.settings),
        };
        let mut settings = Settings::clone(&self.settings);
        settings.guards.budget = one_more(settings.guards.budget);
        for pool in settings.pools.values_mut().filter(|_| pools) {
            pool.config.budget = one_more(pool.config.budget);
        }
        Arc::new(settings)
    }

    /// The policy that a shell with a bug hands to the core.
    pub(crate) fn core_policy(&self) -> Arc<HealthPolicy> {
        if self.config.bug == Some(Bug::LostGpusPass) {
            let missing = "event.metrics.gpu_count < event.metrics.gpu_count_expected\n";
            let text = HealthPolicy::builtin_text().replace(
                &format!("{missing}    result: unhealthy\n"),
                &format!("{missing}    result: healthy\n"),
            );
            return HealthPolicy::parse("planted", &text)
                .map_or_else(|_| Arc::clone(&self.judge.policy), Arc::new);
        }
        if self.config.bug != Some(Bug::LatchedIsCondition) {
            return Arc::clone(&self.judge.policy);
        }
        let text = HealthPolicy::builtin_text().replace("    class: latched\n", "");
        let text = text.replace(
            "    result: unhealthy\n",
            "    result: unhealthy\n    class: condition\n",
        );
        let text = text.replace(
            "    class: condition\n    class: condition\n",
            "    class: condition\n",
        );
        HealthPolicy::parse("planted", &text)
            .map_or_else(|_| Arc::clone(&self.judge.policy), Arc::new)
    }

    /// What a shell with a bug makes of what was planned.
    pub(crate) fn planned_by_mistake(&self, actions: Vec<Action>) -> Vec<Action> {
        let mut actions = actions;
        if self.config.bug == Some(Bug::DrainNotCancelled) {
            actions.retain(|action| !matches!(action, Action::CancelDrain { .. }));
        }
        actions
    }

    /// What lifts a hold that somebody else set, if there is one.
    fn lifting(&self, node: NodeId) -> Input {
        let known = self.seen.nodes.get(&node);
        let held = known.and_then(|known| known.holds.keys().find(|kind| kind.is_operators()));
        match held {
            None => Input::Back { node },
            Some(HoldKind::Named { name, .. }) => Input::RemoveHold {
                name: name.clone(),
                node,
                reason: String::new(),
            },
            Some(_) => Input::Command {
                node,
                kind: NodeCommandType::Uncordon,
                parameters: [].into(),
            },
        }
    }

    /// What is committed by a shell with a bug.
    pub(crate) fn durable(&self, changes: &[Change]) -> Vec<Change> {
        let forgets = |change: &Change| match (self.config.bug, change) {
            (Some(Bug::LaunchIntentDropped), Change::Instance(instance)) => {
                instance.phase == Phase::Launching
            }
            (Some(Bug::HoldChangeDropped), Change::Node(node)) => self
                .plane
                .released
                .nodes
                .get(&node.id)
                .is_some_and(|before: &Arc<Node>| before.holds != node.holds),
            _ => false,
        };
        let skipped = usize::from(self.config.bug == Some(Bug::FirstChangeDropped));
        changes
            .iter()
            .skip(skipped)
            .filter(|change| !forgets(change))
            .cloned()
            .collect()
    }
}
