//! Sizes from what is measured now: the utilisation of the GPUs, and the length of a queue.

use navarch_config::{Source, Steps};

use super::{Facts, Recommendation, Wish};

/// Machines that a decision from utilisation adds or takes, unless the pool says otherwise.
const STEP: u32 = 1;

/// The utilisation, if it is known and makes sense.
pub(super) fn utilization(facts: &Facts<'_>) -> Result<f64, &'static str> {
    match facts.utilization {
        None => Err("the utilization is unknown: no ACTIVE machine reports any"),
        Some(percent) if !percent.is_finite() || percent < 0.0 => {
            Err("the utilization is unknown: what is reported is no percentage")
        }
        Some(percent) => Ok(percent),
    }
}

/// A step up while the GPUs are busier than `up`, a step down while they are idler than `down`. In
/// between the size is right, which is a wish as well. The last machine goes only by the word of others.
pub(super) fn reactive((up, down): (u32, u32), step: Steps, facts: &Facts<'_>) -> Recommendation {
    let percent = match utilization(facts) {
        Ok(percent) => percent,
        Err(why) => return Recommendation::new(facts, Wish::Unknown, why),
    };
    let (up, down) = (f64::from(up), f64::from(down));
    let size = facts.current;
    let (wish, reason) = if percent > up {
        let there = f64::from(facts.serving) + f64::from(facts.coming);
        let expected = percent * f64::from(facts.serving) / there.max(1.0);
        if facts.coming > 0 && expected <= up {
            let reason = format!(
                "utilization {percent:.1} % is above {up} %, and about {expected:.1} % once the {} \
                 machines on their way serve",
                facts.coming
            );
            (Wish::Size(size), reason)
        } else {
            let more = size.saturating_add(step.up.unwrap_or(STEP));
            let reason = format!("utilization {percent:.1} % is above {up} %");
            (Wish::Size(more), reason)
        }
    } else if percent < down {
        // The last machine stays: without one, nothing would say when it is needed again.
        let least = facts.bounds.0.max(1);
        let after = |size: u32| percent * f64::from(facts.current) / f64::from(size.max(1));
        let fewest = size.saturating_sub(step.down.unwrap_or(STEP)).max(least);
        match (fewest..size).find(|size| after(*size) <= up) {
            Some(fewer) => {
                let reason = format!("utilization {percent:.1} % is below {down} %");
                (Wish::Size(fewer), reason)
            }
            None if size <= least => {
                let reason = format!(
                    "utilization {percent:.1} % is below {down} %, and {least} stay: utilization \
                     takes neither the last machine nor one of min_nodes"
                );
                (Wish::AtMost(size), reason)
            }
            None => {
                let reason = format!(
                    "utilization {percent:.1} % is below {down} %, and would be about {:.1} % with \
                     one machine less",
                    after(size - 1)
                );
                (Wish::Size(size), reason)
            }
        }
    } else {
        let reason = format!("utilization {percent:.1} % is within {down} % and {up} %");
        (Wish::Size(size), reason)
    };
    Recommendation::new(facts, wish, reason)
        .with("utilization", format!("{percent:.1}"))
        .with("serving", facts.serving)
        .with("coming", facts.coming)
}

/// As many machines as the jobs of a queue need.
pub(super) fn queue(jobs: u32, source: Option<&Source>, facts: &Facts<'_>) -> Recommendation {
    let unknown = |why: String| Recommendation::new(facts, Wish::Unknown, why);
    let Some(source) = source else {
        return unknown("the queue is unknown: the autoscaler has no source".to_owned());
    };
    let url = source.question.place();
    let told = facts.queues.iter().find(|(asked, _)| asked == source);
    let depth = match told {
        None => return unknown(format!("the queue is unknown: {url} was not asked yet")),
        Some((_, Err(why))) => return unknown(format!("the queue is unknown: {url}: {why}")),
        Some((_, Ok(depth))) if !depth.is_finite() || *depth < 0.0 => {
            let why = format!("the queue is unknown: {url} says {depth}, which is no length");
            return unknown(why);
        }
        Some((_, Ok(depth))) => *depth,
    };
    if jobs == 0 {
        let why = "jobs_per_node is 0: no machine works on any job";
        return Recommendation::new(facts, Wish::Keep, why).with("queue", depth);
    }
    // The conversion saturates, and more machines than fit are more than max_nodes.
    let needed = (depth / f64::from(jobs)).ceil() as u32;
    let plural = if needed == 1 { "" } else { "s" };
    let reason = format!("{depth} jobs need {needed} machine{plural} with {jobs} jobs each");
    Recommendation::new(facts, Wish::Size(needed), reason)
        .with("queue", depth)
        .with("jobs_per_node", jobs)
}
