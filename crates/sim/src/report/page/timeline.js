// The second part: the life of every node in a lane, over a time that can be zoomed.

const LANE = 24;

// The stretch of time in sight.
const view = { from: 0, until: Math.max(1, data.ended) };
const viewListeners = [];

// The shortest stretch that can be shown.
const SHORTEST_VIEW = Math.min(5 * SECOND, Math.max(1, data.ended));

function setView(from, until) {
  const length = Math.min(data.ended, Math.max(SHORTEST_VIEW, until - from));
  const start = Math.max(0, Math.min(data.ended - length, from));
  view.from = start;
  view.until = start + length;
  for (const listener of viewListeners) listener();
}

// Makes the time in sight shorter or longer around a moment.
function zoom(factor, around = (view.from + view.until) / 2) {
  setView(around - (around - view.from) * factor, around + (view.until - around) * factor);
}

function pan(share) {
  const by = (view.until - view.from) * share;
  setView(view.from + by, view.until + by);
}

// How much of a lane a state fills: what is worse stands taller, so that no colour is needed.
const TALL = {
  gone: 2, healthy: 6, unknown: 10, starting: 8, cordoned: 12, draining: 12, degraded: 14, unhealthy: 18,
};

// One node's lane between two moments.
function lane(node, width, from, until) {
  const scale = width / (until - from);
  const x = (at) => Math.round((at - from) * scale * 10) / 10;
  const list = eventsOf(node);
  const shapes = data.outages
    .map(([, start, end]) => [Math.max(0, x(start)), Math.min(width, x(end < 0 ? data.ended : end))])
    .filter(([left, right]) => right > left)
    .map(([left, right]) =>
      draw("rect", { class: "band outage", x: left, y: 0, width: right - left, height: LANE }));
  // Stretches that are narrower than a pixel are drawn as one, in the colour of the worst.
  let pending = null;
  const flush = () => {
    if (!pending) return;
    const tall = TALL[pending.state];
    shapes.push(draw("rect", {
      class: `state ${pending.state}`, x: pending.left, y: (LANE - tall) / 2,
      width: Math.max(1, pending.right - pending.left), height: tall,
    }));
    pending = null;
  };
  for (const stretch of stretchesOf(node, list)) {
    if (stretch.until < from || stretch.from > until) continue;
    const left = Math.max(0, x(stretch.from));
    const right = Math.min(width, x(stretch.until));
    if (pending && right - pending.left < 1.5) {
      pending.right = right;
      if (WORST[stretch.state] > WORST[pending.state]) pending.state = stretch.state;
      continue;
    }
    flush();
    pending = { left, right, state: stretch.state };
  }
  flush();
  let lastMark = -10;
  for (const event of list) {
    const fails = event.kind === EVENT.failure;
    if ((!fails && event.kind !== EVENT.recovery) || event.at < from || event.at > until) continue;
    const at = x(event.at);
    // Marks upon each other tell nothing.
    if (at - lastMark < 1) continue;
    lastMark = at;
    shapes.push(fails
      ? draw("path", { class: "mark failure", d: `M${at - 4} 1H${at + 4}L${at} 9Z` })
      : draw("circle", { class: "mark recovery", cx: at, cy: LANE - 4, r: 2.5 }));
  }
  return draw("svg", {
    class: "lane", width, height: LANE, viewBox: `0 0 ${width} ${LANE}`, "aria-hidden": "true",
  }, shapes);
}

const laneLegend = () => make("ul", { class: "legend" },
  [...STATES].reverse().map((state) =>
    make("li", null, make("i", { class: `key area ${state}`, "aria-hidden": "true" }), STATE_WORDS[state])),
  make("li", null, make("i", { class: "key failure-key", "aria-hidden": "true" }), "failure"),
  make("li", null, make("i", { class: "key recovery-key", "aria-hidden": "true" }), "its end"),
  data.outages.length > 0
    && make("li", null, make("i", { class: "key outage-key", "aria-hidden": "true" }), "an outage somewhere"));

// The small chart of the whole run, on which the time in sight is chosen.
function overview() {
  const tall = 64;
  const canvas = make("div", { class: "canvas overview" });
  let width = 0;
  const redraw = () => {
    if (width === 0) return;
    const x = (at) => Math.round((at / Math.max(1, data.ended)) * width * 10) / 10;
    const bad = samples.at.map((_, i) => samples.unhealthy[i] + samples.degraded[i]);
    const largest = bad.reduce((most, value) => Math.max(most, value), 1);
    const y = (value) => tall - 14 - (value / largest) * (tall - 18);
    const last = samples.at.length > 0 ? x(samples.at[samples.at.length - 1]) : 0;
    const time = (event) => {
      const left = canvas.getBoundingClientRect().left;
      return Math.max(0, Math.min(1, (event.clientX - left) / width)) * data.ended;
    };
    let start = null;
    const image = draw("svg", {
      width, height: tall, viewBox: `0 0 ${width} ${tall}`, role: "img",
      "aria-label": "Nodes that are unhealthy or degraded over the whole run. Drag to choose a time.",
      onpointerdown: (event) => {
        start = time(event);
        image.setPointerCapture(event.pointerId);
      },
      onpointermove: (event) => {
        if (start === null) return;
        const now = time(event);
        chosen.setAttribute("x", x(Math.min(start, now)));
        chosen.setAttribute("width", Math.max(1, x(Math.abs(now - start))));
      },
      onpointerup: (event) => {
        const now = time(event);
        const [from, until] = [Math.min(start, now), Math.max(start, now)];
        start = null;
        // A click moves what is in sight, a drag chooses it.
        const half = (view.until - view.from) / 2;
        if (x(until - from) < 4) setView(now - half, now + half);
        else setView(from, until);
      },
    },
    data.outages.map(([name, from, until, hit]) =>
      draw("rect", { class: "band outage", x: x(from), y: 0, height: tall - 14,
        width: Math.max(1, x(until < 0 ? data.ended : until) - x(from)) },
      draw("title", null, `Outage ${name}: ${counted(hit, "node")}`))),
    samples.at.length > 0 && draw("path", {
      class: "area unhealthy",
      d: `${stepPath(x, y, bad)}L${last} ${tall - 14}L0 ${tall - 14}Z`,
    }),
    timeMarks(0, data.ended, Math.max(2, Math.floor(width / 80))).map((at) =>
      draw("text", { class: "row", x: x(at), y: tall - 2,
        "text-anchor": at === 0 ? "start" : x(at) > width - 20 ? "end" : "middle" }, timeMark(at))));
    const chosen = draw("rect", {
      class: "chosen", x: x(view.from), y: 0.5, height: tall - 15,
      width: Math.max(2, x(view.until) - x(view.from)),
    });
    image.append(chosen);
    canvas.replaceChildren(image);
  };
  viewListeners.push(redraw);
  return drawnByWidth(canvas, (now) => {
    width = now;
    redraw();
  });
}

