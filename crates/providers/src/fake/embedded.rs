//! The provider for a fake cloud in this process.

use std::pin::Pin;

use navarch_model::{
    FleetId, Idempotency, InstanceId, LaunchSpec, Machine, Offer, ProviderError, ProviderErrorKind,
    ProviderInstanceId, TerminateAnswer,
};

use super::cloud::{Cloud, CloudOptions, Refusal};
use super::disk::CloudError;
use super::machine::AgentAccess;
use super::translate::{Pages, best_of, machine_of, query_for, request_for};
use crate::{Call, Fault, FaultInjection, FaultKind, Listing, Provider};

/// What an embedded fake cloud is made of.
pub struct EmbeddedOptions {
    /// The cloud. Its `access` is the address and token that agents get.
    pub cloud: CloudOptions,
    /// How many fake GPUs each machine has.
    pub gpu_count: u32,
    /// Machines on a page of a listing; 0 for the usual number.
    pub page_size: usize,
}

/// The fake cloud in this process, as a provider. Its machines end with the process.
pub struct FakeEmbedded {
    cloud: Cloud,
    gpu_count: u32,
    page_size: usize,
}

impl FakeEmbedded {
    /// Opens the cloud and brings back its machines.
    ///
    /// # Errors
    ///
    /// See [`Cloud::open`].
    pub async fn open(options: EmbeddedOptions) -> Result<Self, CloudError> {
        Ok(Self {
            cloud: Cloud::open(options.cloud).await?,
            gpu_count: options.gpu_count,
            page_size: options.page_size,
        })
    }

    /// The cloud, to order faults of it.
    pub fn cloud(&self) -> &Cloud {
        &self.cloud
    }
}

fn refused(refusal: Refusal) -> ProviderError {
    match refusal {
        Refusal::Error(error) => error,
        Refusal::Lost => {
            let words = "the answer was lost (ordered fault)";
            ProviderError::new(ProviderErrorKind::OutcomeUnknown, words)
        }
    }
}

impl Provider for FakeEmbedded {
    fn idempotency(&self) -> Idempotency {
        Idempotency::TokenOrName
    }

    fn launch<'a>(&'a self, spec: &'a LaunchSpec) -> Call<'a, Machine> {
        Box::pin(async move {
            let request = request_for(spec, self.gpu_count, &AgentAccess::default());
            let view = self.cloud.launch(request).await.map_err(refused)?;
            Ok(machine_of(&view))
        })
    }

    fn find<'a>(
        &'a self,
        fleet: &'a FleetId,
        instance: &'a InstanceId,
    ) -> Call<'a, Option<Machine>> {
        Box::pin(async move {
            let page = self.cloud.page(query_for(fleet, instance)).await;
            Ok(best_of(&page.map_err(refused)?.instances))
        })
    }

    fn get<'a>(&'a self, id: &'a ProviderInstanceId) -> Call<'a, Option<Machine>> {
        Box::pin(async move {
            let view = self.cloud.get(id.as_str()).await.map_err(refused)?;
            Ok(view.as_ref().map(machine_of))
        })
    }

    fn terminate<'a>(&'a self, id: &'a ProviderInstanceId) -> Call<'a, TerminateAnswer> {
        Box::pin(async move { self.cloud.terminate(id.as_str()).await.map_err(refused) })
    }

    fn list<'a>(&'a self, fleet: &'a FleetId) -> Call<'a, Listing> {
        Box::pin(async move {
            let mut pages = Pages::of(fleet, self.page_size);
            loop {
                let page = self.cloud.page(pages.next_query()).await;
                if let Some(listing) = pages.add(page.map_err(refused))? {
                    return Ok(listing);
                }
            }
        })
    }

    fn offerings(&self) -> Call<'_, Option<Vec<Offer>>> {
        Box::pin(async { self.cloud.offers().await.map_err(refused) })
    }

    fn faults(&self) -> Option<&dyn FaultInjection> {
        Some(self)
    }

    fn shutdown(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.cloud.shutdown())
    }
}

impl FaultInjection for FakeEmbedded {
    fn inject<'a>(&'a self, instance: &'a InstanceId, fault: &'a Fault) -> Call<'a, ()> {
        Box::pin(self.cloud.inject(instance.as_str(), fault))
    }

    fn clear<'a>(&'a self, instance: &'a InstanceId, kind: Option<FaultKind>) -> Call<'a, ()> {
        Box::pin(self.cloud.clear(instance.as_str(), kind))
    }
}
