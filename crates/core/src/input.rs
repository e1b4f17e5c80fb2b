//! What goes into the Fleet and what comes out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use navarch_config::Source;
use navarch_model::{
    Automation, BootId, Change, CommandId, CommandState, Description, FleetId, HealthEventType,
    HealthStatus, HealthWatchSystem, IncidentId, InstanceId, LaunchSpec, Machine, NodeCommandType,
    NodeId, NodeStatus, Notice, Offer, PoolName, ProviderError, ProviderInstanceId, ProviderName,
    SessionId, Stamp, TerminateAnswer, Time,
};
use navarch_policy::HealthPolicy;

pub use crate::action::{Action, Note};
use crate::settings::Settings;

/// One fact for the Fleet.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "an input is moved once; a box for each report would cost more than the copy"
)]
pub enum Input {
    /// A control plane took the fleet over: grace for everything, a new epoch.
    Started {
        /// The epoch that the store gave.
        epoch: u64,
    },
    /// A new configuration is in force, as a whole.
    Configure {
        /// What it says.
        settings: Arc<Settings>,
        /// The health policy that it names, if that is another one.
        policy: Option<Arc<HealthPolicy>>,
    },
    /// A new health policy is in force.
    SetPolicy(Arc<HealthPolicy>),
    /// A new health policy was refused; the one in force stays.
    PolicyRefused {
        /// Where it came from.
        source: String,
        /// What is wrong with it.
        error: String,
    },
    /// Time passed.
    Tick,
    /// The space that is free on the disk of the store, in bytes.
    Disk {
        /// Bytes.
        free: u64,
    },
    /// What autoscalers go by, gathered anew.
    Signals(Signals),
    /// An agent registers.
    Register(Registration),
    /// An agent reports facts.
    Report(Report),
    /// A node was not heard for longer than the heartbeat timeout.
    Silent {
        /// The node.
        node: NodeId,
        /// When it was last heard.
        last_heard: Stamp,
    },
    /// A silent node was heard.
    Back {
        /// The node.
        node: NodeId,
    },
    /// An agent asks for its commands.
    Poll {
        /// The node.
        node: NodeId,
        /// The agent's session, if it says: one that was superseded gets nothing.
        session: Option<SessionId>,
    },
    /// An agent says what became of a command.
    Acknowledge {
        /// The node.
        node: NodeId,
        /// The command.
        command: CommandId,
        /// Succeeded or failed.
        state: CommandState,
        /// What it printed.
        result: String,
    },
    /// An operator commands.
    Command {
        /// The node.
        node: NodeId,
        /// What to do.
        kind: NodeCommandType,
        /// How; `reason` is recorded.
        parameters: BTreeMap<String, String>,
    },
    /// An operator closes an incident.
    CloseIncident {
        /// The incident.
        incident: IncidentId,
        /// Why.
        reason: String,
    },
    /// An operator says that a silent node is dead.
    ConfirmDead {
        /// The node.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// An operator chooses the mode.
    SetAutomation {
        /// For one pool, or for the fleet.
        pool: Option<PoolName>,
        /// The mode.
        mode: Automation,
        /// Why.
        reason: String,
    },
    /// An operator takes the choice for a pool back: its configuration counts again.
    InheritAutomation {
        /// The pool.
        pool: PoolName,
        /// Why.
        reason: String,
    },
    /// An operator chooses the size of a pool.
    ScalePool {
        /// The pool.
        pool: PoolName,
        /// Machines.
        nodes: u32,
        /// Why.
        reason: String,
    },
    /// An operator closes breakers of a pool.
    ResetBreaker {
        /// The pool.
        pool: PoolName,
        /// A signature or an offering; none for all of them.
        signature: Option<String>,
    },
    /// Somebody holds a node beside us, or says so again.
    AddHold {
        /// The node.
        node: NodeId,
        /// The hold.
        hold: NamedHold,
    },
    /// Somebody lifts a named hold.
    RemoveHold {
        /// The node.
        node: NodeId,
        /// What the hold is called.
        name: String,
        /// Why.
        reason: String,
    },
    /// An operator takes a machine that nobody claims into a pool.
    AdoptMachine {
        /// The provider that listed it.
        provider: ProviderName,
        /// The cloud's id.
        machine: ProviderInstanceId,
        /// The pool.
        pool: PoolName,
        /// Why.
        reason: String,
    },
    /// An operator ends an instance on record.
    EndInstance {
        /// The instance.
        instance: InstanceId,
        /// Why.
        reason: String,
    },
    /// An operator ends a machine that nobody claims.
    EndUnclaimed {
        /// The provider that listed it.
        provider: ProviderName,
        /// The cloud's id.
        machine: ProviderInstanceId,
        /// Why.
        reason: String,
    },
    /// Another input that a person or a program asked for: every event that it leads to says who.
    By {
        /// Who.
        actor: Actor,
        /// What was asked for.
        input: Box<Input>,
    },
    /// A planned action is to be taken.
    Act(Action),
    /// A launch call was not begun, and is not going to be: nothing was made.
    LaunchNotBegun {
        /// Which call.
        key: CallKey,
        /// Why, in words.
        why: String,
    },
    /// A launch call that was begun ended.
    LaunchResult {
        /// Which call.
        key: CallKey,
        /// Its answer.
        result: Result<Machine, ProviderError>,
    },
    /// A look-up ended.
    LookupResult {
        /// Which call.
        key: CallKey,
        /// Its answer; `None` if the cloud does not know the machine.
        result: Result<Option<Machine>, ProviderError>,
    },
    /// A termination ended.
    TerminateResult {
        /// Which call.
        key: CallKey,
        /// Its answer.
        result: Result<TerminateAnswer, ProviderError>,
    },
    /// A listing ended.
    ListResult {
        /// The provider.
        provider: ProviderName,
        /// When the listing began.
        began: Stamp,
        /// Every machine with our fleet id, and whether every page came.
        result: Result<(Vec<Machine>, bool), ProviderError>,
    },
    /// A provider said what it sells.
    PricesResult {
        /// The provider.
        provider: ProviderName,
        /// Its price list; none if it has none.
        result: Result<Option<Vec<Offer>>, ProviderError>,
    },
    /// A machine that nobody claims was asked to go.
    UnclaimedResult {
        /// The provider.
        provider: ProviderName,
        /// The machine.
        machine: ProviderInstanceId,
        /// The answer.
        result: Result<TerminateAnswer, ProviderError>,
    },
    /// The scheduler answered a notice, or did not.
    NotifyResult {
        /// The node.
        node: NodeId,
        /// The notice's sequence.
        sequence: u64,
        /// What came of it.
        outcome: NotifyOutcome,
    },
    /// The scheduler said whether a node is empty.
    DrainResult {
        /// The node.
        node: NodeId,
        /// When the drain began that was asked about: an answer about an earlier one is none.
        since: Stamp,
        /// Whether it is empty, or why nobody knows.
        drained: Result<bool, String>,
    },
}

/// What came of telling the scheduler something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotifyOutcome {
    /// It took it.
    Taken,
    /// It did not take it, and did nothing; why, in its words.
    Refused(String),
    /// Nobody knows whether it took it.
    Unknown(String),
}

