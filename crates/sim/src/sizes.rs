//! How much each table of the world holds, so that a long run shows what grows.

use std::collections::BTreeMap;

use crate::world::Sim;

impl Sim {
    /// How many entries each table holds, by its name: those of the simulator, of the control plane
    /// and of its store.
    pub fn sizes(&self) -> BTreeMap<&'static str, usize> {
        let hosts = self.hosts.values();
        let mut sizes: BTreeMap<_, _> = [
            ("queue", self.queue.len()),
            ("machines", self.cloud.machines.len()),
            ("earlier listings", self.cloud.past()),
            ("hosts", self.hosts.len()),
            ("hosts by node", self.by_node.len()),
            ("kept by hosts", hosts.map(|host| host.kept()).sum()),
            ("boots that passed", self.passed.len()),
            ("bytes of trace", self.trace.text().len()),
        ]
        .into();
        sizes.extend(self.plane.disk.sizes());
        if let Some(process) = &self.plane.process {
            sizes.insert("liveness", process.liveness.len());
            sizes.extend(process.fleet.sizes());
        }
        sizes
    }
}
