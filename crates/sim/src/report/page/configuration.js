// The fourth part: what was asked for, and how to run it again.

function configuration() {
  const { asked, summary } = data;
  const facts = [
    ["Seed", String(data.seed)],
    ["Simulated time", `${span(data.ended)}, of which ${span(data.started)} are the start-up`],
    ["Nodes asked for", count(asked.total_nodes)],
    ["Nodes that ever were", `${count(NODES)}, ${decimal(summary.node_hours, 1)} node-hours`],
    ["Failure rate", `${decimal(asked.failure_rate, 3)} a minute for each 1,000 nodes`],
    ["Cascading failures", asked.cascading ? "on" : "off"],
    ["Failures end by themselves", asked.recovery ? "on" : "off"],
    ["Times", "of the simulation: 0:00:00 here is 2000-01-01T00:00:00Z in report.json and in the logs"],
  ];
  const text = (content, name) => make("pre", { tabindex: "0", role: "region", "aria-label": name },
    content || "none");
  return [
    section("The run",
      make("dl", null, facts.map(([name, value]) => [make("dt", null, name), make("dd", null, value)])),
      make("p", null, "The same scenario, seed and build give the same run again:"),
      make("pre", null, `navarch sim run scenario.yaml --seed ${data.seed}`)),
    section("Scenario", text(data.scenario, "Scenario")),
    section("Configuration of the control plane", text(data.configuration, "Configuration of the control plane")),
  ];
}
