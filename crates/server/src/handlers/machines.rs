//! Machines that no record knows, and instances that a person ends.

use navarch_api::service::Call;
use navarch_api::{ApiError, convert, requests, v1, wire};
use navarch_core::{Input, Reply};
use navarch_model::InstanceId;

use super::Handlers;

impl Handlers {
    pub(super) fn unclaimed(
        &self,
        request: &v1::ListUnclaimedRequest,
    ) -> Result<v1::ListUnclaimedResponse, ApiError> {
        let wanted = requests::unclaimed(request)?;
        if let Some(provider) = &wanted {
            self.provider_must_exist(provider)?;
        }
        let machines = self.published.read(|state| {
            state
                .unclaimed
                .values()
                .filter(|machine| wanted.as_ref().is_none_or(|one| *one == machine.provider))
                .map(|machine| convert::unclaimed(machine))
                .collect()
        });
        Ok(v1::ListUnclaimedResponse { machines })
    }

    pub(super) async fn adopt(
        &self,
        call: &Call,
        request: v1::AdoptInstanceRequest,
    ) -> Result<v1::AdoptInstanceResponse, ApiError> {
        let asked = requests::adopt(request)?;
        let input = Input::AdoptMachine {
            provider: asked.provider,
            machine: asked.machine,
            pool: asked.pool,
            reason: asked.reason,
        };
        Ok(v1::AdoptInstanceResponse {
            instance: self.instance_of(self.order(call, input).await?)?.into(),
        })
    }

    pub(super) async fn end_machine(
        &self,
        call: &Call,
        request: v1::TerminateInstanceRequest,
    ) -> Result<v1::TerminateInstanceResponse, ApiError> {
        let input = match requests::terminate_instance(request)? {
            (requests::Ending::Instance(instance), reason) => {
                Input::EndInstance { instance, reason }
            }
            (requests::Ending::Machine(provider, machine), reason) => Input::EndUnclaimed {
                provider,
                machine,
                reason,
            },
        };
        Ok(v1::TerminateInstanceResponse {
            instance: self.instance_of(self.order(call, input).await?)?.into(),
        })
    }

    /// The instance of an answer, as it is committed now.
    fn instance_of(&self, reply: Reply) -> Result<wire::InstanceInfo, ApiError> {
        let id: InstanceId = match reply {
            Reply::Instance(id) => id,
            other => return Err(ApiError::internal(format!("unexpected reply {other:?}"))),
        };
        self.published
            .read(|state| state.instances.get(&id).map(|one| convert::instance(one)))
            .ok_or_else(|| ApiError::not_found(format!("instance not found: {id}")))
    }
}
