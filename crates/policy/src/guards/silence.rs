//! Silence: what must confirm that a machine which is not heard is dead.

use navarch_model::{CloudStatus, Sighting, Time};

use super::Block;

/// What speaks for a silent machine being dead.
#[derive(Debug, Clone, Copy)]
pub struct Silence {
    /// From when on what the cloud says of it counts.
    pub since: Time,
    /// What the cloud last said of it.
    pub sighting: Option<Sighting>,
    /// Nodes that were fresh when the silence began, without this one.
    pub fresh_then: usize,
    /// Those of them that stayed fresh.
    pub stayed_fresh: usize,
    /// When one more of them counts as fresh again.
    pub next: Option<Time>,
    /// How many nodes must have stayed fresh.
    pub witnesses: usize,
    /// When it has been silent long enough; none means never by silence alone.
    pub enough: Option<Time>,
    /// Whether an operator confirmed that it is dead.
    pub confirmed: bool,
}

/// Silence destroys nothing without confirmation: by the cloud, by enough others that stayed
/// fresh, or by an operator. Answers why the machine may be repaired, or why not.
///
/// # Errors
///
/// The block, when nothing confirms the silence.
pub fn silence(facts: &Silence, now: Time) -> Result<String, Block> {
    if facts.confirmed {
        return Ok("an operator confirmed that it is dead".to_owned());
    }
    if let Some(sighting) = facts
        .sighting
        .filter(|sighting| sighting.at.core >= facts.since)
    {
        match sighting.status {
            CloudStatus::Stopped | CloudStatus::Impaired | CloudStatus::Terminated => {
                return Ok(format!("the cloud says {}", sighting.status.word()));
            }
            CloudStatus::NotFound if sighting.in_a_row >= 2 => {
                return Ok("the cloud did not find it twice".to_owned());
            }
            CloudStatus::NotFound | CloudStatus::Running | CloudStatus::Terminating => {}
        }
    }
    let Some(enough) = facts.enough else {
        return Err(Block::new(
            "silence",
            "never",
            "silence_replace_after is never: only the cloud or an operator can confirm that the \
             machine is dead",
        ));
    };
    if now < enough {
        let block = Block::new("silence", "short", "it has not been silent long enough");
        return Err(block.until(enough));
    }
    if facts.stayed_fresh < facts.witnesses {
        let mut block = Block::new(
            "silence",
            "witnesses",
            format!(
                "{} of {} other nodes stayed fresh and {} are needed as witnesses; an operator may \
                 confirm that the machine is dead",
                facts.stayed_fresh, facts.fresh_then, facts.witnesses
            ),
        );
        block.until = facts.next;
        return Err(block);
    }
    Ok(format!(
        "silent while {} of {} nodes stayed fresh",
        facts.stayed_fresh, facts.fresh_then
    ))
}
