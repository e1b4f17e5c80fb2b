//! How much each table of the fleet holds.

use super::Fleet;

impl Fleet {
    /// How many entries each table holds, by its name: those of the state and those that need not
    /// survive a restart. A fleet of one size keeps them within bounds for as long as it runs.
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        let state = &self.state;
        let pools = state.pools.values();
        let remembered = pools.map(|pool| {
            pool.offerings.len() + pool.repair_breakers.len() + pool.last_repairs.len()
        });
        let notices = state.nodes.values().map(|node| node.told.waiting.len());
        let mut sizes = vec![
            ("pools", state.pools.len()),
            ("offerings, breakers and repairs", remembered.sum()),
            ("instances", state.instances.len()),
            ("nodes", state.nodes.len()),
            ("notices", notices.sum()),
            ("incidents", state.incidents.len()),
            ("commands", state.commands.len()),
            ("unclaimed machines", state.unclaimed.len()),
            ("calls", self.calls.len()),
            ("soft state of nodes", self.soft.len()),
            ("nodes whose reports are watched", self.stale.len()),
            ("soft state of providers", self.providers.len()),
            ("alerted instances", self.alerted.len()),
            ("unlisted intents", self.unlisted.len()),
            ("asked unclaimed machines", self.unclaimed_asked.len()),
            ("empty pools", self.empty_pools.len()),
            ("autoscaled pools", self.scaling.len()),
            (
                "signals of autoscaled pools",
                self.scaling.values().map(|pool| pool.entries()).sum(),
            ),
            ("notes", self.notes.len()),
            ("planned pools", self.planned.len()),
            ("due pools", self.due.pools.len()),
            ("remembered events", self.recent.len()),
        ];
        sizes.extend(self.index.sizes());
        sizes
    }
}
