// What the run left: the columns of the embedded JSON, and rows of them on demand.

const data = JSON.parse(document.getElementById("data").textContent);
const { nodes, injections, incidents, events, samples, texts } = data;
const NODES = nodes.id.length;

// Turns the differences of a column of times into times.
function times(steps) {
  let now = 0;
  return steps.map((step) => (now += step));
}

injections.at = times(injections.steps);
incidents.at = times(incidents.steps);
samples.at = times(samples.steps);
const lemons = new Set(nodes.lemons);

// The kinds of events, by their number in the data.
const EVENT = {
  started: 0,
  startFailed: 1,
  failure: 2,
  recovery: 3,
  status: 4,
  health: 5,
  incident: 6,
  ended: 7,
};

// Where the events of each node begin, and where the reasons of its changes of status do.
const firstEvent = new Uint32Array(NODES + 1);
const firstReason = new Uint32Array(NODES + 1);
for (let node = 0, event = 0, reason = 0; node < NODES; node++) {
  for (const end = event + nodes.events[node]; event < end; event++) {
    if (events.kind[event] === EVENT.status) reason++;
  }
  firstEvent[node + 1] = event;
  firstReason[node + 1] = reason;
}

// The events of a node, the earliest first.
function eventsOf(node) {
  const list = [];
  let at = 0;
  let reason = firstReason[node];
  for (let event = firstEvent[node]; event < firstEvent[node + 1]; event++) {
    at += events.steps[event];
    const kind = events.kind[event];
    const what = events.what[event];
    const row = { at, kind, what };
    if (kind === EVENT.status || kind === EVENT.health) {
      row.from = Math.floor(what / 10);
      row.to = what % 10;
    }
    if (kind === EVENT.status) row.why = texts[events.why[reason++]];
    list.push(row);
  }
  return list;
}

// What a node can be seen as, the worst last: where a pixel has room for one, the worst shows.
const STATES = [
  "gone", "healthy", "unknown", "starting", "cordoned", "draining", "degraded", "unhealthy",
];
const WORST = Object.fromEntries(STATES.map((state, rank) => [state, rank]));
const STATE_WORDS = {
  gone: "gone", healthy: "healthy", unknown: "unknown", starting: "starting", cordoned: "cordoned",
  draining: "draining", degraded: "degraded", unhealthy: "unhealthy",
};

// One word for a status and a health status.
function stateOf(status, health) {
  const statusWord = data.statuses[status];
  const healthWord = data.healths[health];
  if (statusWord === "terminated") return "gone";
  if (statusWord === "unhealthy" || healthWord === "unhealthy") {
    return statusWord === "draining" ? "draining" : "unhealthy";
  }
  if (statusWord === "draining" || statusWord === "cordoned") return statusWord;
  if (healthWord === "degraded" || statusWord === "degraded") return "degraded";
  return statusWord === "active" ? "healthy" : "unknown";
}

// The stretches of a node's life: from, until, state.
function stretchesOf(node, list = eventsOf(node)) {
  const first = (kind, last) => {
    const change = list.find((event) => event.kind === kind);
    return change ? change.from : last;
  };
  let status = first(EVENT.status, nodes.status[node]);
  let health = first(EVENT.health, nodes.health[node]);
  let state = "starting";
  let from = nodes.powered[node];
  const stretches = [];
  const turn = (at, next) => {
    if (next === state) return;
    if (at > from) stretches.push({ from, until: at, state });
    from = at;
    state = next;
  };
  for (const event of list) {
    switch (event.kind) {
      case EVENT.started:
        turn(event.at, stateOf(status, health));
        break;
      case EVENT.startFailed:
      case EVENT.ended:
        turn(event.at, "gone");
        break;
      case EVENT.status:
        status = event.to;
        break;
      case EVENT.health:
        health = event.to;
        break;
    }
    const changed = event.kind === EVENT.status || event.kind === EVENT.health;
    if (changed && nodes.registered[node] >= 0 && nodes.registered[node] <= event.at) {
      // A machine that is gone stays so, whatever is still written about it.
      if (state !== "gone") turn(event.at, stateOf(status, health));
    }
  }
  if (data.ended > from) stretches.push({ from, until: data.ended, state });
  return stretches;
}

// The state of each node in the end.
const finalStates = Array.from({ length: NODES }, (_, node) => {
  const stretches = stretchesOf(node);
  return stretches.length > 0 ? stretches[stretches.length - 1].state : "unknown";
});

const failuresOf = (node) =>
  eventsOf(node).filter((event) => event.kind === EVENT.failure && event.what < injections.at.length);

// What broke, in words.
function failureWords(injection) {
  const xid = injections.xid[injection];
  const gpu = injections.gpu[injection];
  const kind = texts[injections.kind[injection]];
  const where = gpu >= 0 ? ` on GPU ${gpu}` : "";
  const known = data.xids[xid];
  return kind + where + (xid >= 0 ? `, XID ${xid}${known ? `: ${known[0]}` : ""}` : "");
}

// The path of a node's log, as a link needs it.
function logOf(node) {
  const path = nodes.logs[node] || `logs/${nodes.id[node]}.log`;
  return path.split("/").map(encodeURIComponent).join("/");
}
