// Charts over the time of the run, in SVG, drawn anew when their width changes.

// Steps that people count in.
const TIME_STEPS = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
  172800, 604800,
].map((seconds) => seconds * SECOND);

// Marks of a time axis between two moments, at most so many.
function timeMarks(from, until, most) {
  const step = TIME_STEPS.find((step) => (until - from) / step <= most)
    || Math.ceil((until - from) / most / DAY) * DAY;
  const marks = [];
  for (let at = Math.ceil(from / step) * step; at <= until; at += step) marks.push(at);
  return marks;
}

// A mark of a time axis in as few characters as it needs.
function timeMark(at) {
  if (at === 0) return "0";
  const day = Math.floor(at / DAY);
  const rest = at % DAY;
  if (day > 0 && rest === 0) return `${day}d`;
  const start = day > 0 ? `${day}d ` : "";
  const hours = Math.floor(rest / HOUR);
  const minutes = Math.floor((rest % HOUR) / MINUTE);
  const seconds = (rest % MINUTE) / SECOND;
  const parts = [];
  if (hours) parts.push(`${hours}h`);
  if (minutes) parts.push(`${minutes}m`);
  if (seconds) parts.push(`${decimal(seconds, 1)}s`);
  return start + parts.join("");
}

// Round figures from 0 to at least the largest, about so many. Of things that are counted there
// are no halves.
function valueMarks(largest, about, counts) {
  if (!(largest > 0)) return [0, 1];
  const rough = Math.max(largest / about, counts ? 1 : 0);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999);
  const marks = [];
  for (let mark = 0; mark < largest + step * 0.999; mark += step) marks.push(mark);
  return marks;
}

// A large number in few characters.
function short(number) {
  const [size, letter] = number >= 1e9 ? [1e9, "G"] : number >= 1e6 ? [1e6, "M"]
    : number >= 1e4 ? [1e3, "k"] : [1, ""];
  return decimal(number / size, 2) + letter;
}

// The path of values that each hold until the next.
function stepPath(x, y, values, backwards) {
  const parts = [];
  const last = values.length - 1;
  if (backwards) {
    for (let i = last; i >= 0; i--) {
      const right = x(samples.at[Math.min(i + 1, last)]);
      parts.push(`L${right} ${y(values[i])}L${x(samples.at[i])} ${y(values[i])}`);
    }
  } else {
    values.forEach((value, i) => {
      const right = x(samples.at[Math.min(i + 1, last)]);
      parts.push(`${i ? "L" : "M"}${x(samples.at[i])} ${y(value)}L${right} ${y(value)}`);
    });
  }
  return parts.join("");
}

const MARGIN = { left: 46, right: 10, top: 8, bottom: 22 };

// Calls back with the width of an element, now and whenever it changes.
const widths = new ResizeObserver((entries) => {
  // What is drawn changes sizes, which must not happen while sizes are told.
  requestAnimationFrame(() => {
    for (const { contentRect, target } of entries) {
      const width = Math.floor(contentRect.width);
      if (width > 0 && width !== target.drawnWidth) {
        target.drawnWidth = width;
        target.redraw(width);
      }
    }
  });
});

function drawnByWidth(element, redraw) {
  element.redraw = redraw;
  widths.observe(element);
  return element;
}

// Bands behind a chart: outages, and times when something was open.
function bands(list, x, height) {
  return list.map(({ from, until, label, kind }) =>
    draw("rect", {
      class: `band ${kind}`, x: x(from), y: MARGIN.top,
      width: Math.max(1, x(until < 0 ? data.ended : until) - x(from)), height,
    }, draw("title", null, label)));
}

// The frame of a chart: lines across with their figures, and the time below.
function frame(width, height, x, y, marks, format) {
  const bottom = height - MARGIN.bottom;
  const right = width - MARGIN.right;
  return draw("g", { class: "frame", "aria-hidden": "true" },
    marks.map((mark) => [
      draw("line", { x1: MARGIN.left, x2: right, y1: y(mark), y2: y(mark) }),
      draw("text", { x: MARGIN.left - 6, y: y(mark) + 4, "text-anchor": "end" }, format(mark)),
    ]),
    timeMarks(0, data.ended, Math.max(2, Math.floor(width / 80))).map((at) =>
      draw("text", { x: x(at), y: bottom + 16, "text-anchor": x(at) > right - 12 ? "end" : "middle" },
        timeMark(at))));
}

const timeScale = (width) => {
  const room = width - MARGIN.left - MARGIN.right;
  return (at) => Math.round((MARGIN.left + (at / Math.max(1, data.ended)) * room) * 10) / 10;
};

