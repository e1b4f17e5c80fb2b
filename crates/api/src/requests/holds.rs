//! Named holds.

use std::time::Duration;

use navarch_core::NamedHold;
use navarch_model::{NodeId, check_hold_word};

use crate::{ApiError, check, v1};

/// The longest time that a hold may be given. One that must stand longer has none.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

fn word(field: &str, text: String) -> Result<String, ApiError> {
    check_hold_word(&text)
        .map_err(|problem| ApiError::invalid_argument(format!("{field} {problem}")))?;
    Ok(text)
}

/// Which node is to be held, and how.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn add_hold(request: v1::AddHoldRequest) -> Result<(NodeId, NamedHold), ApiError> {
    let node = check::id("node_id", &request.node_id, NodeId::parse)?;
    let span = request.expires_after_milliseconds;
    let lasts = match u64::try_from(span).map(Duration::from_millis) {
        Ok(Duration::ZERO) => None,
        Ok(lasts) if lasts >= Duration::from_secs(1) && lasts <= LONGEST => Some(lasts),
        _ => {
            return Err(ApiError::invalid_argument(format!(
                "expires_after_milliseconds is {span}; it must be between 1 second and 366 days, or \
                 0 for a hold that stands until it is removed"
            )));
        }
    };
    let hold = NamedHold {
        name: word("name", request.name)?,
        owner: word("owner", request.owner)?,
        reason: check::reason("reason", request.reason)?,
        drains: request.drain,
        lasts,
    };
    Ok((node, hold))
}

/// Which hold of which node is to be lifted, and why.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn remove_hold(request: v1::RemoveHoldRequest) -> Result<(NodeId, String, String), ApiError> {
    Ok((
        check::id("node_id", &request.node_id, NodeId::parse)?,
        word("name", request.name)?,
        check::reason("reason", request.reason)?,
    ))
}

/// Which node's holds are wanted; none for every node's.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn holds(request: &v1::ListHoldsRequest) -> Result<Option<NodeId>, ApiError> {
    check::optional_id("node_id", &request.node_id, NodeId::parse)
}
