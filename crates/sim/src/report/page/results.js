// The first part: the verdict, the figures, the charts.

function card(name, figure, remark, kind) {
  return make("div", { class: `card ${kind || ""}` },
    make("span", { class: "what" }, name),
    make("strong", null, figure),
    make("span", { class: "remark" }, remark || ""));
}

function cards() {
  const { summary } = data;
  const last = samples.at.length - 1;
  const healthyNow = last < 0 ? 0 : samples.healthy[last];
  const nodesNow = last < 0 ? 0 : samples.nodes[last];
  const failures = injections.at.length;
  const unnoticed = failures - summary.noticed;
  const lost = Object.values(data.lost).reduce((sum, hours) => sum + hours, 0);
  const list = [
    card("Promises broken", count(data.violations.length), "",
      data.violations.length > 0 ? "bad" : "good"),
    card("Healthy at the end", count(healthyNow), `of ${counted(nodesNow, "node")}`),
    card("Fewest healthy", count(summary.least),
      `after the start-up; average ${decimal(summary.average, 1)}`),
    card("Capacity delivered", percent(summary.delivered_gpu_hours, summary.asked_gpu_hours),
      `${decimal(summary.delivered_gpu_hours, 1)} of ${decimal(summary.asked_gpu_hours, 1)} GPU-hours`),
    card("GPU-hours lost", decimal(lost, 1), "for lack of a node that takes work"),
    card("Failures", count(failures),
      `${count(summary.cascading)} cascading, ${count(summary.recoveries)} recovered`),
    card("Not noticed", count(unnoticed),
      failures ? `${percent(unnoticed, failures)} of all failures` : "",
      unnoticed > 0 ? "warn" : "good"),
    summary.notice.count > 0 && card("Time to notice", span(summary.notice.p50),
      `half of them; 99 of 100 in ${span(summary.notice.p99)}`),
    summary.recovery.count > 0 && card("Time to recover", span(summary.recovery.p50),
      `half of them; 99 of 100 in ${span(summary.recovery.p99)}, longest ${span(summary.recovery.longest)}` +
        (summary.unrecovered > 0 ? `; ${count(summary.unrecovered)} not back at the end` : "")),
    card("Incidents", count(incidents.at.length),
      `${count(incidents.closed.filter((at) => at < 0).length)} open at the end`),
    summary.launches > 0 && card("Machines bought", count(summary.launches),
      `${count(summary.launches_failed)} never became a node`,
      summary.launches_failed > 0 ? "warn" : ""),
    summary.failed_to_start > 0 && card("Failed to start", count(summary.failed_to_start),
      `of ${counted(NODES, "node")}`, "warn"),
    summary.cost > 0 && card("Cost", dollars(summary.cost),
      summary.delivered_gpu_hours > 0
        ? `${dollars(summary.cost / summary.delivered_gpu_hours)} for each GPU-hour` : ""),
    data.outages.length > 0 && card("Outages", count(data.outages.length),
      data.outages.map(([name]) => name).slice(0, 3).join(", ")),
    summary.crashes > 0 && card("Control plane crashes", count(summary.crashes), ""),
  ];
  return make("div", { class: "cards" }, list);
}

// What was expected and what was found, what is wrong first.
function verdict() {
  const wrong = data.assertions.filter(([, , found]) => found !== null);
  const right = data.assertions.filter(([, , found]) => found === null);
  if (data.assertions.length + data.violations.length === 0 && data.reason === "") return null;
  const item = (kind, word, text) =>
    make("li", { class: kind }, make("b", null, word), " ", text);
  return section("Assertions and promises",
    make("ul", { class: "verdict" },
      // A reason that no assertion below gives, such as an event that failed.
      data.reason && wrong.length === 0 && item("bad", "Failed", data.reason),
      data.violations.map((text) => item("bad", "Promise broken", text)),
      wrong.map(([line, what, found]) =>
        item("bad", "Failed", `line ${line}: expected ${what}; ${found}`)),
      right.map(([line, what]) => item("good", "Holds", `line ${line}: ${what}`))));
}

// Outages and deaths of the control plane, behind the charts of the fleet.
const outageBands = () => data.outages.map(([name, from, until, hit]) => ({
  from, until, kind: "outage", label: `Outage ${name}: ${counted(hit, "node")}`,
}));

function charts() {
  const behind = outageBands();
  const other = samples.nodes.map((all, i) =>
    Math.max(0, all - samples.healthy[i] - samples.degraded[i] - samples.unhealthy[i]));
  const degraded = { name: "degraded", kind: "degraded", shape: "area", values: samples.degraded };
  const unhealthy = { name: "unhealthy", kind: "unhealthy", shape: "area", values: samples.unhealthy };
  const starting = { name: "starting", kind: "starting", shape: "area", values: samples.starting };
  const healthy = { name: "healthy", kind: "healthy", shape: "area", values: samples.healthy };
  const rest = { name: "cordoned, draining or unknown", kind: "cordoned", shape: "area", values: other };
  const shaded = behind.length > 0 ? "Outages are shaded." : "";
  return make("div", { class: "grid" },
    timeChart({
      title: "Health of the fleet", about: `Nodes, as the control plane says. ${shaded}`, behind,
      series: [healthy, rest, degraded, unhealthy, starting],
    }),
    timeChart({
      title: "Nodes that are not healthy", about: "The same without the healthy ones, at their own scale.",
      behind, series: [unhealthy, degraded, rest, starting],
    }),
    timeChart({
      title: "Capacity", about: "GPUs on nodes that take work, against those that were asked for.", behind,
      series: [
        { name: "delivered", kind: "healthy", shape: "area", values: samples.gpus_active },
        { name: "asked", kind: "ink", shape: "dashed", values: samples.gpus_asked },
      ],
    }),
    timeChart({
      title: "Failures and recoveries", about: "Since the start. A failure that ends with its machine is no recovery.", behind,
      series: [
        { name: "failures", kind: "unhealthy", shape: "line", values: samples.failures },
        { name: "recoveries", kind: "healthy", shape: "dashed", values: samples.recoveries },
      ],
    }),
    timeChart({
      title: "Open incidents", about: "Faults that the control plane knows and that are not settled.", behind,
      series: [{ name: "incidents", kind: "draining", shape: "area", values: samples.incidents }],
    }),
    data.summary.cost > 0 && timeChart({
      title: "Cost", about: "What the machines of pools have cost since the start.", behind,
      format: (value) => "$" + short(value), tell: dollars,
      series: [{ name: "cost", kind: "starting", shape: "line", values: samples.cost }],
    }));
}

