//! Incidents that come back: conditions that flap, and repairs that did not help.

use navarch_model::{BootId, Repair};

use super::{Rig, yaml};
use crate::input::Input;

#[test]
fn a_condition_that_comes_back_for_the_fourth_time_in_an_hour_stays_until_an_hour_was_quiet() {
    let mut rig = Rig::new(&yaml(1, 2, "guards:\n  budget: 0\n"));
    let id = rig.up(1).remove(0);
    let open = |rig: &Rig| rig.node(&id).open_incidents.len();
    for time in 0..4 {
        rig.full(&id, 97);
        assert_eq!(open(&rig), 2, "both GPUs, {time}");
        rig.run(20);
        rig.full(&id, 45);
        assert_eq!(open(&rig), 0, "{time}");
        rig.run(20);
    }
    rig.full(&id, 97);
    let last = rig.now;
    while rig.now.core.since(last.core).as_secs() < 3580 {
        rig.run(20);
        rig.full(&id, 45);
        assert_eq!(open(&rig), 2);
    }
    rig.run(20);
    rig.full(&id, 45);
    assert_eq!(open(&rig), 0);
}

#[test]
fn a_fault_that_comes_back_after_its_repair_needs_the_next_rung() {
    let mut rig = Rig::new(&yaml(1, 2, "guards:\n  budget: 0\n"));
    let id = rig.up(1).remove(0);
    let incident = |rig: &Rig| {
        let open = rig
            .node(&id)
            .open_incidents
            .keys()
            .next()
            .expect("it is open");
        rig.fleet.state().incidents[open].clone()
    };
    rig.xid(&id, 79, 0);
    assert_eq!(incident(&rig).required, Repair::Reboot);
    rig.run(5);
    let mut again = Rig::registration(&id);
    again.boot = Some(BootId::new("boot-2"));
    rig.take(Input::Register(again));
    assert_eq!(
        incident(&rig).repaired.map(|(_, rung)| rung),
        Some(Repair::Reboot)
    );
    let hit = incident(&rig).hit;
    rig.run(5);
    rig.xid(&id, 79, 0);
    assert_eq!(incident(&rig).repaired, None);
    assert_eq!(incident(&rig).required, Repair::Replace);
    assert!(incident(&rig).hit > hit, "the breaker counts it again");
}
