//! Machine types that mean the same at several clouds.
//!
//! The facts are those of the clouds' own pages: `a10-1x` has no machine at GCP, whose G2 family
//! carries the L4; `a100-4x` has none at AWS, whose P4 machines have eight GPUs.

use crate::schema;

/// One machine by its GPUs, with the name that each type of provider has for it.
pub(crate) struct InstanceType {
    /// The name that holds everywhere.
    pub(crate) name: &'static str,
    /// How many GPUs it has.
    pub(crate) gpus: u32,
    /// The type of provider and its own names for it; the first is the one that is asked for.
    own: &'static [(&'static str, &'static [&'static str])],
}

/// Every machine type that has a name of its own.
pub(crate) const INSTANCE_TYPES: &[InstanceType] = &[
    InstanceType {
        name: "b200-8x",
        gpus: 8,
        own: &[
            ("lambda", &["gpu_8x_b200_sxm6"]),
            ("gcp", &["a4-highgpu-8g"]),
            ("aws", &["p6-b200.48xlarge"]),
        ],
    },
    InstanceType {
        name: "h200-8x",
        gpus: 8,
        own: &[
            ("gcp", &["a3-ultragpu-8g"]),
            ("aws", &["p5en.48xlarge", "p5e.48xlarge"]),
        ],
    },
    InstanceType {
        name: "h100-8x",
        gpus: 8,
        own: &[
            ("lambda", &["gpu_8x_h100_sxm5"]),
            ("gcp", &["a3-highgpu-8g", "a3-megagpu-8g"]),
            ("aws", &["p5.48xlarge"]),
        ],
    },
    InstanceType {
        name: "h100-1x",
        gpus: 1,
        own: &[
            ("lambda", &["gpu_1x_h100_pcie", "gpu_1x_h100_sxm5"]),
            ("gcp", &["a3-highgpu-1g"]),
            ("aws", &["p5.4xlarge"]),
        ],
    },
    InstanceType {
        name: "a100-80gb-8x",
        gpus: 8,
        own: &[
            ("lambda", &["gpu_8x_a100_80gb_sxm4"]),
            ("gcp", &["a2-ultragpu-8g"]),
            ("aws", &["p4de.24xlarge"]),
        ],
    },
    InstanceType {
        name: "a100-8x",
        gpus: 8,
        own: &[
            ("lambda", &["gpu_8x_a100"]),
            ("gcp", &["a2-highgpu-8g"]),
            ("aws", &["p4d.24xlarge"]),
        ],
    },
    InstanceType {
        name: "a100-4x",
        gpus: 4,
        own: &[("lambda", &["gpu_4x_a100"]), ("gcp", &["a2-highgpu-4g"])],
    },
    InstanceType {
        name: "a100-1x",
        gpus: 1,
        own: &[
            ("lambda", &["gpu_1x_a100", "gpu_1x_a100_sxm4"]),
            ("gcp", &["a2-highgpu-1g"]),
        ],
    },
    InstanceType {
        name: "a10-1x",
        gpus: 1,
        own: &[("lambda", &["gpu_1x_a10"]), ("aws", &["g5.xlarge"])],
    },
    InstanceType {
        name: "l4-1x",
        gpus: 1,
        own: &[("gcp", &["g2-standard-4"]), ("aws", &["g6.xlarge"])],
    },
];

impl InstanceType {
    /// What a type of provider calls it.
    pub(crate) fn at(&self, provider: &str) -> Option<&'static str> {
        let (_, names) = self.own.iter().find(|(kind, _)| *kind == provider)?;
        names.first().copied()
    }

    /// The type of provider that has this name for it.
    fn owner(&self, name: &str) -> Option<&'static str> {
        let (kind, _) = self.own.iter().find(|(_, names)| names.contains(&name))?;
        Some(kind)
    }
}

