//! `navarch.v1.DevService`: faults to order.

use navarch_api::service::{Call, Dev};
use navarch_api::{ApiError, requests, v1};
use navarch_providers::{Fault, FaultKind};

use super::Handlers;
use crate::faults::Ordered;

impl Dev for Handlers {
    async fn inject_fault(
        &self,
        _call: Call,
        request: v1::InjectFaultRequest,
    ) -> Result<v1::InjectFaultResponse, ApiError> {
        let ordered = requests::inject_fault(request)?;
        let mut fault = Fault::new(kind(ordered.kind)?);
        fault.gpu = ordered.gpu.and_then(|gpu| u32::try_from(gpu).ok());
        fault.code = ordered.code.and_then(|code| u32::try_from(code).ok());
        fault.message = Some(ordered.message).filter(|message| !message.is_empty());
        for (key, value) in &ordered.values {
            let expected = if key == "failed" {
                "neither true nor false"
            } else {
                "no number"
            };
            let wrong = || {
                ApiError::invalid_argument(format!(
                    "values.{key} is {value:?}, which is {expected}"
                ))
            };
            match key.as_str() {
                "temperature" => fault.temperature = Some(value.parse().map_err(|_| wrong())?),
                "sbe" => fault.sbe = Some(value.parse().map_err(|_| wrong())?),
                "dbe" => fault.dbe = Some(value.parse().map_err(|_| wrong())?),
                "link" => fault.link = Some(value.parse().map_err(|_| wrong())?),
                "failed" => fault.failed = Some(value.parse().map_err(|_| wrong())?),
                "action" => fault.action = Some(value.parse().map_err(|_| wrong())?),
                _ => {
                    return Err(ApiError::invalid_argument(format!(
                        "values has {key:?}; use temperature, sbe, dbe, link, failed or action"
                    )));
                }
            }
        }
        let what = Ordered::Inject(fault);
        self.faults
            .order(&self.published, &ordered.node, what)
            .await?;
        let place = ordered
            .gpu
            .map_or_else(String::new, |gpu| format!(" on GPU {gpu}"));
        let code = ordered
            .code
            .map_or_else(String::new, |code| format!(" {code}"));
        Ok(v1::InjectFaultResponse {
            message: format!(
                "{}{code} injected into {}{place}",
                ordered.kind, ordered.node
            ),
        })
    }

    async fn clear_fault(
        &self,
        _call: Call,
        request: v1::ClearFaultRequest,
    ) -> Result<v1::ClearFaultResponse, ApiError> {
        let ordered = requests::clear_fault(&request)?;
        let what = Ordered::Clear(ordered.kind.map(kind).transpose()?);
        self.faults
            .order(&self.published, &ordered.node, what)
            .await?;
        let kinds = match ordered.kind {
            Some(kind) => vec![kind.to_owned()],
            None => requests::FAULT_KINDS
                .iter()
                .map(|kind| (*kind).to_owned())
                .collect(),
        };
        Ok(v1::ClearFaultResponse {
            message: format!("{} repaired: the machine rebooted", ordered.node),
            kinds,
        })
    }
}

fn kind(word: &str) -> Result<FaultKind, ApiError> {
    FaultKind::from_word(word)
        .ok_or_else(|| ApiError::invalid_argument(format!("kind {word:?} is not a fault")))
}
