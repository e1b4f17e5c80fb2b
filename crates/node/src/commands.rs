//! Commands: what they ask for, and the results that are kept to answer repeats.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_core::agent::Agent;
use navarch_model::{CommandId, NodeCommandType};
use serde::{Deserialize, Serialize};

use crate::AgentError;
use crate::reading;
use crate::state::{Found, StateDir};

/// The file of the state directory.
const NAME: &str = "commands.json";

/// The most results that a file may bring. The agent's core remembers fewer.
const MAX_RESULTS: usize = 256;

/// The most bytes of a result that are kept and sent.
const MAX_OUTPUT_BYTES: usize = 16 * 1024;

/// A command that was carried out, or that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finished {
    pub(crate) id: CommandId,
    pub(crate) succeeded: bool,
    pub(crate) output: String,
}

impl Finished {
    pub(crate) fn new(id: CommandId, succeeded: bool, mut output: String) -> Self {
        output.truncate(output.floor_char_boundary(MAX_OUTPUT_BYTES));
        Self {
            id,
            succeeded,
            output,
        }
    }
}

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Read these watches, or all of them.
    Diagnose(Option<String>),
    /// End the agent.
    Stop,
    /// Nothing that this agent does, for this reason.
    Refuse(String),
}

/// What a command of this type and with these parameters asks for.
pub(crate) fn order(number: i32, parameters: &BTreeMap<String, String>) -> Order {
    use navarch_gpu::watch;
    const TESTS: [&str; 9] = [
        watch::BOOT,
        watch::DEVICE_COUNT,
        watch::DRIVER,
        watch::MEMORY,
        watch::NVLINK,
        watch::PCIE,
        watch::POWER,
        watch::TEMPERATURE,
        reading::XID,
    ];
    let Some(kind) = NodeCommandType::from_number(number) else {
        return Order::Refuse(format!(
            "this agent does not know commands of type {number}; it may be older than the control plane"
        ));
    };
    match kind {
        NodeCommandType::RunDiagnostic => match parameters.get("test").map(String::as_str) {
            None | Some("" | "all") => Order::Diagnose(None),
            Some(test) if TESTS.contains(&test) => Order::Diagnose(Some(test.to_owned())),
            Some(test) => {
                let test: String = test.chars().take(64).collect();
                Order::Refuse(format!(
                    "there is no test {test:?}; use all, {}",
                    TESTS.join(", ")
                ))
            }
        },
        NodeCommandType::Terminate => Order::Stop,
        NodeCommandType::Cordon | NodeCommandType::Uncordon | NodeCommandType::Drain => {
            Order::Refuse(format!(
                "{} is the control plane's to do; the agent has no part in it",
                kind.short()
            ))
        }
        NodeCommandType::Unknown => {
            Order::Refuse("the command has no type; nothing was done".to_owned())
        }
    }
}

/// The results of finished commands, as long as the agent's core remembers them.
#[derive(Debug)]
pub(crate) struct Ledger {
    state: Option<Arc<StateDir>>,
    results: BTreeMap<CommandId, Finished>,
}

impl Ledger {
    /// Opens the ledger; also returns the ids, the oldest first.
    ///
    /// # Errors
    ///
    /// When it cannot be read. A damaged one is set aside.
    pub(crate) fn open(state: Option<Arc<StateDir>>) -> Result<(Self, Vec<CommandId>), AgentError> {
        let mut stored = match &state {
            Some(state) => match state.read::<Vec<Finished>>(NAME)? {
                Found::Value(stored) => stored,
                Found::Nothing | Found::Damaged => Vec::new(),
            },
            None => Vec::new(),
        };
        // What no agent wrote is not believed: ids that are none, and more than there can be.
        stored.retain(|finished| CommandId::parse(finished.id.as_str()).is_ok());
        stored.drain(..stored.len().saturating_sub(MAX_RESULTS));
        for finished in &mut stored {
            let output = &mut finished.output;
            output.truncate(output.floor_char_boundary(MAX_OUTPUT_BYTES));
        }
        let ids = stored.iter().map(|finished| finished.id.clone()).collect();
        let results = stored
            .into_iter()
            .map(|finished| (finished.id.clone(), finished))
            .collect();
        Ok((Self { state, results }, ids))
    }

    /// Keeps a result, durably before this returns, and forgets those that the agent forgot.
    pub(crate) fn finish(&mut self, finished: Finished, agent: &Agent) {
        self.results.insert(finished.id.clone(), finished);
        let order: Vec<&CommandId> = agent.finished().collect();
        self.results.retain(|id, _| order.contains(&id));
        let Some(state) = &self.state else {
            return;
        };
        let stored: Vec<&Finished> = order
            .into_iter()
            .filter_map(|id| self.results.get(id))
            .collect();
        let text = serde_json::to_vec(&stored).expect("results are plain data");
        if let Err(error) = state.write(NAME, &text) {
            tracing::warn!(
                path = %state.file(NAME).display(), %error,
                "a finished command cannot be kept on disk; after a restart it may run again"
            );
        }
    }

