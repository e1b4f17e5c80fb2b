// Pools: their size, their budget of disruptions, their breakers and what held actions back.

// More pools than these are shown when somebody asks.
const POOLS_AT_FIRST = 6;

const GUARD_KINDS = { breaker: "unhealthy", budget: "degraded" };

// The stretches of time in which a pool had open breakers.
function openBreakers(pool) {
  const list = [];
  pool.breakers.forEach((open, i) => {
    const until = i + 1 < samples.at.length ? samples.at[i + 1] : data.ended;
    const last = list[list.length - 1];
    if (open > 0 && last && last.until === samples.at[i]) last.until = until;
    else if (open > 0) {
      list.push({ from: samples.at[i], until, kind: "breaker", label: "A breaker is open" });
    }
  });
  return list;
}

// What held actions back, by guard: rows for a chart and for a table.
function guardsOf(blocks) {
  const found = new Map();
  for (const [from, until, , guard, reason] of blocks) {
    if (!found.has(guard)) found.set(guard, { guard, spans: [], time: 0, longest: 0, reason });
    const row = found.get(guard);
    const end = until < 0 ? data.ended : until;
    row.spans.push({ from, until, label: `${clock(from)} to ${until < 0 ? "the end" : clock(until)}: ${reason}` });
    row.time += end - from;
    if (end - from >= row.longest) {
      row.longest = end - from;
      row.reason = reason;
    }
  }
  return [...found.values()].sort((a, b) => b.time - a.time || (a.guard < b.guard ? -1 : 1));
}

function guardPanel(title, blocks) {
  const guards = guardsOf(blocks);
  if (guards.length === 0) return null;
  return [
    spanChart({
      title, about: "Each bar is a time in which a guard held actions back.",
      rows: guards.map(({ guard, spans }) =>
        ({ name: guard, kind: GUARD_KINDS[guard] || "starting", spans })),
    }),
    table(["Guard", "Times", "Together", "Longest", "Reason of the longest"],
      guards.map(({ guard, spans, time, longest, reason }) =>
        [guard, spans.length, span(time), span(longest), reason])),
  ];
}

function poolPanel(pool) {
  const breakers = openBreakers(pool);
  const series = (name, kind, shape, values) => ({ name, kind, shape, values });
  const blocks = data.blocks.filter(([, , name]) => name === pool.name);
  return section(`Pool ${pool.name}`,
    make("div", { class: "grid" },
      timeChart({
        title: "Size", about: "Nodes.", tall: 150, behind: outageBands(),
        series: [
          series("active", "healthy", "area", pool.active),
          series("machines that cost money", "starting", "line", pool.machines),
          series("target", "ink", "dashed", pool.target),
          ...(pool.work.length ? [series("work, in machines", "draining", "line", pool.work)] : []),
        ],
      }),
      timeChart({
        title: "Disruptions and budget",
        about: breakers.length ? "Shaded while a breaker is open." : "No breaker opened.",
        tall: 150, behind: breakers,
        series: [
          series("disrupted", "degraded", "area", pool.disrupted),
          series("budget", "ink", "dashed", pool.budget),
          series("open breakers", "unhealthy", "line", pool.breakers),
        ],
      })),
    guardPanel("What held actions back", blocks));
}

function pools() {
  const known = new Set(data.pools.map(({ name }) => name));
  const fleet = data.blocks.filter(([, , name]) => !known.has(name));
  const place = make("div", null, data.pools.slice(0, POOLS_AT_FIRST).map(poolPanel));
  const more = data.pools.slice(POOLS_AT_FIRST);
  const button = more.length > 0 && make("button", {
    type: "button",
    onclick: (event) => {
      place.append(...more.map(poolPanel));
      event.target.remove();
    },
  }, `Show ${counted(more.length, "more pool")}`);
  return [
    place,
    button,
    fleet.length > 0 && section("The fleet", guardPanel("What held actions back", fleet)),
  ];
}