/// The name that a type of provider has for a machine type. A name that no table knows is the
/// cloud's own and stays as it is; a type of provider without a table takes every name as it is.
///
/// # Errors
///
/// The provider has no such machine; says which is nearest.
pub(crate) fn resolve(name: &str, provider: &str) -> Result<String, String> {
    let has_table = |one: &InstanceType| one.at(provider).is_some();
    if !INSTANCE_TYPES.iter().any(has_table) {
        return Ok(name.to_owned());
    }
    if let Some(found) = INSTANCE_TYPES.iter().find(|one| one.name == name) {
        return found
            .at(provider)
            .map(str::to_owned)
            .ok_or_else(|| format!("{provider} has no {name}: {}", nearest(found, provider)));
    }
    let foreign = INSTANCE_TYPES
        .iter()
        .find_map(|one| Some((one, one.owner(name)?)));
    match foreign {
        Some((_, owner)) if owner == provider => Ok(name.to_owned()),
        Some((found, owner)) => {
            let instead = match found.at(provider) {
                Some(own) => format!("write {}, which is {own} there", found.name),
                None => nearest(found, provider),
            };
            Err(format!(
                "{name} is a machine type of {owner}, not of {provider}: {instead}"
            ))
        }
        None => Ok(name.to_owned()),
    }
}

/// What a provider has that is most like a machine type that it has not.
fn nearest(wanted: &InstanceType, provider: &str) -> String {
    let here = || {
        let all = INSTANCE_TYPES.iter();
        all.filter_map(|one| Some((one, one.at(provider)?)))
    };
    let by_name = schema::nearest(wanted.name, here().map(|(one, _)| one.name));
    let found = here()
        .find(|(one, _)| Some(one.name) == by_name && one.gpus == wanted.gpus)
        .or_else(|| here().find(|(one, _)| one.gpus == wanted.gpus))
        .or_else(|| here().next());
    match found {
        Some((one, own)) => format!("the nearest that it has is {} ({own})", one.name),
        None => "use another provider".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_hold_everywhere_become_those_of_the_cloud() {
        for (name, provider, own) in [
            ("h100-8x", "lambda", "gpu_8x_h100_sxm5"),
            ("h100-8x", "gcp", "a3-highgpu-8g"),
            ("h100-8x", "aws", "p5.48xlarge"),
            ("h100-1x", "aws", "p5.4xlarge"),
            ("a100-80gb-8x", "aws", "p4de.24xlarge"),
            ("a10-1x", "aws", "g5.xlarge"),
            ("l4-1x", "gcp", "g2-standard-4"),
            // The cloud's own names, and those that no table knows.
            ("a3-megagpu-8g", "gcp", "a3-megagpu-8g"),
            ("trn1.32xlarge", "aws", "trn1.32xlarge"),
            ("h100-9x", "gcp", "h100-9x"),
            // A fake cloud sells whatever it is asked for.
            ("h100-8x", "fake", "h100-8x"),
            ("p5.48xlarge", "docker", "p5.48xlarge"),
        ] {
            assert_eq!(
                resolve(name, provider),
                Ok(own.to_owned()),
                "{name} at {provider}"
            );
        }
    }

    #[test]
    fn a_machine_that_a_cloud_has_not_is_refused_with_the_nearest() {
        for (name, provider, problem) in [
            (
                "l4-1x",
                "lambda",
                "lambda has no l4-1x: the nearest that it has is h100-1x (gpu_1x_h100_pcie)",
            ),
            (
                "a10-1x",
                "gcp",
                "gcp has no a10-1x: the nearest that it has is a100-1x (a2-highgpu-1g)",
            ),
            (
                "a100-4x",
                "aws",
                "aws has no a100-4x: the nearest that it has is b200-8x (p6-b200.48xlarge)",
            ),
            (
                "p5.48xlarge",
                "gcp",
                "p5.48xlarge is a machine type of aws, not of gcp: write h100-8x, which is \
                 a3-highgpu-8g there",
            ),
            (
                "g2-standard-4",
                "lambda",
                "g2-standard-4 is a machine type of gcp, not of lambda: the nearest that it has is \
                 h100-1x (gpu_1x_h100_pcie)",
            ),
        ] {
            assert_eq!(
                resolve(name, provider),
                Err(problem.to_owned()),
                "{name} at {provider}"
            );
        }
    }

    #[test]
    fn every_name_means_one_machine() {
        let mut seen = std::collections::BTreeSet::new();
        for one in INSTANCE_TYPES {
            assert!(seen.insert(one.name), "{}", one.name);
            assert!(
                one.name.ends_with(&format!("-{}x", one.gpus)),
                "{}",
                one.name
            );
            for (kind, names) in one.own {
                assert!(schema::PROVIDER_TYPES.contains(kind), "{kind}");
                for name in *names {
                    assert!(seen.insert(name), "{name}");
                }
            }
        }
    }
}