    /// The answer to a repeat.
    pub(crate) fn answer(&self, id: &CommandId) -> Finished {
        self.results.get(id).cloned().unwrap_or_else(|| {
            let output = "carried out before; its result was not kept".to_owned();
            Finished::new(id.clone(), true, output)
        })
    }
}

#[cfg(test)]
mod tests {
    use navarch_core::agent::{Spool, SpoolLimits};
    use navarch_model::SessionId;

    use super::*;

    #[test]
    fn commands_ask_for_what_this_agent_does() {
        let order = |number, test: Option<&str>| {
            let parameters = test.map(|test| ("test".to_owned(), test.to_owned()));
            super::order(number, &parameters.into_iter().collect())
        };
        let refused = |order: Order| match order {
            Order::Refuse(text) => text,
            other => panic!("{other:?} is not refused"),
        };
        assert_eq!(order(3, None), Order::Diagnose(None));
        assert_eq!(order(3, Some("all")), Order::Diagnose(None));
        assert_eq!(
            order(3, Some("xid")),
            Order::Diagnose(Some("xid".to_owned()))
        );
        assert_eq!(order(4, None), Order::Stop);
        let long = "x".repeat(100_000);
        for (number, test, part) in [
            (0, None, "has no type"),
            (1, None, "cordon is the control plane's"),
            (2, None, "drain is the control plane's"),
            (5, None, "uncordon is the control plane's"),
            (99, None, "commands of type 99"),
            (-1, None, "commands of type -1"),
            (3, Some("dcgm"), "no test \"dcgm\"; use all, boot"),
            (3, Some(long.as_str()), "no test"),
        ] {
            let text = refused(order(number, test));
            assert!(text.contains(part) && text.len() < 300, "{text}");
        }
    }

    #[test]
    fn results_outlive_the_agent_as_long_as_their_ids_are_remembered() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || {
            let state = Arc::new(StateDir::open(dir.path()).expect("it opens"));
            Ledger::open(Some(state)).expect("it opens")
        };
        let agent = |finished| {
            Agent::new(
                SessionId::new("s"),
                Spool::new(SpoolLimits::default()),
                finished,
            )
        };
        let (mut ledger, ids) = open();
        let mut first = agent(ids);
        for number in 0..300 {
            let id = CommandId::new(format!("c{number}"));
            first.finish(id.clone());
            ledger.finish(
                Finished::new(id, number % 2 == 0, format!("out {number}")),
                &first,
            );
        }
        drop(ledger);
        let (ledger, ids) = open();
        let second = agent(ids);
        let kept = CommandId::new("c299");
        assert!(!second.is_new(&kept));
        let answer = ledger.answer(&kept);
        assert_eq!(
            (answer.succeeded, answer.output.as_str()),
            (false, "out 299")
        );
        assert!(
            second.is_new(&CommandId::new("c0")),
            "the oldest is forgotten first"
        );
        assert_eq!(ledger.results.len(), second.finished().count());
    }

    #[test]
    fn long_output_is_cut() {
        let made = Finished::new(CommandId::new("c"), true, "é".repeat(100_000));
        assert!(made.output.len() <= MAX_OUTPUT_BYTES && made.output.ends_with('é'));
    }

    #[test]
    fn a_file_that_no_agent_wrote_brings_no_more_than_one_could() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut rows: Vec<_> = (0..1000)
            .map(|number| {
                let output = "é".repeat(MAX_OUTPUT_BYTES);
                serde_json::json!({"id": format!("c{number}"), "succeeded": true, "output": output})
            })
            .collect();
        rows.push(serde_json::json!({"id": "\u{1b}[2J", "succeeded": true, "output": ""}));
        rows.push(serde_json::json!({"id": "x".repeat(9999), "succeeded": true, "output": ""}));
        let text = serde_json::to_vec(&rows).expect("plain data");
        std::fs::write(dir.path().join(NAME), text).expect("it is written");
        let state = Arc::new(StateDir::open(dir.path()).expect("it opens"));
        let (ledger, ids) = Ledger::open(Some(state)).expect("it opens");
        let newest: Vec<_> = (1000 - MAX_RESULTS..1000)
            .map(|number| CommandId::new(format!("c{number}")))
            .collect();
        assert_eq!(ids, newest);
        assert_eq!(ledger.results.len(), MAX_RESULTS);
        for result in ledger.results.values() {
            assert!(result.output.len() <= MAX_OUTPUT_BYTES);
        }
    }
}
