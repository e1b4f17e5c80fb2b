//! Where pools buy: what the keys mean, and what is wrong with them.

use navarch_config::{CandidateConfig, Config, Strategy};
use navarch_model::{CapacityKind, Price};

fn load(pool: &str) -> Config {
    let text = format!("providers: {{fake: {{}}, far: {{type: fake}}}}\npools:\n  dev:\n{pool}");
    let (config, warnings) =
        Config::parse("f.yaml", &text).unwrap_or_else(|errors| panic!("{errors}"));
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings.iter().all(|one| one.contains("no pool uses it")),
        "{warnings:?}"
    );
    // The effective configuration loads as itself.
    let (again, _) = Config::parse("again.yaml", &config.to_yaml()).expect("it is sound");
    assert_eq!(again, config);
    config
}

fn candidates(pool: &str) -> Vec<CandidateConfig> {
    load(pool).pools["dev"].placement.providers.clone()
}

fn problems(text: &str) -> Vec<String> {
    match Config::parse("f.yaml", text) {
        Ok(_) => panic!("loaded:\n{text}"),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn one_provider_is_one_candidate_in_every_region_and_zone() {
    for (pool, expected) in [
        (
            "    {provider: fake, instance_type: x, max_nodes: 1}\n",
            vec![("local", "")],
        ),
        (
            "    {provider: fake, instance_type: x, max_nodes: 1, regions: [r1, r2]}\n",
            vec![("r1", ""), ("r2", "")],
        ),
        (
            "    {provider: fake, instance_type: x, max_nodes: 1, region: r1, zones: [a, b]}\n",
            vec![("r1", "a"), ("r1", "b")],
        ),
        // A zone that names its region is of that one alone; another is of each.
        (
            "    {provider: fake, instance_type: x, max_nodes: 1, regions: [us-east-1, us-west-2],
     zones: [us-west-2b, us-east-1a, us-east-1b]}\n",
            vec![
                ("us-east-1", "us-east-1a"),
                ("us-east-1", "us-east-1b"),
                ("us-west-2", "us-west-2b"),
            ],
        ),
        (
            "    {provider: fake, instance_type: x, max_nodes: 1, regions: [r1, r2], zones: [a, b]}\n",
            vec![("r1", "a"), ("r1", "b"), ("r2", "a"), ("r2", "b")],
        ),
    ] {
        let candidates = candidates(pool);
        assert_eq!(candidates.len(), 1);
        assert_eq!(candidates[0].places(), expected, "{pool}");
    }
}

#[test]
fn what_a_candidate_leaves_out_is_the_pools() {
    let config = load(
        "    strategy: round-robin
    parallel_launches: 4
    instance_type: gpu
    regions: [r1]
    capacity: spot
    max_price: 2.50
    max_nodes: 9
    providers:
      - name: fake
        weight: 3
      - {name: far, priority: -2, regions: [r2, r3], zones: [a], instance_type: other, capacity: on_demand, max_price: $4}
",
    );
    let placement = &config.pools["dev"].placement;
    assert_eq!(placement.strategy, Strategy::RoundRobin);
    assert_eq!(placement.parallel_launches, Some(4));
    let [first, second] = &placement.providers[..] else {
        panic!("{placement:?}")
    };
    assert_eq!(
        (
            first.priority,
            first.weight,
            first.capacity,
            first.max_price
        ),
        (
            0,
            3,
            CapacityKind::Spot,
            Some(Price::from_micros(2_500_000))
        )
    );
    assert_eq!(first.instance_type, "gpu");
    assert_eq!(first.places(), [("r1", "")]);
    assert_eq!(
        (
            second.priority,
            second.weight,
            second.capacity,
            second.max_price
        ),
        (
            -2,
            1,
            CapacityKind::OnDemand,
            Some(Price::from_micros(4_000_000))
        )
    );
    assert_eq!(second.instance_type, "other");
    assert_eq!(second.places(), [("r2", "a"), ("r3", "a")]);
}

#[test]
fn what_is_wrong_is_said_in_place() {
    let pool = |keys: &str| {
        format!("providers: {{fake: {{}}, far: {{type: fake}}}}\npools:\n  dev: {{{keys}}}\n")
    };
    for (keys, expected) in [
        (
            "instance_type: x, max_nodes: 1",
            "f.yaml:3:3: pool \"dev\": must specify provider or providers: name those of the providers section",
        ),
        (
            "instance_type: x, max_nodes: 1, provider: fake, providers: [{name: far}]",
            "f.yaml:3:64: pool \"dev\": cannot specify both provider and providers: keep one",
        ),
        (
            "instance_type: x, max_nodes: 1, providers: []",
            "f.yaml:3:52: pool \"dev\": providers is empty: list at least one",
        ),
        (
            "instance_type: x, max_nodes: 1, providers: [{priority: 1}]",
            "f.yaml:3:53: pool \"dev\": name is required: name one of the providers section",
        ),
        (
            "instance_type: x, max_nodes: 1, providers: [{name: fars}]",
            "f.yaml:3:60: pool \"dev\": unknown provider \"fars\": did you mean far?",
        ),
        (
            "max_nodes: 1, providers: [{name: far}]",
            "f.yaml:3:35: pool \"dev\": instance_type is required: give the pool or this provider one",
        ),
        (
            "instance_type: x, max_nodes: 1, providers: [{name: far, wieght: 2}]",
            "f.yaml:3:65: unknown key \"wieght\" in pools.dev.providers[0]: did you mean weight?",
        ),
        (
            "instance_type: x, max_nodes: 1, providers: [{name: far, weight: 0}]",
            "f.yaml:3:73: pools.dev.providers[0].weight: the number 0 is out of range: use 1 to 1000",
        ),
        (
            "instance_type: x, max_nodes: 1, provider: far, max_price: cheap",
            "f.yaml:3:67: pools.dev.max_price: found the text \"cheap\": write dollars per hour in decimal digits, such as 12.50",
        ),
        (
            "instance_type: x, max_nodes: 1, provider: far, strategy: cheapest",
            "f.yaml:3:66: pools.dev.strategy: expected priority, cost, availability or round-robin, found the text \"cheapest\"",
        ),
        (
            "instance_type: x, max_nodes: 1, provider: far, capacity: reserved",
            "f.yaml:3:66: pools.dev.capacity: expected on_demand or spot, found the text \"reserved\"",
        ),
        (
            "instance_type: x, max_nodes: 1, provider: far, region: a, regions: [b]",
            "f.yaml:3:76: pool \"dev\": cannot specify both region and regions: keep one",
        ),
        (
            "instance_type: x, max_nodes: 1, provider: far, regions: [a, a]",
            "f.yaml:3:69: pools.dev.regions: \"a\" is listed twice: keep one",
        ),
        (
            "instance_type: x, max_nodes: 1, provider: far, regions: [us, eu], zones: [us-1]",
            "f.yaml:3:82: pool \"dev\": region \"eu\" has none of the zones: name one of it, or leave zones out",
        ),
        (
            "instance_type: x, max_nodes: 1, provider: far, parallel_launches: 0",
            "f.yaml:3:75: pools.dev.parallel_launches: the number 0 is out of range: use 1 to 10000",
        ),
        (
            "instance_type: x, max_nodes: 1, providers: [{name: far}, {name: far, priority: 2}]",
            "f.yaml:3:52: pool \"dev\": \"far\" is named twice for local  x: keep one",
        ),
    ] {
        let found = problems(&pool(keys));
        let near = found
            .iter()
            .any(|line| line.contains(expected.split_once(": ").unwrap().1));
        assert!(near, "{keys}\n{found:#?}");
        assert!(
            found.iter().all(|line| line.starts_with("f.yaml:")),
            "{found:?}"
        );
    }
}

#[test]
fn a_machine_type_that_the_cloud_has_not_is_refused_by_the_type_of_the_provider() {
    let text = "providers: {gcp-us: {type: gcp}, mine: {type: lambda}, fake: {}}
pools:
  a: {provider: gcp-us, instance_type: a10-1x, max_nodes: 1}
  b: {providers: [{name: mine}, {name: gcp-us}, {name: fake}], instance_type: l4-1x, max_nodes: 1}
";
    let found = problems(text);
    for expected in [
        "f.yaml:3:40: pool \"a\": provider \"gcp-us\": gcp has no a10-1x: the nearest that it has is a100-1x (a2-highgpu-1g)",
        "f.yaml:4:79: pool \"b\": provider \"mine\": lambda has no l4-1x: the nearest that it has is h100-1x (gpu_1x_h100_pcie)",
    ] {
        assert!(
            found.contains(&expected.to_owned()),
            "{expected}\n{found:#?}"
        );
    }
}
