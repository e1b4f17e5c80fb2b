//! From the domain to messages: what callers see.

mod event;
mod incident;
mod instance;
mod node;
mod pool;
mod time;

use navarch_core::{Rejection, RejectionCode};

use crate::{ApiError, Code};

pub use event::{event, explain_line};
pub use incident::incident;
pub use instance::{command, instance, node_command, unclaimed};
pub use node::{hold, node, node_config, node_hold};
pub use pool::{
    Numbers, automation, mode, mode_name, plan, policy, pool_status, pool_status_json, pools,
    series, set_automation, sized, wait,
};
pub use time::{never, timestamp, timestamp_of_micros};

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        let code = match rejection.code {
            RejectionCode::NotFound => Code::NotFound,
            RejectionCode::FailedPrecondition => Code::FailedPrecondition,
            RejectionCode::AlreadyExists => Code::AlreadyExists,
            RejectionCode::InvalidArgument => Code::InvalidArgument,
        };
        Self::new(code, rejection.message)
    }
}
