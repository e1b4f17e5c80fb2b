// Uses the page as a person does. Returns what does not work, and what is seen.
async (searches) => {
  const wrong = [];
  const facts = {};
  const check = (what, holds, detail = "") => {
    if (!holds) wrong.push(`${what}${detail === "" ? "" : `: ${detail}`}`);
  };
  // Two frames later, observers of sizes and of scrolling were called and their drawing is done.
  const settle = () => new Promise((done) =>
    requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))));
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const press = async (key, target = document.body) => {
    target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    await settle();
  };
  const click = async (element) => {
    element.click();
    await settle();
  };
  const choose = async (element, value) => {
    element.value = value;
    element.dispatchEvent(new Event(element.matches("select") ? "change" : "input", { bubbles: true }));
    await settle();
  };
  const shown = () => all("[role=tabpanel]").filter((panel) => !panel.hidden).map((panel) => panel.id).join();
  const text = (element) => (element ? element.textContent : "");

  // What people can read must stand out from what is behind it: 4.5 to 1, as WCAG asks.
  const numbers = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const linear = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const contrast = (where) => {
    const weak = new Set();
    for (const element of all("body *")) {
      const own = [...element.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
      if (!own || element.closest("script, style, noscript, title, option") || element.getClientRects().length === 0) continue;
      const style = getComputedStyle(element);
      const colour = numbers(element.closest("svg") ? style.fill : style.color);
      const [a, b] = [light(colour), light(behind(element))].sort((x, y) => y - x);
      if ((a + 0.05) / (b + 0.05) < 4.5) weak.add(`${element.tagName}.${element.className.baseVal ?? element.className} ${element.textContent.slice(0, 20)}`);
    }
    check(`contrast of ${where}`, weak.size === 0, [...weak].slice(0, 5).join("; "));
  };
  const fits = (where) => {
    const wide = document.documentElement.scrollWidth;
    check(`${where} is no wider than the window`, wide <= innerWidth, `${wide} of ${innerWidth}`);
  };
  const named = (where) => {
    for (const element of all("[role=tabpanel]:not([hidden]) :is(button, select, input, a, svg[tabindex])")) {
      const name = element.getAttribute("aria-label") || element.textContent.trim();
      check(`a control of ${where} has a name`, name, element.outerHTML.slice(0, 80));
    }
  };
  const inspect = (where) => {
    contrast(where);
    fits(where);
    named(where);
  };

  try {
    await settle();

    // Results.
    const results = one("#part-results");
    check("results come first", shown() === "part-results", shown());
    facts.outcome = text(one("#outcome"));
    facts.cards = Object.fromEntries(all(".card", results).map((card) => [text(one(".what", card)), text(one("strong", card))]));
    facts.verdict = all(".verdict li", results).map(text);
    facts.charts = all("figure", results).map((figure) => text(one("strong", figure)));
    for (const figure of all("figure", results)) {
      const shapes = all("path.area, path.line, rect.span", figure);
      const series = Math.max(1, all(".legend li", figure).length);
      check("a chart has a shape for each series", shapes.length >= series, text(figure));
      check("a shape can be seen", shapes.some((s) => s.getBBox().width > 0), text(figure));
      check("a shape has numbers", shapes.every((s) => !/NaN|undefined|Infinity/.test(s.outerHTML)), text(figure));
    }
    facts.tables = Object.fromEntries(all("section", results).map((part) =>
      [text(one("h2", part)), all("tbody tr", part).map((row) => all("td", row).map(text))]));
    const chart = one("figure svg[tabindex]", results);
    const reading = one("figure .reading", results);
    check("a chart reads its end", text(reading).startsWith("At "), text(reading));
    const before = text(reading);
    await press("ArrowRight", chart);
    check("an arrow key reads another moment", text(reading) !== before, before);
    chart.dispatchEvent(new PointerEvent("pointermove", { clientX: chart.getBoundingClientRect().left + 200 }));
    check("the pointer reads a moment", text(reading).startsWith("At ") && text(reading) !== before, text(reading));
    inspect("results");

    // Keys and the arrow keys of the tabs.
    for (const [key, part] of [["2", "timeline"], ["3", "nodes"], ["4", "configuration"], ["1", "results"]]) {
      await press(key);
      check(`key ${key}`, shown() === `part-${part}` && location.hash === `#${part}`, `${shown()} ${location.hash}`);
    }
    one("#tab-results").focus();
    await press("ArrowRight", one("#tab-results"));
    check("an arrow key moves between tabs", shown() === "part-timeline" && document.activeElement.id === "tab-timeline");

    // The timeline: only lanes in sight exist, and scrolling brings the others.
    const timeline = one("#part-timeline");
    const lanes = one(".lanes", timeline);
    const rows = () => all(".row", lanes);
    const found = () => text(one(".found", timeline));
    facts.found = found();
    facts.rows = rows().length;
    facts.firstLane = text(one(".name", lanes));
    check("lanes have states", all("rect.state", lanes).length > 0);
    inspect("the timeline");
    lanes.scrollTop = lanes.scrollHeight;
    await settle();
    const names = all(".name", lanes).map(text);
    facts.lastLane = names[names.length - 1];
    check("few lanes exist after scrolling", rows().length < 120, rows().length);

    const range = one(".range", timeline);
    const whole = text(range);
    await click(one("button[aria-label^='Show less']", timeline));
    check("zooming in", text(range) !== whole, whole);
    const zoomed = text(range);
    await click(one("button[aria-label^='Later']", timeline));
    check("moving", text(range) !== zoomed, zoomed);
    await press("0", lanes);
    await press("+", lanes);
    const half = text(range);
    check("key + zooms in", half !== whole, half);
    await press("ArrowLeft", lanes);
    check("an arrow key moves", text(range) !== half, half);
    await press("-", lanes);
    await press("0", lanes);
    check("key 0 shows the whole run", text(range) === whole, text(range));
    const lane = one(".lane", lanes).getBoundingClientRect();
    lanes.dispatchEvent(new WheelEvent("wheel", { deltaY: -100, ctrlKey: true, clientX: lane.left + lane.width / 2, clientY: lane.top, cancelable: true }));
    await settle();
    check("the wheel zooms", text(range) !== whole, text(range));
    await press("0", lanes);
    const over = one(".overview svg", timeline);
    const box = over.getBoundingClientRect();
    // A pointer that no device has cannot be captured.
    over.setPointerCapture = () => {};
    for (const [kind, share] of [["pointerdown", 0.25], ["pointermove", 0.4], ["pointerup", 0.5]]) {
      over.dispatchEvent(new PointerEvent(kind, { clientX: box.left + box.width * share, clientY: box.top + 10 }));
    }
    await settle();
    facts.chosenRange = text(range);
    await click(one("button[aria-label^='Show the whole']", timeline));

    // Search and filters; the list of nodes follows.
    const search = one("input[type=search]", timeline);
    await press("/");
    check("/ goes to the search", document.activeElement === search);
    facts.searches = {};
    for (const words of searches) {
      await choose(search, words);
      facts.searches[words] = [found(), text(one(".name", lanes))];
    }
    await choose(search, "no node has such a name");
    check("a search may find nothing", found().startsWith("0 of ") && rows().length === 0, found());
    await click(all(".filters button", timeline).find((b) => text(b) === "Clear"));
    check("clear shows all again", found() === facts.found && search.value === "", found());
    facts.choices = {};
    for (const select of all(".filters select", timeline)) {
      const options = all("option", select).slice(1).map((option) => option.value);
      for (const value of options) {
        await choose(select, value);
        facts.choices[`${select.name}=${value}`] = [found(), text(one(".name", lanes))];
      }
      await choose(select, select.name === "order" ? "name" : "");
    }
    await choose(one("select[name=failures]", timeline), "any");

    // From a lane to its node.
    facts.clicked = text(one(".name", lanes));
    await click(one(".name", lanes));
    check("a lane leads to its node", shown() === "part-nodes", shown());
    const nodesPart = one("#part-nodes");
    check("the list of nodes has the same filter", text(one(".found", nodesPart)) === found(), text(one(".found", nodesPart)));
    const detail = one(".detail", nodesPart);
    facts.detail = text(one("h2", detail));
    facts.log = one("a", detail).getAttribute("href");
    facts.facts = Object.fromEntries(all("dt", detail).map((dt) => [text(dt), text(dt.nextSibling)]));
    facts.events = all("tbody tr", detail).map((row) => all("td", row).map(text));
    check("the node has a lane", all("svg.lane rect.state", detail).length > 0);
    check("the address names the node", location.hash.startsWith("#nodes/"), location.hash);
    inspect("nodes");
    const second = all(".lanes .name", nodesPart)[1];
    if (second) {
      const id = text(one(".id", second));
      await click(second);
      check("another node can be chosen", text(one(".detail h2", nodesPart)).startsWith(id), id);
    }
    location.hash = `#nodes/${encodeURIComponent(facts.clicked)}`;
    await settle();
    check("the address chooses a node", text(one(".detail h2", nodesPart)).startsWith(facts.clicked), location.hash);

    // Configuration.
    await press("4");
    facts.texts = all("#part-configuration pre").map(text);
    inspect("the configuration");

    check("nothing was fetched", performance.getEntriesByType("resource").length === 0,
      performance.getEntriesByType("resource").map((entry) => entry.name).join());
    const steering = document.body.innerText.match(/[\u0000-\u0008\u001b\u007f\u202e\u2066]/);
    check("no character steers", steering === null, escape(steering));
    facts.title = document.title;
    facts.foreign = all("body img, body iframe, body object, body embed, body link").length;
    facts.scripts = document.scripts.length;
    facts.background = getComputedStyle(document.body).backgroundColor;
  } catch (error) {
    wrong.push(`the check itself: ${error.stack}`);
  }
  return { wrong, facts };
}