// The time above the lanes; tells how wide they are.
function laneAxis(tellWidth) {
  const axis = make("div", { class: "axis" });
  let width = 0;
  const redraw = () => {
    if (width === 0) return;
    const x = (at) => ((at - view.from) / (view.until - view.from)) * width;
    axis.replaceChildren(draw("svg", { width, height: 20, viewBox: `0 0 ${width} 20`, "aria-hidden": "true" },
      timeMarks(view.from, view.until, Math.max(2, Math.floor(width / 80))).map((at) => [
        draw("line", { class: "tick", x1: x(at), x2: x(at), y1: 14, y2: 20 }),
        draw("text", { class: "row", x: x(at), y: 12,
          "text-anchor": x(at) < 16 ? "start" : x(at) > width - 20 ? "end" : "middle" }, timeMark(at)),
      ])));
  };
  viewListeners.push(redraw);
  return drawnByWidth(axis, (now) => {
    width = now;
    tellWidth(now);
    redraw();
  });
}

function timeline() {
  let width = 0;
  const list = virtualList(LANE, "Lanes of the nodes", (node) =>
    make("div", { class: "row", role: "listitem" },
      make("button", {
        type: "button", class: "name", title: nodes.id[node], "data-node": node,
        onclick: () => showNode(node),
      }, nodes.id[node]),
      lane(node, width, view.from, view.until)));
  const reading = make("span", { class: "reading" });
  const range = make("output", { class: "range" });
  const readRange = () => {
    range.textContent = `${clock(view.from)} to ${clock(view.until)} (${span(view.until - view.from)})`;
  };
  readRange();
  const button = (text, label, act) =>
    make("button", { type: "button", title: label, "aria-label": label, onclick: act }, text);
  const axis = laneAxis((now) => {
    width = now;
    list.refresh();
  });
  const scroller = list.element;
  const nameWidth = () => {
    const name = scroller.querySelector(".name");
    return name ? name.offsetWidth : 0;
  };
  // The moment under the pointer; none left of the lanes.
  const timeAt = (event) => {
    const left = scroller.getBoundingClientRect().left + nameWidth();
    const share = (event.clientX - left) / width;
    return share < 0 || share > 1 ? null : view.from + share * (view.until - view.from);
  };
  let drag = null;
  scroller.addEventListener("pointerdown", (event) => {
    if (timeAt(event) === null || event.pointerType === "touch") return;
    drag = { x: event.clientX, from: view.from, until: view.until };
    scroller.setPointerCapture(event.pointerId);
  });
  scroller.addEventListener("pointermove", (event) => {
    if (drag) {
      const by = ((event.clientX - drag.x) / width) * (drag.until - drag.from);
      setView(drag.from - by, drag.until - by);
    }
    const at = timeAt(event);
    reading.textContent = at === null ? "" : clock(at, view.until - view.from < 2 * MINUTE);
  });
  const drop = () => {
    drag = null;
  };
  scroller.addEventListener("pointerup", drop);
  scroller.addEventListener("pointercancel", drop);
  scroller.addEventListener("wheel", (event) => {
    const at = timeAt(event);
    if (at === null) return;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      zoom(event.deltaY > 0 ? 1.25 : 0.8, at);
    } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      pan(event.deltaX / width);
    }
  }, { passive: false });
  scroller.addEventListener("keydown", (event) => {
    const act = {
      ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), "+": () => zoom(0.5), "=": () => zoom(0.5),
      "-": () => zoom(2), 0: () => setView(0, data.ended),
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  viewListeners.push(readRange, () => list.refresh());
  filterListeners.push((found) => list.show(found));
  return make("div", { class: "panel fixed" },
    filterBar(),
    make("div", { class: "toolbar" },
      button("−", "Show more time (key -)", () => zoom(2)),
      button("+", "Show less time (key +)", () => zoom(0.5)),
      button("◀", "Earlier (left arrow key)", () => pan(-0.5)),
      button("▶", "Later (right arrow key)", () => pan(0.5)),
      button("All", "Show the whole run (key 0)", () => setView(0, data.ended)),
      range, reading),
    laneLegend(),
    overview(),
    make("div", { class: "axis-row" }, make("span", { class: "name" }, "Node"), axis),
    scroller,
    make("p", { class: "remark" },
      "Choose a name to see what happened to the node. Drag to move, hold Ctrl and scroll to zoom."));
}
