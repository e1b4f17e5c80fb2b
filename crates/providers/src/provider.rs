//! The trait that every cloud implements, and the answers it gives.

use std::future::Future;
use std::pin::Pin;

use navarch_model::{
    FleetId, Idempotency, InstanceId, LaunchSpec, Machine, Offer, ProviderError,
    ProviderInstanceId, TerminateAnswer,
};

use crate::{Fault, FaultKind};

/// A call to a cloud that is under way.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, ProviderError>> + Send + 'a>>;

/// A cloud that machines are rented from.
///
/// An implementation translates one call into one bounded exchange with the cloud and its
/// outcome into a typed error. It keeps no policy: it does not retry, cache, pace or choose.
/// Every answer about a machine, a listing above all, carries when the cloud takes it back once the
/// cloud says so.
/// The caller sets the deadline, by dropping the call: every call can be dropped at any moment
/// and leaves the provider usable. A dropped call may still have its effect in the cloud, so
/// the caller treats a dropped [`launch`](Provider::launch) as outcome unknown.
pub trait Provider: Send + Sync {
    /// How the cloud keeps one intent from buying two machines.
    fn idempotency(&self) -> Idempotency;

    /// Asks for the machine of `spec`, with the instance id as client token, unique name and
    /// tag, and with the fleet id and the pool as tags. A second call with an equal `spec`
    /// answers the machine of the first where [`idempotency`](Provider::idempotency) says so,
    /// in whatever state it is by then.
    ///
    /// # Errors
    ///
    /// `OutcomeUnknown` when a machine may exist; with every other kind, none was made.
    fn launch<'a>(&'a self, spec: &'a LaunchSpec) -> Call<'a, Machine>;

    /// The machine that carries our instance id, or `None` when the cloud knows none. One that
    /// the cloud still shows as terminated is an answer, not `None`.
    ///
    /// # Errors
    ///
    /// The cloud did not say whether it knows the machine.
    fn find<'a>(
        &'a self,
        fleet: &'a FleetId,
        instance: &'a InstanceId,
    ) -> Call<'a, Option<Machine>>;

    /// The machine with the cloud's id, or `None` when the cloud does not know it.
    ///
    /// # Errors
    ///
    /// The cloud did not say whether it knows the machine.
    fn get<'a>(&'a self, id: &'a ProviderInstanceId) -> Call<'a, Option<Machine>>;

    /// Asks that the machine ends. It may be asked any number of times; a machine that the
    /// cloud does not know is `Gone`.
    ///
    /// # Errors
    ///
    /// The cloud did not say that it accepts.
    fn terminate<'a>(&'a self, id: &'a ProviderInstanceId) -> Call<'a, TerminateAnswer>;

    /// Every machine that carries the fleet's id, all pages, those that the cloud still shows
    /// as terminated included. Machines of other fleets, and of none, are left out.
    ///
    /// # Errors
    ///
    /// The cloud showed nothing. When it fails after some pages, the answer is a listing that
    /// is not [`complete`](Listing::complete) instead.
    fn list<'a>(&'a self, fleet: &'a FleetId) -> Call<'a, Listing>;

    /// What the cloud sells, with prices and whether there are machines; `None` where it has no
    /// such list. The fleet asks now and then, while a pool chooses by price or availability.
    ///
    /// # Errors
    ///
    /// The cloud did not show its list, or not all of it.
    fn offerings(&self) -> Call<'_, Option<Vec<Offer>>>;

    /// Fault injection into machines, for development. Only the fake cloud has it.
    fn faults(&self) -> Option<&dyn FaultInjection>;

    /// Ends what the provider runs in this process, machines of an embedded cloud included;
    /// they come back with the next start. It takes at most about three seconds.
    fn shutdown(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// What a look at all machines of a fleet showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The machines, in the cloud's order.
    pub machines: Vec<Machine>,
    /// Whether every page was read. Absence from a listing that is not complete says nothing.
    pub complete: bool,
}

/// Puts faults into the GPUs of machines and takes them away. A development aid: the machine's
/// agent does the work, behind its debug API.
pub trait FaultInjection: Send + Sync {
    /// Puts a fault into the machine.
    ///
    /// # Errors
    ///
    /// `NotFound` when no such machine runs; `Configuration` when the agent refuses the fault,
    /// with the agent's words; `Transient` when its agent cannot be reached yet.
    fn inject<'a>(&'a self, instance: &'a InstanceId, fault: &'a Fault) -> Call<'a, ()>;

    /// Takes away the faults of one kind, or all of them. This stands for a repair: the agent
    /// also produces the evidence of it.
    ///
    /// # Errors
    ///
    /// As [`inject`](FaultInjection::inject).
    fn clear<'a>(&'a self, instance: &'a InstanceId, kind: Option<FaultKind>) -> Call<'a, ()>;
}
