// Which nodes the timeline and the list show, and in what order: one choice for both.

const filter = { text: "", provider: "", zone: "", pool: "", state: "", failures: "", order: "name" };
const filterListeners = [];
const filterBars = [];

// What the search looks through, made when it is first used.
let haystack = null;

function searchText(node) {
  if (!haystack) {
    haystack = nodes.id.map((id, i) =>
      [id, texts[nodes.zone[i]], texts[nodes.rack[i]], texts[nodes.instance_type[i]],
        nodes.pool[i] < 0 ? "" : texts[nodes.pool[i]]].join("\n").toLowerCase());
  }
  return haystack[node];
}

// Nodes by something that takes a while to find out.
function measured(measure) {
  let values = null;
  return (node) => {
    values = values || Array.from({ length: NODES }, (_, i) => measure(i));
    return values[node];
  };
}

// Nodes with a failure from which the control plane concluded nothing.
const unnoticed = measured((node) =>
  nodes.failures[node] > 0 && failuresOf(node).some(({ what }) => injections.noticed[what] < 0));
const firstFailure = measured((node) => {
  const [first] = nodes.failures[node] > 0 ? failuresOf(node) : [];
  return first ? first.at : Infinity;
});
// How long a node was there and could not take work.
const trouble = measured((node) =>
  stretchesOf(node).reduce((sum, { from, until, state }) =>
    state === "healthy" || state === "gone" || state === "starting" ? sum : sum + until - from, 0));

const FAILURE_CHOICES = {
  any: ["With failures", (node) => nodes.failures[node] > 0],
  unnoticed: ["With failures nobody noticed", (node) => unnoticed(node)],
  none: ["Without failures", (node) => nodes.failures[node] === 0],
  lemon: ["Lemons", (node) => lemons.has(node)],
};

const ORDERS = {
  name: ["By name", null],
  failures: ["Most failures first", (a, b) => nodes.failures[b] - nodes.failures[a]],
  first: ["First failure first", (a, b) => firstFailure(a) - firstFailure(b) || 0],
  trouble: ["Longest trouble first", (a, b) => trouble(b) - trouble(a)],
};

// The nodes that are chosen, in the order that is chosen.
function chosenNodes() {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  const failures = FAILURE_CHOICES[filter.failures];
  const list = [];
  for (let node = 0; node < NODES; node++) {
    const fits =
      (filter.provider === "" || texts[nodes.provider[node]] === filter.provider)
      && (filter.zone === "" || texts[nodes.zone[node]] === filter.zone)
      && (filter.pool === "" || (nodes.pool[node] >= 0 && texts[nodes.pool[node]] === filter.pool))
      && (filter.state === "" || finalStates[node] === filter.state)
      && (!failures || failures[1](node))
      && words.every((word) => searchText(node).includes(word));
    if (fits) list.push(node);
  }
  const order = ORDERS[filter.order][1];
  // Stable: equals stay in the order of their names.
  return order ? list.sort(order) : list;
}

// Tells everybody that shows nodes, and brings the controls of every bar up to date.
function filterChanged() {
  const list = chosenNodes();
  for (const bar of filterBars) bar.show(list);
  for (const listener of filterListeners) listener(list);
}

// The names in a column with how many nodes have each.
function names(column) {
  const counts = new Map();
  for (const place of column) if (place >= 0) counts.set(place, (counts.get(place) || 0) + 1);
  return [...counts].map(([place, all]) => [texts[place], all]).sort(([a], [b]) => (a < b ? -1 : 1));
}

function choice(key, label, options) {
  const select = make("select", {
    "aria-label": label, name: key,
    onchange: (event) => {
      filter[key] = event.target.value;
      filterChanged();
    },
  }, options.map(([value, text]) => make("option", { value }, text)));
  return select;
}

// A bar of controls; every bar shows the same choice.
function filterBar() {
  const withCounts = (column, all) =>
    [["", all], ...names(column).map(([name, number]) => [name, `${name} (${count(number)})`])];
  const states = STATES.filter((state) => finalStates.includes(state)).reverse();
  const search = make("input", {
    type: "search", name: "text", placeholder: "Search (press /)", "aria-label": "Search nodes",
    autocomplete: "off", spellcheck: "false",
    oninput: (event) => {
      filter.text = event.target.value;
      filterChanged();
    },
  });
  const pools = names(nodes.pool);
  const controls = [
    search,
    choice("provider", "Provider", withCounts(nodes.provider, "All providers")),
    choice("zone", "Zone", withCounts(nodes.zone, "All zones")),
    pools.length > 0 && choice("pool", "Pool", withCounts(nodes.pool, "All pools")),
    choice("state", "State at the end", [["", "Any state"],
      ...states.map((state) => [state, `${state} at the end`])]),
    choice("failures", "Failures", [["", "Any failures"],
      ...Object.entries(FAILURE_CHOICES).map(([key, [text]]) => [key, text])]),
    choice("order", "Order", Object.entries(ORDERS).map(([key, [text]]) => [key, text])),
  ].filter(Boolean);
  const found = make("output", { class: "found" });
  const clear = make("button", {
    type: "button",
    onclick: () => {
      Object.assign(filter, { text: "", provider: "", zone: "", pool: "", state: "", failures: "" });
      filterChanged();
      search.focus();
    },
  }, "Clear");
  const bar = make("div", { class: "filters", role: "search" }, controls, clear, found);
  filterBars.push({
    show: (list) => {
      for (const control of controls) {
        if (control !== document.activeElement || control.value !== filter[control.name]) {
          control.value = filter[control.name];
        }
      }
      found.textContent = list.length === NODES
        ? counted(NODES, "node") : `${count(list.length)} of ${counted(NODES, "node")}`;
    },
  });
  return bar;
}

// A list of rows of one height, of which only those in sight exist.
function virtualList(rowHeight, label, makeRow) {
  const rows = make("div", { class: "rows" });
  const scroller = make("div", { class: "lanes", tabindex: "0", role: "list", "aria-label": label }, rows);
  let list = [];
  let drawnFrom = -1;
  let drawnTo = -1;
  const refresh = (always) => {
    const height = scroller.clientHeight;
    if (height === 0) return;
    // A few more than are in sight, so that scrolling shows no gaps.
    const from = Math.max(0, Math.floor(scroller.scrollTop / rowHeight) - 4);
    const to = Math.min(list.length, Math.ceil((scroller.scrollTop + height) / rowHeight) + 4);
    if (!always && from === drawnFrom && to === drawnTo) return;
    drawnFrom = from;
    drawnTo = to;
    // The focus is not lost when its row is made anew.
    const focused = rows.contains(document.activeElement) ? document.activeElement.dataset.node : null;
    rows.replaceChildren(...list.slice(from, to).map((node, i) => {
      const row = makeRow(node);
      row.style.top = `${(from + i) * rowHeight}px`;
      row.setAttribute("aria-posinset", from + i + 1);
      row.setAttribute("aria-setsize", list.length);
      return row;
    }));
    if (focused !== null) {
      const again = [...rows.querySelectorAll("[data-node]")].find((e) => e.dataset.node === focused);
      if (again) again.focus({ preventScroll: true });
    }
  };
  scroller.addEventListener("scroll", () => refresh(false), { passive: true });
  new ResizeObserver(() => requestAnimationFrame(() => refresh(true))).observe(scroller);
  return {
    element: scroller,
    refresh: () => refresh(true),
    show: (next) => {
      list = next;
      rows.style.height = `${list.length * rowHeight}px`;
      scroller.scrollTop = 0;
      refresh(true);
    },
  };
}