// A cell with a bar as long as its share of the largest.
function bar(value, largest, text, kind) {
  const width = largest > 0 ? (value / largest) * 100 : 0;
  const line = make("i", { class: `bar ${kind}`, "aria-hidden": "true" });
  line.style.width = `${width}%`;
  return make("td", { class: "bars" }, make("span", null, text), line);
}

// The middle of a list of numbers; -1 of none.
function median(list) {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.ceil(sorted.length / 2) - 1] : -1;
}

// Failures in groups: how many, how many were noticed and how soon, how many ended.
function groups(keyOf) {
  const found = new Map();
  for (let i = 0; i < injections.at.length; i++) {
    const key = keyOf(i);
    if (key === null) continue;
    if (!found.has(key)) found.set(key, { key, all: 0, ended: 0, notices: [] });
    const group = found.get(key);
    group.all += 1;
    if (injections.ended[i] >= 0) group.ended += 1;
    if (injections.noticed[i] >= 0) group.notices.push(injections.noticed[i] - injections.at[i]);
  }
  return [...found.values()].sort((a, b) => b.all - a.all || (a.key < b.key ? -1 : 1));
}

function groupCells({ all, ended, notices }, largest, kind) {
  return [
    bar(all, largest, count(all), kind),
    notices.length === all ? "all" : percent(notices.length, all),
    notices.length ? span(median(notices)) : "–",
    ended === all ? "all" : percent(ended, all),
  ];
}

function failureTables() {
  const types = groups((i) => texts[injections.kind[i]]);
  if (types.length === 0) return null;
  const xids = groups((i) => (injections.xid[i] >= 0 ? injections.xid[i] : null));
  const heading = ["Failures", "Noticed", "Noticed after (half)", "Ended"];
  return make("div", { class: "grid" },
    section("Failures by type",
      table(["Type", ...heading], types.map((group) =>
        [group.key, ...groupCells(group, types[0].all, "unhealthy")]))),
    xids.length > 0 && section("Failures by XID",
      table(["XID", "Meaning", ...heading], xids.map((group) => {
        const [meaning, severity] = data.xids[group.key];
        const mark = make("span", { class: `badge ${severity}` }, severity);
        return [make("td", { class: "number" }, String(group.key)),
          make("td", null, meaning, " ", mark),
          ...groupCells(group, xids[0].all, severity === "fatal" ? "unhealthy" : "degraded")];
      }))));
}

function lostTable() {
  const lost = Object.entries(data.lost).sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  if (lost.length === 0) return null;
  const sum = lost.reduce((sum, [, hours]) => sum + hours, 0);
  return section("GPU-hours lost by cause",
    table(["Cause", "GPU-hours", "Share of the loss"], lost.map(([cause, hours]) =>
      [cause, bar(hours, lost[0][1], decimal(hours, 2), "draining"), percent(hours, sum)])));
}

function outageTable() {
  if (data.outages.length === 0) return null;
  return section("Outages",
    table(["Outage", "From", "Until", "Nodes"], data.outages.map(([name, from, until, hit]) =>
      [name, clock(from), until < 0 ? "the end" : clock(until), hit])));
}

function ruleTable() {
  if (data.rules.length === 0) return null;
  const opened = new Map();
  for (const rule of incidents.rule) opened.set(texts[rule], (opened.get(texts[rule]) || 0) + 1);
  const largest = Math.max(...data.rules.map(([, hits]) => hits));
  return section("Rules of the health policy",
    table(["Rule", "Hits", "Incidents", "Result", "Priority", "Condition"],
      data.rules.map(([name, hits, result, priority, condition]) =>
        [name, bar(hits, largest, count(hits), "starting"), opened.get(name) || 0, result,
          // A rule without a condition is not of the policy.
          condition ? priority : "",
          make("td", null, condition ? make("code", null, condition) : "built in")])));
}

function noteTable() {
  if (data.notes.length === 0) return null;
  return section("What happened to the fleet",
    table(["Time", "What"], data.notes.map(([at, note]) => [clock(at), note]),
      { class: "scroll tall" }));
}

function results() {
  const thinned = samples.at.length < data.summary.samples;
  return [
    verdict(),
    cards(),
    thinned && make("p", { class: "remark" },
      `The charts show ${count(samples.at.length)} of ${count(data.summary.samples)} counts of the `
      + "fleet: of each stretch of time the one with the fewest healthy nodes. report.json has all."),
    charts(),
    failureTables(),
    make("div", { class: "grid" }, lostTable(), outageTable()),
    pools(),
    ruleTable(),
    noteTable(),
  ];
}
