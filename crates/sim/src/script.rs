//! Scenarios: a script in, the trace out.
//!
//! One step a line: `run 5m`, `xid 79 gpu 0`, `hang`, `vanish`, `repair`, `cut 10m`, `pause 30s`,
//! `duds 1h`, `outage 3h`, `crash`, `away 1h`, `cordon`, `uncordon`, `confirm`, `automation off`,
//! `diagnose`. What concerns a machine takes the oldest one alive, or the one at a place: `hang 1`.
//! `storm 79 1m` shows the XID on every machine, spread over the time; `dark 5` hangs so many
//! machines at once, `apart 5 10m` cuts so many off. `work 2.5` gives the GPUs of each pool work for
//! so many machines, `jobs 20` makes the queue that long and `jobs away` makes it unknown, `scale main
//! 3` asks for a size. `hold 0 upgrade 1h` sets a named hold, `lift 0
//! upgrade` lifts it. `copy` copies the store, `restore` puts the copy back, `end-orphans` ends the
//! machines that nobody claims. `sold-out 0 10m` and `costs 0 9` are about an offering, `interrupt`
//! about a spot machine. `other hang` is a step of the other control plane. Lines that begin
//! with `#` are comments.

use std::time::Duration;

use navarch_model::{Automation, NodeCommandType, ProviderInstanceId};

use crate::config::{Config, Trouble};
use crate::world::Sim;

/// A line that is no step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text:?} is no step; see the steps in the module's documentation")]
pub struct ScriptError {
    /// The line, from 1.
    pub line: usize,
    /// The line's text.
    pub text: String,
}

/// Runs a script and answers the trace, then the broken promises if there are any.
///
/// # Errors
///
/// The first line that is no step.
///
/// # Panics
///
/// When the configuration does not load.
pub fn play(seed: u64, config: Config, script: &str) -> Result<String, ScriptError> {
    let mut sim = Sim::new(seed, config).expect("the scenario's configuration loads");
    for (at, line) in script.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() || line.starts_with('#') {
            continue;
        }
        step(&mut sim, &words).ok_or_else(|| ScriptError {
            line: at + 1,
            text: line.to_owned(),
        })?;
    }
    Ok(sim.trace().to_owned())
}

fn step(sim: &mut Sim, words: &[&str]) -> Option<()> {
    let number = |at: usize| {
        words
            .get(at)
            .map_or(Some(0), |word| word.parse::<u32>().ok())
    };
    let span =
        |at: usize| -> Option<Duration> { navarch_config::duration::parse(words.get(at)?).ok() };
    let trouble = match *words.first()? {
        "run" => {
            sim.run(sim.now() + span(1)?);
            return Some(());
        }
        "xid" => {
            let (code, gpu) = (number(1)?, number(3)?);
            let host = host(sim, 0)?;
            sim.xid(&host, code, gpu, "");
            sim.schedule_plane();
            return Some(());
        }
        "storm" => {
            let code = number(1)?;
            let every: Vec<ProviderInstanceId> = sim.hosts.keys().cloned().collect();
            let apart = span(2)? / u32::try_from(every.len().max(1)).ok()?;
            for host in every {
                sim.xid(&host, code, 0, "");
                sim.schedule_plane();
                sim.run(sim.now() + apart);
            }
            return Some(());
        }
        "dark" => {
            let some: Vec<ProviderInstanceId> = sim
                .hosts
                .keys()
                .take(number(1)? as usize)
                .cloned()
                .collect();
            for host in some {
                sim.make(Trouble::Hang, Some(&host), sim.now(), 0);
            }
            return Some(());
        }
        "apart" => {
            let until = sim.now() + span(2)?;
            sim.wake_all();
            for host in sim.hosts.values_mut().take(number(1)? as usize) {
                host.cut_until = until;
            }
            let (many, seconds) = (number(1)?, span(2)?.as_secs());
            sim.note("fault", format_args!("{many} cut off for {seconds} s"));
            return Some(());
        }
        "other" => return sim.as_neighbour(|other| step(other, &words[1..]))?,
        "away" => {
            sim.away(span(1)?);
            return Some(());
        }
        "copy" => {
            sim.back_up();
            return Some(());
        }
        "restore" => {
            sim.restore();
            return Some(());
        }
        "end-orphans" => {
            sim.end_orphans();
            sim.schedule_plane();
            return Some(());
        }
        "hold" | "lift" => {
            let id = host(sim, number(1)? as usize)?;
            let (node, name) = (sim.hosts.get(&id)?.node(), words.get(2)?);
            if words[0] == "lift" {
                sim.lift(node, name);
            } else {
                sim.hold(node, name, "ops", false, span(3));
            }
            sim.schedule_plane();
            return Some(());
        }
        "work" => {
            sim.work(words.get(1)?.parse().ok()?);
            return Some(());
        }
        "jobs" => {
            let away = words.get(1) == Some(&"away");
            sim.jobs((!away).then_some(f64::from(number(1).unwrap_or(0))));
            return Some(());
        }
        "scale" => {
            sim.scale(words.get(1)?, number(2)?);
            sim.schedule_plane();
            return Some(());
        }
        "confirm" => {
            let id = host(sim, number(1)? as usize)?;
            let node = sim.hosts.get(&id)?.node();
            sim.confirm(node);
            sim.schedule_plane();
            return Some(());
        }
        "automation" => {
            sim.automation(Automation::from_word(words.get(1)?)?);
            sim.schedule_plane();
            return Some(());
        }
        word @ ("cordon" | "uncordon" | "drain" | "terminate" | "diagnose") => {
            let id = host(sim, number(1)? as usize)?;
            let node = sim.hosts.get(&id)?.node();
            let kind = match word {
                "diagnose" => NodeCommandType::RunDiagnostic,
                word => NodeCommandType::from_short(word)?,
            };
            sim.command(node, kind);
            sim.schedule_plane();
            return Some(());
        }
        word @ ("sold-out" | "costs") => {
            let place = number(1)?;
            let (trouble, until, dollars) = match word {
                "costs" => (Trouble::Prices, sim.now(), number(2)?),
                _ => (Trouble::SoldOut, sim.now() + span(2)?, 0),
            };
            let many = u32::try_from(sim.cloud.offerings.len()).ok()?;
            let wanted = (0..u32::MAX).find(|at| at % many == place && at >> 8 == dollars)?;
            sim.make(trouble, None, until, wanted);
            sim.schedule_plane();
            return Some(());
        }
        "interrupt" => Trouble::Interruption,
        "hang" => Trouble::Hang,
        "vanish" => Trouble::Vanish,
        "repair" => Trouble::Repair,
        "cut" => Trouble::Partition,
        "pause" => Trouble::Pause,
        "duds" => Trouble::Duds,
        "outage" => Trouble::Outage,
        "crash" => Trouble::Crash,
        _ => return None,
    };
    let lasts = matches!(
        trouble,
        Trouble::Partition | Trouble::Pause | Trouble::Duds | Trouble::Outage
    );
    let until = if lasts {
        sim.now() + span(1)?
    } else {
        sim.now()
    };
    let place = if lasts { 0 } else { number(1)? };
    let host = host(sim, place as usize);
    sim.make(trouble, host.as_ref(), until, 0);
    sim.schedule_plane();
    Some(())
}

/// The machine at a place, the oldest first.
fn host(sim: &Sim, place: usize) -> Option<ProviderInstanceId> {
    sim.hosts.keys().nth(place).cloned()
}