/// Who asked for something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Actor {
    /// The name of the token that was shown.
    pub name: String,
    /// The address of the caller; empty if it is not known.
    pub address: String,
}

/// A hold that a person or another system sets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamedHold {
    /// What it is called: unique on its node.
    pub name: String,
    /// Who sets it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Whether the work on the node is to end.
    pub drains: bool,
    /// How long it stands at most, from now; none means until it is removed.
    pub lasts: Option<Duration>,
}

/// What autoscalers go by. Nothing of it is stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signals {
    /// How busy each GPU of a node is, in percent, as its agent last said. What is no percentage
    /// does not count, and neither does a node that is not ACTIVE.
    pub nodes: Vec<(NodeId, Vec<f64>)>,
    /// What each source said of its queue, or why it is not known.
    pub queues: Vec<(Source, Result<f64, String>)>,
}

/// What an agent says when it registers.
#[derive(Debug, Clone, Default)]
pub struct Registration {
    /// Its id.
    pub node: Option<NodeId>,
    /// The instance it was bought as.
    pub instance: Option<InstanceId>,
    /// What it says of its machine.
    pub description: Description,
    /// Its boot.
    pub boot: Option<BootId>,
    /// Its session.
    pub session: Option<SessionId>,
    /// The address it calls from.
    pub address: String,
}

/// One raw fact.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fact {
    /// When the agent says it happened, in microseconds of Unix time.
    pub happened: i64,
    /// The GPU's index; none for the node as a whole.
    pub gpu: Option<i32>,
    /// The GPU's UUID.
    pub gpu_uuid: String,
    /// The part of the machine.
    pub system: HealthWatchSystem,
    /// The kind of fact.
    pub event_type: HealthEventType,
    /// The readings.
    pub metrics: BTreeMap<String, String>,
    /// The agent's words.
    pub message: String,
    /// The watch that made the reading; empty for agents that do not say.
    pub watch: String,
    /// The boot it happened in; none means the report's.
    pub boot: Option<BootId>,
    /// How many equal ones it stands for; 0 means 1.
    pub count: u32,
}

/// A result that an older agent graded itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GradedResult {
    /// The check.
    pub check: String,
    /// The grade.
    pub status: HealthStatus,
    /// The agent's words.
    pub message: String,
}

/// What an agent reports.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The node.
    pub node: Option<NodeId>,
    /// Graded results of an older agent.
    pub results: Vec<GradedResult>,
    /// Raw facts.
    pub facts: Vec<Fact>,
    /// The boot it is in.
    pub boot: Option<BootId>,
    /// The session.
    pub session: Option<SessionId>,
    /// The place of the report in its session, from 1; 0 if the agent does not count.
    pub sequence: u64,
    /// Whether it holds a reading of every watch that ran.
    pub full: bool,
}

