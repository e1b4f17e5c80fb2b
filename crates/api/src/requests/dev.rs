//! Faults to order.

use std::collections::BTreeMap;

use navarch_model::NodeId;

use crate::{ApiError, check, v1};

/// The kinds of faults that a fake machine can show.
pub const FAULT_KINDS: [&str; 11] = [
    "xid",
    "thermal",
    "memory",
    "nvlink",
    "backend-error",
    "device-error",
    "boot-failure",
    "row-remap",
    "pcie",
    "power",
    "recovery-action",
];

/// A fault to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// On which node.
    pub node: NodeId,
    /// One of [`FAULT_KINDS`].
    pub kind: &'static str,
    /// On which GPU; none for the first, or for the whole machine.
    pub gpu: Option<i32>,
    /// For `xid`: the number.
    pub code: Option<i32>,
    /// The event's message; empty for the usual one.
    pub message: String,
    /// Readings of the event.
    pub values: BTreeMap<String, String>,
}

fn kind(text: &str) -> Result<&'static str, ApiError> {
    let dashed = text.trim().to_ascii_lowercase().replace('_', "-");
    if dashed.is_empty() {
        return Err(ApiError::invalid_argument(format!(
            "kind is required; use one of {}",
            FAULT_KINDS.join(", ")
        )));
    }
    FAULT_KINDS
        .into_iter()
        .find(|kind| *kind == dashed)
        .ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            ApiError::invalid_argument(format!(
                "kind {shown:?} is not a fault that machines can show; use one of {}",
                FAULT_KINDS.join(", ")
            ))
        })
}

/// A fault to show.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn inject_fault(request: v1::InjectFaultRequest) -> Result<Fault, ApiError> {
    let node = check::id("node_id", &request.node_id, NodeId::parse)?;
    let kind = kind(&request.kind)?;
    match (kind, request.code) {
        ("xid", None) => {
            return Err(ApiError::invalid_argument(
                "code is required for the kind xid; give the XID's number, for example 79",
            ));
        }
        ("xid", Some(code)) if code < 1 => {
            return Err(ApiError::invalid_argument(format!(
                "code is {code}; XIDs have numbers from 1"
            )));
        }
        ("xid", Some(_)) | (_, None) => {}
        (_, Some(_)) => {
            return Err(ApiError::invalid_argument(format!(
                "code is for the kind xid only, not for {kind}"
            )));
        }
    }
    Ok(Fault {
        node,
        kind,
        gpu: request
            .gpu_index
            .map(|index| check::gpu_index("gpu_index", index))
            .transpose()?,
        code: request.code,
        message: check::reason("message", request.message)?,
        values: check::entries("values", request.values)?,
    })
}

/// Which faults go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultsToClear {
    /// From which node.
    pub node: NodeId,
    /// One of [`FAULT_KINDS`]; none for all.
    pub kind: Option<&'static str>,
}

/// Which faults go.
///
/// # Errors
///
/// `invalid_argument`, with the field.
pub fn clear_fault(request: &v1::ClearFaultRequest) -> Result<FaultsToClear, ApiError> {
    Ok(FaultsToClear {
        node: check::id("node_id", &request.node_id, NodeId::parse)?,
        kind: match request.kind.as_str() {
            "" => None,
            text => Some(kind(text)?),
        },
    })
}
