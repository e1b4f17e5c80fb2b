//! Machines that no record knows, and instances that a person ends.

use navarch_model::{InstanceId, PoolName, ProviderInstanceId, ProviderName};

use crate::{ApiError, check, v1};

/// A machine to take into a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// Its provider.
    pub provider: ProviderName,
    /// The cloud's id.
    pub machine: ProviderInstanceId,
    /// The pool.
    pub pool: PoolName,
    /// Why.
    pub reason: String,
}

/// What a person ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// An instance on record.
    Instance(InstanceId),
    /// A machine, by what its provider calls it.
    Machine(ProviderName, ProviderInstanceId),
}

/// Which provider's machines are wanted; none for every provider's.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn unclaimed(request: &v1::ListUnclaimedRequest) -> Result<Option<ProviderName>, ApiError> {
    check::optional_id("provider", &request.provider, ProviderName::parse)
}

/// A machine to take into a pool.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn adopt(request: v1::AdoptInstanceRequest) -> Result<Adoption, ApiError> {
    Ok(Adoption {
        provider: check::id("provider", &request.provider, ProviderName::parse)?,
        machine: check::id(
            "provider_instance_id",
            &request.provider_instance_id,
            ProviderInstanceId::parse,
        )?,
        pool: check::id("pool", &request.pool, PoolName::parse)?,
        reason: check::reason("reason", request.reason)?,
    })
}

/// What a person ends, and why.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn terminate_instance(
    request: v1::TerminateInstanceRequest,
) -> Result<(Ending, String), ApiError> {
    let reason = check::reason("reason", request.reason)?;
    let by_provider = !(request.provider.is_empty() && request.provider_instance_id.is_empty());
    let ending = match (request.instance_id.is_empty(), by_provider) {
        (false, false) => Ending::Instance(check::id(
            "instance_id",
            &request.instance_id,
            InstanceId::parse,
        )?),
        (true, true) => Ending::Machine(
            check::id("provider", &request.provider, ProviderName::parse)?,
            check::id(
                "provider_instance_id",
                &request.provider_instance_id,
                ProviderInstanceId::parse,
            )?,
        ),
        _ => {
            return Err(ApiError::invalid_argument(
                "name either instance_id, or provider and provider_instance_id",
            ));
        }
    };
    Ok((ending, reason))
}
