// The third part: the list of nodes, and one node with everything that happened to it.

const ROW = 30;
let nodeShown = -1;
const nodeListeners = [];

// Opens a node in the third part.
function showNode(node) {
  nodeShown = node;
  showPart("nodes");
  for (const listener of nodeListeners) listener();
}

const stateBadge = (state) => make("span", { class: `badge state-badge ${state}` }, STATE_WORDS[state]);

const nodeLink = (node) => make("button", {
  type: "button", class: "link", onclick: () => showNode(node),
}, nodes.id[node]);

// Why something broke.
function causeWords(injection) {
  const cause = injections.cause[injection];
  if (cause === -1) return "by the scenario";
  if (cause === -2) return "by chance";
  if (cause === -3) return "by a person";
  if (cause <= -4) return `by the outage ${texts[-4 - cause]}`;
  const other = injections.node[cause];
  return other >= 0 && other !== undefined ? ["caused by a failure of ", nodeLink(other)] : "caused by another failure";
}

// What became of a failure.
function fateWords(injection) {
  const at = injections.at[injection];
  const noticed = injections.noticed[injection];
  const ended = injections.ended[injection];
  return [
    noticed < 0
      ? make("b", { class: "warn-text" }, "not noticed")
      : `noticed after ${span(noticed - at)}: ${texts[injections.conclusion[injection]]}`,
    ended < 0 ? "; never ended" : `; ended after ${span(ended - at)}`,
  ];
}

// What happened in an event: a word for its kind, the kind's colour, and the rest.
function eventWords(event) {
  const known = event.what < injections.at.length;
  switch (event.kind) {
    case EVENT.started:
      return ["registered", "healthy", ""];
    case EVENT.startFailed:
      return ["never registered", "unhealthy", texts[event.what]];
    case EVENT.failure:
      return ["failure", "unhealthy", known
        ? [make("b", null, failureWords(event.what)), " ", causeWords(event.what), "; ", fateWords(event.what)]
        : ""];
    case EVENT.recovery:
      return ["end of a failure", "healthy", known ? failureWords(event.what) : ""];
    case EVENT.status:
      return [`status ${data.statuses[event.to]}`, stateOf(event.to, 1),
        [`was ${data.statuses[event.from]}`, event.why ? `: ${event.why}` : ""]];
    case EVENT.health:
      return [`health ${data.healths[event.to]}`, data.healths[event.to],
        `was ${data.healths[event.from]}`];
    case EVENT.incident: {
      if (event.what >= incidents.at.length) return ["incident", "draining", ""];
      const closed = incidents.closed[event.what];
      return ["incident", "draining",
        [`rule ${texts[incidents.rule[event.what]]}, action ${texts[incidents.action[event.what]]}; `,
          closed < 0 ? "still open" : `closed after ${span(closed - incidents.at[event.what])}`]];
    }
    default:
      return ["machine gone", "gone", texts[event.what]];
  }
}

function nodeDetail(node) {
  const text = (column) => texts[nodes[column][node]];
  const moment = (at) => (at < 0 ? "–" : clock(at));
  const canvas = make("div", { class: "canvas" });
  drawnByWidth(canvas, (width) => {
    canvas.replaceChildren(lane(node, width, 0, Math.max(1, data.ended)));
  });
  const facts = [
    ["Place", [text("provider"), text("region"), text("zone"), text("rack")].filter(Boolean).join(" / ")],
    ["Machine", `${text("instance_type")}, ${nodes.gpus[node]} × ${text("gpu_type")}`],
    ["Pool", nodes.pool[node] < 0 ? "none: an external node" : text("pool")],
    ["Status and health", `${data.statuses[nodes.status[node]]}, ${data.healths[nodes.health[node]]}`],
    ["Switched on", moment(nodes.powered[node])],
    ["Registered", nodes.registered[node] < 0 ? "never"
      : `${moment(nodes.registered[node])}, after ${span(nodes.registered[node] - nodes.powered[node])}`],
    nodes.ended[node] >= 0 && ["Gone", moment(nodes.ended[node])],
    ["Failures", `${count(nodes.failures[node])}, ${count(nodes.recoveries[node])} recovered`],
    ["Trouble", `${span(trouble(node))} without taking work`],
    lemons.has(node) && ["Lemon", "fails more often than others"],
  ].filter(Boolean);
  const list = eventsOf(node);
  return make("article", { class: "detail", "aria-label": "Node" },
    make("h2", { tabindex: "-1" }, nodes.id[node], " ", stateBadge(finalStates[node])),
    make("dl", null, facts.map(([name, value]) => [make("dt", null, name), make("dd", null, value)])),
    canvas,
    make("p", null, make("a", { href: logOf(node) }, "Log of the node"), " (beside this file)"),
    table(["Time", "Event", "What"], list.map((event) => {
      const [word, kind, rest] = eventWords(event);
      return [make("td", { class: "time" }, clock(event.at, true)),
        make("td", { class: "event" }, make("i", { class: `dot ${kind}`, "aria-hidden": "true" }), word),
        make("td", null, rest)];
    }), { class: "scroll events" }),
    list.length === 0 && make("p", { class: "empty" }, "Nothing happened to it."));
}

function nodeList() {
  const detail = make("div", { class: "detail-place" });
  const list = virtualList(ROW, "Nodes", (node) =>
    make("div", { class: "row", role: "listitem" },
      make("button", {
        type: "button", class: "name wide", "data-node": node, title: nodes.id[node],
        "aria-pressed": node === nodeShown ? "true" : "false",
        onclick: () => showNode(node),
      },
      make("span", { class: "id" }, nodes.id[node]),
      make("span", { class: "cell place" }, texts[nodes.zone[node]]),
      make("span", { class: "cell figure" }, nodes.failures[node] ? counted(nodes.failures[node], "failure") : ""),
      stateBadge(finalStates[node]))));
  const showDetail = () => {
    detail.replaceChildren(nodeShown < 0
      ? make("p", { class: "empty" }, "Choose a node to see what happened to it.")
      : nodeDetail(nodeShown));
    list.refresh();
    if (nodeShown >= 0 && window.innerWidth < 900) detail.scrollIntoView();
  };
  nodeListeners.push(showDetail);
  filterListeners.push((found) => list.show(found));
  showDetail();
  return make("div", { class: "panel fixed" },
    filterBar(),
    make("div", { class: "split" }, list.element, detail));
}
