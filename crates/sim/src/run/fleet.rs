//! The external nodes of a scenario: which they are, and when each is switched on.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_config::scenario::{
    ColdStart, FleetGen, FleetNode, Pattern, Place, Startup, usual_instance_type,
};
use navarch_model::NodeId;

use crate::machine::Spec;
use crate::streams::Stream;

/// The nodes that a scenario lists.
pub(super) fn listed(nodes: &[FleetNode]) -> Vec<Spec> {
    nodes.iter().map(spec).collect()
}

fn spec(node: &FleetNode) -> Spec {
    Spec {
        node: NodeId::new(&*node.id),
        instance: None,
        pool: None,
        place: node.place.clone(),
        instance_type: node.instance_type.clone(),
        gpus: node.gpu_count,
        gpu_type: node.gpu_type.clone(),
        labels: node.labels.clone(),
    }
}

/// The nodes that a scenario has generated.
pub(super) fn generated(fleet: &FleetGen, draw: &mut Stream) -> Vec<Spec> {
    let templates: Vec<(usize, f64)> = weights(fleet.templates.iter().map(|one| one.weight));
    let providers = weights(fleet.providers.iter().map(|(_, weight)| *weight));
    let regions = weights(fleet.regions.iter().map(|(_, weight)| *weight));
    let mut racked: BTreeMap<(String, String, String), u32> = BTreeMap::new();
    let mut specs = Vec::new();
    for index in 0..fleet.total_nodes {
        let template = draw
            .weighted(&templates)
            .and_then(|at| fleet.templates.get(*at));
        let provider = draw
            .weighted(&providers)
            .and_then(|at| fleet.providers.get(*at));
        let region = draw
            .weighted(&regions)
            .and_then(|at| fleet.regions.get(*at));
        let (Some(template), Some((provider, _)), Some((region, _))) = (template, provider, region)
        else {
            break;
        };
        let zone = draw
            .pick(&fleet.zones_of(region))
            .cloned()
            .unwrap_or_default();
        let stands = (provider.clone(), region.clone(), zone.clone());
        let stands = racked.entry(stands).or_default();
        let number = *stands / fleet.nodes_per_rack.max(1);
        *stands += 1;
        let mut labels = template.labels.clone();
        labels.extend([
            ("template".to_owned(), template.name.clone()),
            ("generated".to_owned(), "true".to_owned()),
            ("index".to_owned(), index.to_string()),
        ]);
        let gpus = template.gpu_count;
        let usual = || usual_instance_type(provider, gpus);
        specs.push(Spec {
            node: NodeId::new(format!("{provider}-{region}-{}-{index:04}", template.name)),
            instance: None,
            pool: None,
            place: Place::in_rack(provider, region, &zone, number),
            instance_type: template.instance_type.clone().unwrap_or_else(usual),
            gpus,
            gpu_type: template.gpu_type.clone(),
            labels,
        });
    }
    specs
}

fn weights(all: impl Iterator<Item = f64>) -> Vec<(usize, f64)> {
    all.enumerate().collect()
}

/// When each of so many nodes is switched on, from the start of the run.
pub(super) fn starts(startup: &Startup, nodes: usize, draw: &mut Stream) -> Vec<Duration> {
    let mut varied = |at: Duration| {
        let factor = 1.0 + startup.jitter * (2.0 * draw.unit() - 1.0);
        at.mul_f64(factor.max(0.0))
    };
    let spread = |step: usize, steps: usize| {
        let part = step as f64 / steps.max(1) as f64;
        startup.duration.mul_f64(part)
    };
    let batch = startup.batch_size.max(1) as usize;
    (0..nodes)
        .map(|node| match startup.pattern {
            Pattern::Instant => Duration::ZERO,
            Pattern::Linear => varied(spread(node, nodes)),
            Pattern::Wave => varied(spread(node / batch, nodes.div_ceil(batch))),
            Pattern::Exponential => {
                // Batches of 1, 2, 4 and so on: the batch of a node is the logarithm of its place.
                let rounds = usize::BITS - nodes.leading_zeros();
                let round = usize::BITS - 1 - (node + 1).leading_zeros();
                varied(spread(round as usize, rounds as usize))
            }
        })
        .collect()
}

/// How long a machine boots, or something else takes that is told in the same way.
pub(crate) fn cold_start(cold: &ColdStart, draw: &mut Stream) -> Duration {
    match (cold.mean, cold.min, cold.max) {
        (Some(mean), min, max) => {
            let drawn = draw.normal(mean, cold.stddev);
            let drawn = max.map_or(drawn, |max| drawn.min(max));
            min.map_or(drawn, |min| drawn.max(min))
        }
        (None, Some(min), Some(max)) => draw.uniform(min, max),
        (None, one, other) => one.or(other).unwrap_or_default(),
    }
}
