// Elements, and figures as people read them.

const SVG = "http://www.w3.org/2000/svg";

// Characters that steer a terminal or turn the direction of what follows, line feeds aside.
const STEERING = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

// A text in which such characters are written out, so that no name looks like another.
const plain = (text) =>
  String(text).replace(STEERING, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);

// Sets attributes and appends children. Children that are not elements become text and never
// markup: names and messages in the data may hold anything.
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : plain(child));
  }
  return element;
}

function make(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const two = (number) => String(number).padStart(2, "0");

// A moment of the run, as the clock of logs and report.json shows it: 0:12:30, 2d 03:04:05.
function clock(at, milliseconds) {
  const days = Math.floor(at / DAY);
  const hours = Math.floor((at % DAY) / HOUR);
  const minutes = Math.floor((at % HOUR) / MINUTE);
  const seconds = Math.floor((at % MINUTE) / SECOND);
  const rest = milliseconds ? "." + String(Math.floor(at % SECOND)).padStart(3, "0") : "";
  const start = days > 0 ? `${days}d ${two(hours)}` : `${hours}`;
  return `${start}:${two(minutes)}:${two(seconds)}${rest}`;
}

// A duration: 5.5s, 1m35s, 2h05m, 3d4h; a second part only where it is not zero.
function span(time) {
  if (time < MINUTE) return `${Math.round(time / 100) / 10}s`;
  const parts = (whole, unit, part, letter) =>
    `${whole}${unit}${part > 0 ? (letter === "h" ? part : two(part)) + letter : ""}`;
  const seconds = Math.round(time / SECOND);
  if (seconds < 3600) return parts(Math.floor(seconds / 60), "m", seconds % 60, "s");
  const minutes = Math.round(time / MINUTE);
  if (minutes < 1440) return parts(Math.floor(minutes / 60), "h", minutes % 60, "m");
  const hours = Math.round(time / HOUR);
  return parts(Math.floor(hours / 24), "d", hours % 24, "h");
}

const count = (number) => number.toLocaleString("en-US");

// A number with at most so many decimals.
const decimal = (number, digits) =>
  number.toLocaleString("en-US", { maximumFractionDigits: digits });

const dollars = (number) =>
  "$" + number.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

// A part of a whole. What is not all never reads as 100 %, and what is not none never as 0 %.
function percent(part, whole) {
  if (!(whole > 0)) return "–";
  const share = (part / whole) * 100;
  if (share > 99.9 && share < 100) return ">99.9\u00a0%";
  if (share > 0 && share < 0.1) return "<0.1\u00a0%";
  return `${decimal(share, 1)}\u00a0%`;
}

const counted = (number, thing) => `${count(number)} ${thing}${number === 1 ? "" : "s"}`;

// A table from rows of cells; numbers stand on the right.
function table(heading, rows, attributes) {
  const cell = (content) =>
    content instanceof Element && content.matches("td, th")
      ? content
      : make("td", { class: typeof content === "number" ? "number" : null },
          typeof content === "number" ? count(content) : content);
  return make("div", { class: "scroll", tabindex: "0", role: "region", ...attributes },
    make("table", null,
      make("thead", null, make("tr", null, heading.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", null, rows.map((row) => make("tr", null, row.map(cell))))));
}

// A section with its heading.
function section(title, ...content) {
  return make("section", { class: "panel" }, make("h2", null, title), content);
}
