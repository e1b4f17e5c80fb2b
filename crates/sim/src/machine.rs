//! A simulated machine: GPUs with faults, and the real agent core that watches them.

use std::collections::{BTreeMap, BTreeSet};

use navarch_core::agent::{Agent, Kept, Spool, SpoolLimits};
use navarch_core::{Fact, Registration};
use navarch_model::{
    BootId, Capabilities, Description, Gpu, HealthEventType, HealthWatchSystem, InstanceId, NodeId,
    SessionId, Time,
};

use crate::streams::Stream;

/// What is broken now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// GPUs that are too hot, and until when.
    pub(crate) hot: BTreeMap<u32, Time>,
    /// GPUs with uncorrectable memory errors.
    pub(crate) ecc: BTreeSet<u32>,
    /// GPUs that the driver has no more.
    pub(crate) lost: BTreeSet<u32>,
}

/// One machine that booted.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) instance: InstanceId,
    pub(crate) gpus: u32,
    pub(crate) boots: u32,
    starts: u32,
    /// None while the machine hangs, is stopped or reboots.
    pub(crate) agent: Option<Agent>,
    /// Counts the agent's lives: answers to an earlier life are for nobody.
    pub(crate) life: u64,
    pub(crate) faults: Faults,
    /// It is cut off until then.
    pub(crate) cut_until: Time,
    pub(crate) jitter: Stream,
    /// When the agent is to be asked again.
    pub(crate) wake: Option<Time>,
    /// Whether it hangs or was stopped, for good.
    pub(crate) dead: bool,
    polls: bool,
    /// What the agent kept on disk.
    kept: Vec<Kept>,
}

impl Host {
    pub(crate) fn new(instance: InstanceId, gpus: u32, jitter: Stream, polls: bool) -> Self {
        Self {
            instance,
            gpus,
            boots: 1,
            starts: 0,
            agent: None,
            life: 0,
            faults: Faults::default(),
            cut_until: Time(0),
            jitter,
            wake: None,
            dead: false,
            polls,
            kept: Vec::new(),
        }
    }

    pub(crate) fn node(&self) -> NodeId {
        NodeId::new(self.instance.as_str())
    }

    pub(crate) fn boot(&self) -> BootId {
        BootId::new(format!("{}-boot-{}", self.instance, self.boots))
    }

    /// Starts the agent, with what an earlier one kept on disk.
    pub(crate) fn start_agent(&mut self, now: Time) {
        self.starts += 1;
        self.life += 1;
        let session = SessionId::new(format!("{}-session-{}", self.instance, self.starts));
        if let Some(old) = &self.agent {
            self.kept = old.spool().iter().cloned().collect();
        }
        let spool = Spool::load(SpoolLimits::default(), std::mem::take(&mut self.kept));
        let mut agent = Agent::new(session, spool, Vec::new());
        agent.push(!self.polls, now);
        self.agent = Some(agent);
    }

    /// The machine goes dark: nothing of the agent's life is heard again.
    pub(crate) fn go_dark(&mut self) {
        self.life += 1;
        if let Some(old) = self.agent.take() {
            self.kept = old.spool().iter().cloned().collect();
        }
        self.wake = None;
    }

    pub(crate) fn registration(&self) -> Registration {
        let gpus = (0..self.gpus)
            .filter(|gpu| !self.faults.lost.contains(gpu))
            .map(|gpu| Gpu {
                index: gpu as i32,
                uuid: format!("GPU-fake-{}-{gpu}", self.instance),
                name: "fake".to_owned(),
                ..Gpu::default()
            })
            .collect();
        Registration {
            node: Some(self.node()),
            instance: Some(self.instance.clone()),
            description: Description {
                provider: "fake".to_owned(),
                gpus,
                hostname: self.instance.to_string(),
                machine_id: format!("machine-{}", self.instance),
                capabilities: Capabilities {
                    full_reports: true,
                    command_results: true,
                    command_push: !self.polls,
                },
                ..Description::default()
            },
            boot: Some(self.boot()),
            session: self.agent.as_ref().map(|agent| agent.session().clone()),
            address: "10.0.0.1".to_owned(),
        }
    }

    /// A reading of every watch.
    pub(crate) fn read_all(&self, now: Time) -> Vec<Fact> {
        let boot = self.boot();
        let quiet = |watch: &str| Fact {
            happened: now.0,
            watch: watch.to_owned(),
            boot: Some(boot.clone()),
            ..Fact::default()
        };
        let with = |mut fact: Fact, name: &str, value: String| {
            fact.metrics.insert(name.to_owned(), value);
            fact
        };
        let present = self.gpus - self.faults.lost.len() as u32;
        let mut facts = vec![
            with(quiet("boot"), "boot_id", boot.to_string()),
            with(quiet("device_count"), "gpu_count", present.to_string()),
            quiet("driver"),
            quiet("xid"),
            quiet("nvlink"),
        ];
        for gpu in (0..self.gpus).filter(|gpu| !self.faults.lost.contains(gpu)) {
            let place = |watch: &str| Fact {
                gpu: Some(gpu as i32),
                gpu_uuid: format!("GPU-fake-{}-{gpu}", self.instance),
                ..quiet(watch)
            };
            let hot = self.faults.hot.get(&gpu).is_some_and(|until| now < *until);
            let celsius = if hot { 97 } else { 45 };
            let mut heat = with(place("temperature"), "temperature", celsius.to_string());
            heat.event_type = HealthEventType::Thermal;
            heat.system = HealthWatchSystem::Thermal;
            let errors = u32::from(self.faults.ecc.contains(&gpu));
            facts.push(heat);
            facts.push(with(place("memory"), "ecc_dbe_count", errors.to_string()));
            for watch in ["driver", "xid", "nvlink", "pcie", "power"] {
                facts.push(place(watch));
            }
        }
        facts
    }

    /// An XID as the kernel log shows it.
    pub(crate) fn xid(&self, now: Time, code: u32, gpu: u32) -> Fact {
        Fact {
            happened: now.0,
            gpu: Some(gpu as i32),
            gpu_uuid: format!("GPU-fake-{}-{gpu}", self.instance),
            event_type: HealthEventType::Xid,
            system: HealthWatchSystem::Driver,
            metrics: [("xid_code".to_owned(), code.to_string())].into(),
            message: format!("NVRM: Xid (PCI:0000:0{gpu}:00): {code}"),
            watch: "xid".to_owned(),
            boot: Some(self.boot()),
            count: 1,
        }
    }
}
