//! The size of a pool: who asked for it, and what it is.

use navarch_model::{AskedBy, AskedSize, EventKind, PoolName, State, Subject};

use super::Fleet;
use crate::input::{Rejection, Reply};
use crate::settings::Settings;

/// The size that a pool is planned for: the size asked for within the configured bounds, or
/// `min_nodes` while nobody asked. A pool that is not configured has none.
pub fn target(state: &State, settings: &Settings, pool: &PoolName) -> usize {
    let asked = state.pools.get(pool).and_then(|pool| pool.asked.as_ref());
    let configured = settings.pools.get(pool);
    configured.map_or(0, |configured| configured.size(asked))
}

impl Fleet {
    /// The size that a pool is planned for; see [`target`].
    pub fn target(&self, pool: &PoolName) -> usize {
        target(&self.state, &self.settings, pool)
    }

    /// An operator chooses the size of a pool. Cooldowns do not stop it; both begin anew.
    pub(crate) fn scale_pool(
        &mut self,
        pool: &PoolName,
        nodes: u32,
        reason: String,
    ) -> Result<Reply, Rejection> {
        self.known(pool)?;
        let (min, max) = self
            .pool_settings(pool)
            .map_or((0, 0), |pool| (pool.min_nodes(), pool.max_nodes()));
        let wanted = nodes as usize;
        if wanted < min || wanted > max {
            return Err(Rejection::precondition(format!(
                "pool {pool} has min_nodes {min} and max_nodes {max}: {nodes} is outside; ask for \
                 {min} to {max}, or change the configuration"
            )));
        }
        let asked = AskedSize {
            nodes,
            by: AskedBy::Operator,
            reason,
            at: self.now,
            raised: Some(self.now),
            lowered: Some(self.now),
        };
        self.recommendation_is_old(pool);
        let (from, to) = self.ask_for(pool, asked, "");
        Ok(Reply::Sized { from, to })
    }

    /// Puts a size on record, with what it was made from. Answers the sizes before and after it.
    pub(super) fn ask_for(
        &mut self,
        pool: &PoolName,
        asked: AskedSize,
        inputs: &str,
    ) -> (usize, usize) {
        let from = self.target(pool);
        let mut memory = self.pool_memory(pool);
        let by = asked.by;
        let mut message = format!("the {} asks for {}", by.word(), machines(asked.nodes));
        if usize::try_from(asked.nodes) == Ok(from) {
            message.push_str(", as before");
        } else {
            message.push_str(&format!(" instead of {from}"));
        }
        if !asked.reason.is_empty() {
            message.push_str(": ");
            message.push_str(&asked.reason);
        }
        memory.asked = Some(asked);
        self.put_pool(memory);
        let to = self.target(pool);
        let subject = Subject {
            pool: Some(pool.clone()),
            ..Subject::default()
        };
        self.event(
            EventKind::PoolResized,
            subject,
            message,
            [
                ("from", from.to_string()),
                ("to", to.to_string()),
                ("by", by.word().to_owned()),
                ("inputs", inputs.to_owned()),
            ],
        );
        // Launches that the smaller size has no use for are called back.
        self.cancel_launches();
        (from, to)
    }
}

/// So many machines, in words.
fn machines(count: u32) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} machine{plural}")
}