/// What a caller gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It is done.
    Done,
    /// The report was taken.
    Reported(NodeStatus),
    /// The breakers that were closed.
    Reset(Vec<String>),
    /// The size of a pool was chosen.
    Sized {
        /// Machines asked for before.
        from: usize,
        /// Machines asked for now.
        to: usize,
    },
    /// The commands that wait.
    Commands(Vec<Arc<navarch_model::Command>>),
    /// The instance that was adopted, or is ended.
    Instance(InstanceId),
    /// A hold was set or lifted.
    Held {
        /// Whether anything changed.
        changed: bool,
        /// The holds that stand on the node now.
        holds: Vec<String>,
        /// The node's status after it.
        status: NodeStatus,
    },
    /// A command was taken.
    Commanded {
        /// Its id.
        id: CommandId,
        /// When it was issued.
        issued: Stamp,
        /// The holds that remain on the node.
        holds: Vec<String>,
        /// The node's status after it.
        status: NodeStatus,
    },
}

/// Why an input was refused, in the words of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionCode {
    /// Something named does not exist.
    NotFound,
    /// The state does not allow it.
    FailedPrecondition,
    /// Another host has the id.
    AlreadyExists,
    /// The input makes no sense.
    InvalidArgument,
}

/// A refused input. Nothing that the caller asked for was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// The kind.
    pub code: RejectionCode,
    /// What is wrong and what to do.
    pub message: String,
}

impl Rejection {
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self {
            code: RejectionCode::NotFound,
            message: message.into(),
        }
    }

    pub(crate) fn precondition(message: impl Into<String>) -> Self {
        Self {
            code: RejectionCode::FailedPrecondition,
            message: message.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            code: RejectionCode::InvalidArgument,
            message: message.into(),
        }
    }
}

/// Which call an answer belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallKey {
    /// The instance.
    pub instance: InstanceId,
    /// The attempt.
    pub attempt: u32,
    /// The provider that is called.
    pub provider: ProviderName,
}

/// One bounded call to the outside. The shell gives it a deadline and always feeds its result
/// back, a timeout as [`navarch_model::ProviderErrorKind::OutcomeUnknown`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Buy a machine.
    Launch {
        /// Which call.
        key: CallKey,
        /// What to buy.
        spec: LaunchSpec,
        /// The call is not begun after this moment of fleet time: the shell then feeds back
        /// [`Input::LaunchNotBegun`].
        deadline: Time,
    },
    /// Do not begin a launch call that still waits for its turn: the shell feeds back
    /// [`Input::LaunchNotBegun`] for it. One that has begun goes on, and this effect itself has no
    /// answer.
    CancelLaunch {
        /// Which call.
        key: CallKey,
    },
    /// Ask for one machine, by the cloud's id if it is known, else by ours.
    Lookup {
        /// Which call.
        key: CallKey,
        /// The provider.
        provider: ProviderName,
        /// The fleet.
        fleet: FleetId,
        /// The cloud's id.
        provider_id: Option<ProviderInstanceId>,
    },
    /// Let a machine go.
    Terminate {
        /// Which call.
        key: CallKey,
        /// The provider.
        provider: ProviderName,
        /// The cloud's id.
        provider_id: ProviderInstanceId,
    },
    /// List every machine of the fleet.
    List {
        /// The provider.
        provider: ProviderName,
        /// The fleet.
        fleet: FleetId,
        /// When it was asked for.
        began: Stamp,
    },
    /// Ask what a provider sells, and for how much.
    Prices {
        /// The provider.
        provider: ProviderName,
    },
    /// Let a machine that nobody claims go.
    TerminateUnclaimed {
        /// The provider.
        provider: ProviderName,
        /// The cloud's id.
        provider_id: ProviderInstanceId,
    },
    /// Tell the scheduler something of a node. The shell feeds a [`NotifyOutcome`] back.
    Notify {
        /// The node.
        node: NodeId,
        /// What it is told.
        notice: Notice,
        /// What makes a repeat of the notice recognisable.
        key: String,
        /// How long the call may take, its wait for a turn included.
        limit: Duration,
    },
    /// Ask the scheduler whether a node that it drains is empty.
    AskDrained {
        /// The node.
        node: NodeId,
        /// When the drain began, for the answer.
        since: Stamp,
        /// How long the call may take, its wait for a turn included.
        limit: Duration,
    },
}

/// What applying an input led to.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What the caller gets, once the changes are durable.
    pub reply: Result<Reply, Rejection>,
    /// What must be made durable first. Empty when no stored fact changed.
    pub changes: Vec<Change>,
    /// What to start once the changes are durable.
    pub effects: Vec<Effect>,
}
