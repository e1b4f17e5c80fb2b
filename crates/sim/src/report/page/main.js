// The frame: the heading, the four parts, the keys and the address.

const PARTS = [
  ["results", "Results", results],
  ["timeline", "Timeline", timeline],
  ["nodes", "Nodes", nodeList],
  ["configuration", "Configuration", configuration],
];

const tabs = new Map();

// Shows a part, made when it is first shown.
function showPart(name) {
  for (const [key, { tab, panel, build }] of tabs) {
    const chosen = key === name;
    tab.setAttribute("aria-selected", chosen ? "true" : "false");
    tab.tabIndex = chosen ? 0 : -1;
    panel.hidden = !chosen;
    if (chosen && panel.childElementCount === 0) {
      fill(panel, null, [build()]);
      filterChanged();
    }
  }
  const address = name === "nodes" && nodeShown >= 0
    ? `nodes/${encodeURIComponent(nodes.id[nodeShown])}` : name;
  history.replaceState(null, "", `#${address}`);
}

// Shows what the address says.
function followAddress() {
  const [part, id] = location.hash.slice(1).split("/");
  const node = id ? nodes.id.indexOf(decodeURIComponent(id)) : -1;
  if (part === "nodes" && node >= 0) showNode(node);
  else showPart(tabs.has(part) ? part : "results");
}

function start() {
  document.title = plain(`${data.name}: ${data.result} (Navarch simulation)`);
  document.getElementById("name").textContent = plain(data.name) || "Navarch simulation";
  const outcome = document.getElementById("outcome");
  outcome.textContent = data.result;
  outcome.classList.add({ passed: "good", failed: "bad" }[data.result] || "warn");
  const about = [
    data.description, `Simulated ${span(data.ended)}`, `seed ${data.seed}`, counted(NODES, "node"),
  ];
  document.getElementById("about").textContent = plain(about.filter(Boolean).join(" · "));

  const bar = document.getElementById("tabs");
  const main = document.getElementById("main");
  PARTS.forEach(([name, title, build], place) => {
    const tab = make("button", {
      type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `part-${name}`,
      onclick: () => showPart(name),
    }, title, make("kbd", { "aria-hidden": "true" }, String(place + 1)));
    const panel = make("div", {
      role: "tabpanel", id: `part-${name}`, "aria-labelledby": `tab-${name}`, hidden: true,
    });
    tabs.set(name, { tab, panel, build });
    bar.append(tab);
    main.append(panel);
  });
  bar.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by === undefined) return;
    const list = [...tabs.keys()];
    const now = list.findIndex((name) => tabs.get(name).tab === document.activeElement);
    const next = list[(now + by + list.length) % list.length];
    showPart(next);
    tabs.get(next).tab.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const part = PARTS[Number(event.key) - 1];
    if (part) showPart(part[0]);
    const search = document.querySelector("[role=tabpanel]:not([hidden]) input[type=search]");
    if (event.key === "/" && search) {
      event.preventDefault();
      search.focus();
    }
  });
  addEventListener("hashchange", followAddress);
  followAddress();
}

start();
