//! What a copy of the state becomes when it is put back.

use std::sync::Arc;

use navarch_model::{Automation, AutomationSetting, Change, Meta, Node, Stamp, State, Time};

/// What is changed in a copy that is put back, for it does not know what happened after it was
/// made: automation is off until a person has looked at the fleet, and what the scheduler knows is
/// in doubt. `wall` is the present Unix time.
pub(crate) fn changes_of_restore(state: &State, wall: Time) -> Vec<Change> {
    let since = Stamp {
        core: state.meta.core_time,
        wall,
    };
    let automation = AutomationSetting {
        mode: Automation::Off,
        reason: "restored from a backup; look at the fleet, then turn automation on".to_owned(),
        since: Some(since),
    };
    let meta = Meta {
        automation,
        ..Meta::clone(&state.meta)
    };
    let nodes = state.nodes.values().filter_map(|known| {
        let mut told = known.told.clone();
        told.restored();
        let changed = told != known.told;
        changed.then(|| Node {
            told,
            ..Node::clone(known)
        })
    });
    nodes
        .map(|node| Change::Node(Arc::new(node)))
        .chain([Change::Meta(Arc::new(meta))])
        .collect()
}
