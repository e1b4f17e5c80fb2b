//! Named holds: set, lifted and listed.

use navarch_api::service::Call;
use navarch_api::{ApiError, convert, requests, v1};
use navarch_core::{Input, Reply};

use super::Handlers;

impl Handlers {
    pub(super) async fn set_hold(
        &self,
        call: &Call,
        request: v1::AddHoldRequest,
    ) -> Result<v1::AddHoldResponse, ApiError> {
        let (node, hold) = requests::add_hold(request)?;
        let name = hold.name.clone();
        let input = Input::AddHold {
            node: node.clone(),
            hold,
        };
        match self.order(call, input).await? {
            Reply::Held {
                changed, status, ..
            } => {
                let now = self.time.now();
                let shown = self.published.node(&node).and_then(|node| {
                    let (kind, hold) = node.named_hold(&name)?;
                    Some(convert::node_hold(&node.id, kind, hold, now))
                });
                Ok(v1::AddHoldResponse {
                    hold: shown.into(),
                    changed,
                    node_status: status.number().into(),
                })
            }
            other => Err(ApiError::internal(format!("unexpected reply {other:?}"))),
        }
    }

    pub(super) async fn lift_hold(
        &self,
        call: &Call,
        request: v1::RemoveHoldRequest,
    ) -> Result<v1::RemoveHoldResponse, ApiError> {
        let (node, name, reason) = requests::remove_hold(request)?;
        match self
            .order(call, Input::RemoveHold { node, name, reason })
            .await?
        {
            Reply::Held {
                changed,
                holds,
                status,
            } => Ok(v1::RemoveHoldResponse {
                removed: changed,
                remaining_holds: holds,
                node_status: status.number().into(),
            }),
            other => Err(ApiError::internal(format!("unexpected reply {other:?}"))),
        }
    }

    pub(super) async fn holds(
        &self,
        request: &v1::ListHoldsRequest,
    ) -> Result<v1::ListHoldsResponse, ApiError> {
        let wanted = requests::holds(request)?;
        if let Some(node) = &wanted {
            self.find_node(node).await?;
        }
        let now = self.time.now();
        let holds = self.published.read(|state| {
            state
                .nodes
                .values()
                .filter(|node| wanted.as_ref().is_none_or(|wanted| *wanted == node.id))
                .flat_map(|node| {
                    node.holds
                        .iter()
                        .map(|(kind, hold)| convert::node_hold(&node.id, kind, hold, now))
                })
                .collect()
        });
        Ok(v1::ListHoldsResponse { holds })
    }
}