// A chart of the samples. Each series has a name, a kind for its colour, values and a shape:
// `area` (stacked upon the one before), `line` or `dashed`.
function timeChart({ title, about, series, behind = [], format = short, tall = 190, tell = count }) {
  const legend = make("ul", { class: "legend" }, series.map(({ name, kind, shape }) =>
    make("li", null, make("i", { class: `key ${kind} ${shape}`, "aria-hidden": "true" }), name)));
  const reading = make("p", { class: "reading" });
  const canvas = make("div", { class: "canvas" });
  const figure = make("figure", { class: "chart" },
    make("figcaption", null, make("strong", null, title), about && make("span", null, about)),
    legend, canvas, reading);
  if (samples.at.length === 0) {
    canvas.append(make("p", { class: "empty" }, "The run was too short to be counted."));
    return figure;
  }

  const total = (i) => series.reduce((sum, { shape, values }) =>
    shape === "area" ? sum + values[i] : sum, 0);
  const largest = samples.at.reduce((most, _, i) =>
    Math.max(most, total(i), ...series.map(({ values }) => values[i])), 0);
  let chosen = -1;

  const tellAt = (i) => {
    chosen = i;
    const parts = series.map(({ name, values }) => `${name} ${tell(values[i])}`);
    reading.textContent = `At ${clock(samples.at[i])}: ${parts.join(" · ")}`;
  };
  // Where nothing is pointed at, the end of the run is read.
  const atEnd = () => {
    tellAt(samples.at.length - 1);
    chosen = -1;
  };
  atEnd();

  drawnByWidth(canvas, (width) => {
    const x = timeScale(width);
    const bottom = tall - MARGIN.bottom;
    const marks = valueMarks(largest, 4, format === short);
    const top = marks[marks.length - 1];
    const y = (value) =>
      Math.round((bottom - (value / top) * (bottom - MARGIN.top)) * 10) / 10;
    const shapes = [];
    let below = samples.at.map(() => 0);
    for (const { kind, shape, values } of series) {
      if (shape === "area") {
        const above = values.map((value, i) => below[i] + value);
        shapes.push(draw("path", {
          class: `area ${kind}`,
          d: stepPath(x, y, above) + stepPath(x, y, below, true) + "Z",
        }));
        below = above;
      } else {
        shapes.push(draw("path", { class: `line ${kind} ${shape}`, d: stepPath(x, y, values) }));
      }
    }
    const cursor = draw("line", { class: "cursor", y1: MARGIN.top, y2: bottom, visibility: "hidden" });
    const point = (i) => {
      tellAt(Math.max(0, Math.min(samples.at.length - 1, i)));
      const at = x(samples.at[chosen]);
      cursor.setAttribute("x1", at);
      cursor.setAttribute("x2", at);
      cursor.setAttribute("visibility", "visible");
    };
    const away = () => {
      atEnd();
      cursor.setAttribute("visibility", "hidden");
    };
    const image = draw("svg", {
      width, height: tall, viewBox: `0 0 ${width} ${tall}`, tabindex: "0", role: "img",
      "aria-label": `${title}. Press the left and right arrow keys to read the figures.`,
      onpointermove: (event) => {
        const left = image.getBoundingClientRect().left;
        const room = width - MARGIN.left - MARGIN.right;
        point(sampleAt(((event.clientX - left - MARGIN.left) / room) * data.ended));
      },
      onpointerleave: away,
      onblur: away,
      onkeydown: (event) => {
        const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[event.key];
        if (by === undefined) return;
        event.preventDefault();
        point(chosen < 0 ? 0 : chosen + by);
      },
    },
    bands(behind, x, bottom - MARGIN.top),
    shapes,
    frame(width, tall, x, y, marks, format),
    cursor);
    canvas.replaceChildren(image);
  });
  return figure;
}

// The sample that holds at a moment.
function sampleAt(at) {
  let low = 0;
  let high = samples.at.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (samples.at[middle] <= at) low = middle;
    else high = middle - 1;
  }
  return low;
}

// Rows of stretches of time, such as what held actions back. Stretches that touch on the screen
// are drawn as one.
function spanChart({ title, about, rows }) {
  const canvas = make("div", { class: "canvas" });
  const height = MARGIN.top + rows.length * 26 + MARGIN.bottom;
  drawnByWidth(canvas, (width) => {
    const x = timeScale(width);
    const bars = rows.map(({ name, kind, spans }, row) => {
      const y = MARGIN.top + row * 26;
      const drawn = [];
      for (const { from, until, label } of spans) {
        const left = x(from);
        const right = Math.max(left + 2, x(until < 0 ? data.ended : until));
        const last = drawn[drawn.length - 1];
        if (last && left <= last.right + 0.5) {
          last.right = Math.max(last.right, right);
          last.times += 1;
        } else {
          drawn.push({ left, right, label, times: 1 });
        }
      }
      return draw("g", null,
        drawn.map(({ left, right, label, times }) =>
          draw("rect", { class: `span ${kind}`, x: left, y: y + 13, width: right - left, height: 10 },
            draw("title", null, times > 1 ? `${label} (and ${times - 1} more)` : label))),
        draw("text", { class: "row", x: MARGIN.left, y: y + 10 }, name));
    });
    const marks = frame(width, height, x, () => 0, [], String);
    canvas.replaceChildren(draw("svg", {
      width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title,
    }, bars, marks));
  });
  return make("figure", { class: "chart" },
    make("figcaption", null, make("strong", null, title), about && make("span", null, about)), canvas);
}
