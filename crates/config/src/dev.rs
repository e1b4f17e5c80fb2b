//! The configuration of `navarch dev`, as a file that explains itself.

use crate::config::Config;

/// The size of the pool when nothing is asked for.
const MIN_NODES: u32 = 2;
const MAX_NODES: u32 = 5;

impl Config {
    /// The text of the file that `navarch dev` writes: a fake cloud, one pool, short intervals.
    /// `nodes` sets the pool's `min_nodes` and raises its `max_nodes` to at least one more.
    #[must_use]
    pub fn dev(nodes: Option<u32>) -> String {
        let min_nodes = nodes.unwrap_or(MIN_NODES);
        let max_nodes = MAX_NODES.max(min_nodes.saturating_add(1));
        format!(
            r#"# A fleet to try things on: a fake cloud whose machines are processes on this computer.
# Durations are short so that you see everything happen; each comment names the default.

server:
  address: 127.0.0.1:50051    # where to listen; :50051 listens on every interface
  heartbeat_interval: 2s      # how often an agent says that it is alive; 30s
  health_check_interval: 5s   # how often an agent reports in full; 60s

guards:                       # limits on what Navarch does on its own
  small_fleet_wait: 30s       # under 4 nodes: between two replacements for the same reason; 10m
  breaker:                    # stops repair when many nodes show the same fault
    wait: 30s                 # quiet time before one node is tried; 10m
    confirm: 30s              # how long its replacement must stay ACTIVE; 10m
  launch_breaker:             # stops buying machines that never come up
    wait: 30s                 # time before one launch is tried; 5m

providers:
  fake:
    type: fake
    gpu_count: 8              # fake GPUs of each machine

pools:
  dev:
    provider: fake
    instance_type: fake-8x
    min_nodes: {min_nodes}              # kept at all times
    max_nodes: {max_nodes}              # never exceeded, but for a replacement in progress
    automation: on            # observe plans and explains without acting; off does neither
"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_dev_file_loads_without_warnings() {
        for (nodes, min, max) in [
            (None, 2, 5),
            (Some(0), 0, 5),
            (Some(4), 4, 5),
            (Some(5), 5, 6),
            (Some(1000), 1000, 1001),
        ] {
            let (config, warnings) = Config::parse("dev.yaml", &Config::dev(nodes)).unwrap();
            assert_eq!(warnings, []);
            let pool = &config.pools["dev"];
            assert_eq!((pool.min_nodes, pool.max_nodes), (min, max));
            assert_eq!(config.server.heartbeat_interval, Duration::from_secs(2));
            assert_eq!(config.server.heartbeat_timeout, Duration::from_secs(6));
            assert_eq!(config.server.health_check_interval, Duration::from_secs(5));
            let short = Duration::from_secs(30);
            assert_eq!(config.guards.small_fleet_wait, short);
            assert_eq!(config.guards.breaker.wait, short);
            assert_eq!(config.guards.launch_breaker.wait, short);
        }
    }

    #[test]
    fn too_many_nodes_are_refused_by_the_load() {
        let text = Config::dev(Some(u32::MAX));
        let error = Config::parse("dev.yaml", &text).unwrap_err().to_string();
        assert!(error.contains("min_nodes must be at most"), "{error}");
    }
}
