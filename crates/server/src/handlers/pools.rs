//! `navarch.v1.PoolService`: what operators ask of one pool, and the page that says the same.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use navarch_api::requests::Measured;
use navarch_api::service::{Call, Pools};
use navarch_api::{ApiError, convert, requests, v1};
use navarch_core::history::Gathered;
use navarch_model::NodeId;

use super::Handlers;

impl Pools for Handlers {
    async fn get_pool_status(
        &self,
        _call: Call,
        request: v1::GetPoolStatusRequest,
    ) -> Result<v1::GetPoolStatusResponse, ApiError> {
        Ok(v1::GetPoolStatusResponse {
            status: self.pool_status(&request)?.into(),
        })
    }

    async fn query_metrics(
        &self,
        _call: Call,
        request: v1::QueryMetricsRequest,
    ) -> Result<v1::QueryMetricsResponse, ApiError> {
        let query = requests::metric_query(&request)?;
        let nodes: Vec<NodeId> = match query.of {
            Measured::Node(node) => vec![self.find_node(&node).await?.id.clone()],
            Measured::Pool(pool) if self.published.settings().pools.contains_key(&pool) => {
                let of = Some(&pool);
                let here = |state: &navarch_model::State| {
                    let nodes = state.nodes.values();
                    let nodes = nodes.filter(|node| node.pool.as_ref() == of);
                    nodes.map(|node| node.id.clone()).collect()
                };
                self.published.read(here)
            }
            Measured::Pool(pool) => return Err(self.unknown_pool(&pool)),
        };
        let (now, published) = (self.time.now(), Arc::clone(&self.published));
        let (metric, aggregation) = (query.metric, query.aggregation);
        let window = i64::try_from(query.window.as_micros()).unwrap_or(i64::MAX);
        // The minute that is not over yet counts, and so does the one in which the window begins.
        let from = navarch_model::Time(now.core.0.saturating_sub(window));
        // A large pool has millions of values: not for a worker that answers heartbeats.
        let gather = self.archive.read(move |_| {
            let mut gathered = Gathered::default();
            for node in &nodes {
                published.pulses.gather(node, metric, from, &mut gathered);
            }
            Ok(gathered.series(aggregation))
        });
        let series = gather.await.map_err(|error| super::unreadable(&error))?;
        Ok(convert::series(&series, metric, now))
    }
}

impl Handlers {
    fn pool_status(&self, request: &v1::GetPoolStatusRequest) -> Result<v1::PoolStatus, ApiError> {
        let pool = requests::pool_status(request)?;
        let settings = self.published.settings();
        let Some(configured) = settings.pools.get(&pool) else {
            return Err(self.unknown_pool(&pool));
        };
        let effective = self.effective();
        Ok(self
            .published
            .read(|state| convert::pool_status(&pool, configured, state, effective(&pool))))
    }
}

/// `GET /api/v1/pools/{name}/status`, which documents of the Go project name.
pub async fn status_page(handlers: Arc<Handlers>, Path(pool): Path<String>) -> Response {
    let request = v1::GetPoolStatusRequest { pool };
    match handlers.pool_status(&request) {
        Ok(status) => Json(convert::pool_status_json(&status)).into_response(),
        Err(error) => error.into_response(&axum::http::HeaderMap::new()),
    }
}

/// The call that a page stands for, or the path itself: a page may be read by whoever may make
/// its call.
pub fn stands_for(path: &str) -> &str {
    let pool = path
        .strip_prefix("/api/v1/pools/")
        .and_then(|rest| rest.strip_suffix("/status"));
    match pool {
        Some(pool) if !pool.is_empty() && !pool.contains('/') => {
            "/navarch.v1.PoolService/GetPoolStatus"
        }
        _ => path,
    }
}
