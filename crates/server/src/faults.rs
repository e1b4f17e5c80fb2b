//! Where faults of machines are ordered: at the providers of the fleet, or at whoever drives it.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_api::ApiError;
use navarch_model::{NodeId, ProviderError, ProviderErrorKind, ProviderName};
use navarch_providers::{Fault, FaultKind, Provider};
use tokio::sync::{mpsc, oneshot};

use crate::publish::Published;

/// Orders that may wait for whoever drives the fleet. More only lets them wait longer.
const WAITING: usize = 64;

/// What breaks machines of a fleet, for people who develop or try things.
#[derive(Clone)]
pub(crate) enum Faults {
    /// The fleet's own providers, of which the fake ones can.
    Providers(BTreeMap<ProviderName, Arc<dyn Provider>>),
    /// Whoever drives the fleet.
    Driver(mpsc::Sender<FaultOrder>),
}

/// What is to become of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered {
    /// It shows a fault from now on.
    Inject(Fault),
    /// It is repaired: faults of one kind go, or all of them.
    Clear(Option<FaultKind>),
}

/// An order for the machine of a node.
#[derive(Debug)]
pub struct FaultOrder {
    /// The node.
    pub node: NodeId,
    /// What is to become of it.
    pub what: Ordered,
    answer: oneshot::Sender<Result<(), FaultRefusal>>,
}

/// Why an order is not carried out. Nothing was broken and nothing repaired.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultRefusal {
    /// There is no such node, or no machine of it any more.
    #[error("{0}")]
    Unknown(String),
    /// The order makes no sense for this machine.
    #[error("{0}")]
    Wrong(String),
    /// Machines of this fleet cannot show it.
    #[error("{0}")]
    Cannot(String),
    /// Not now.
    #[error("{0}")]
    NotNow(String),
}

impl From<FaultRefusal> for ApiError {
    fn from(refusal: FaultRefusal) -> Self {
        match refusal {
            FaultRefusal::Unknown(message) => Self::not_found(message),
            FaultRefusal::Wrong(message) => Self::invalid_argument(message),
            FaultRefusal::Cannot(message) => Self::unimplemented(message),
            FaultRefusal::NotNow(message) => Self::unavailable(message),
        }
    }
}

impl From<ProviderError> for FaultRefusal {
    fn from(error: ProviderError) -> Self {
        match error.kind {
            ProviderErrorKind::Configuration => Self::Wrong(error.message),
            ProviderErrorKind::NotFound => Self::Unknown(error.message),
            _ => Self::NotNow(error.to_string()),
        }
    }
}

impl FaultOrder {
    /// Says what became of it.
    pub fn answer(self, became: Result<(), FaultRefusal>) {
        // The caller may be gone; the machine is what it is now.
        let _ = self.answer.send(became);
    }
}

impl Faults {
    /// What hands orders on, and where they arrive.
    pub(crate) fn driven() -> (Self, mpsc::Receiver<FaultOrder>) {
        let (orders, arrive) = mpsc::channel(WAITING);
        (Self::Driver(orders), arrive)
    }

    /// Carries an order out for a node that readers see.
    ///
    /// # Errors
    ///
    /// See [`FaultRefusal`].
    pub(crate) async fn order(
        &self,
        published: &Published,
        node: &NodeId,
        what: Ordered,
    ) -> Result<(), FaultRefusal> {
        let Some(known) = published.node(node) else {
            return Err(FaultRefusal::Unknown(format!("node not found: {node}")));
        };
        let providers = match self {
            Self::Providers(providers) => providers,
            Self::Driver(orders) => {
                let gone = || FaultRefusal::NotNow("the fleet is shutting down".to_owned());
                let (answer, became) = oneshot::channel();
                let order = FaultOrder {
                    node: node.clone(),
                    what,
                    answer,
                };
                orders.send(order).await.map_err(|_| gone())?;
                return became.await.unwrap_or_else(|_| Err(gone()));
            }
        };
        let no_faults = || {
            FaultRefusal::Cannot(format!(
                "faults are ordered at machines of a fake provider, and node {node} is none"
            ))
        };
        let instance = known.instance.as_ref();
        let instance = instance
            .and_then(|id| published.read(|state| state.instances.get(id).cloned()))
            .ok_or_else(no_faults)?;
        let provider = providers.get(&instance.offering.provider);
        let provider = provider.ok_or_else(no_faults)?;
        let faults = provider.faults().ok_or_else(no_faults)?;
        match what {
            Ordered::Inject(fault) => faults.inject(&instance.id, &fault).await?,
            Ordered::Clear(kind) => faults.clear(&instance.id, kind).await?,
        }
        Ok(())
    }
}
