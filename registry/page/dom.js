// Elements, made of text: what users and receivers wrote is never read as markup. The page's policy has the browser
// refuse it, too.

const SVG = "http://www.w3.org/2000/svg";

// An element. Attributes: `class`, `on` (listeners by event), `data` (a dataset), true and false for those without a
// value; null leaves one out. Children: elements, texts, lists of these; null and false are left out.
export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

// The same for drawings.
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const find = (selector, within = document) => within.querySelector(selector);
export const all = (selector, within = document) => [...within.querySelectorAll(selector)];

const SHAPES = {
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10Zm3.6-1.4L14 14",
  plus: "M8 3v10M3 8h10",
  back: "M10 3 5 8l5 5",
  copy: "M5.5 5.5v-2a1 1 0 0 1 1-1h6a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1h-2m-8-4a1 1 0 0 1 1-1h6a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1h-6a1 1 0 0 1-1-1Z",
  up: "M8 13V3M4 7l4-4 4 4",
  down: "M8 3v10M4 9l4 4 4-4",
};

// A small drawing beside a text; on its own it says nothing to a screen reader.
export function icon(name) {
  return svg("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, svg("path", { d: SHAPES[name] }));
}

export const number = (value) => value.toLocaleString("en");
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

// What a text is shown as when it is longer than there is room for.
export const short = (text, most = 80) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

// A time of the interfaces (RFC 3339) as people say it: how long ago, and exactly in the tooltip.
export function time(value) {
  const moment = new Date(value);
  if (!value || Number.isNaN(moment.getTime())) return h("span", { class: "dim" }, "never");
  const exact = value.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC");
  return h("time", { datetime: value, title: exact }, ago(moment));
}

const STEPS = [[60, "second", 1], [3600, "minute", 60], [86400, "hour", 3600], [86400 * 45, "day", 86400]];

function ago(moment) {
  const seconds = (moment - Date.now()) / 1000;
  if (Math.abs(seconds) < 5) return "just now";
  for (const [below, unit, length] of STEPS) {
    if (Math.abs(seconds) < below) return new Intl.RelativeTimeFormat("en").format(Math.round(seconds / length), unit);
  }
  return moment.toLocaleDateString("en", { year: "numeric", month: "short", day: "numeric", timeZone: "UTC" });
}

// How a forwarder stands, as a word with a mark.
const STATES = { failing: "Failing", ok: "Delivering", quiet: "Quiet", inactive: "Inactive", active: "Active" };
export const stateName = (state) => STATES[state] ?? state;
export function standing(state) {
  return h("span", { class: `state ${state}` }, h("span", { class: "mark", "aria-hidden": "true" }), stateName(state));
}

// A place beside a button that says what came of pressing it. `say(text, tone)`: a text, or several and elements; tone is "good", "bad" or empty.
export function answerPlace() {
  const place = h("span", { class: "answer", role: "status" });
  place.say = (text, tone = "") => {
    place.className = `answer ${tone}`;
    // What went wrong is read out at once.
    place.setAttribute("role", tone === "bad" ? "alert" : "status");
    place.replaceChildren(...[text].flat());
  };
  return place;
}

// A button that does something, and says beside itself what came of it. `run` gives a text to say, or nothing; what it
// throws is said, too. `place`: where to say it, if not right after the button.
export function action(label, run, { kind = "", id = null, place = null, busy = "" } = {}) {
  const answer = place ?? answerPlace();
  const button = h("button", { type: "button", class: kind, id }, label);
  button.addEventListener("click", () => doing(button, answer, run, busy));
  return place ? button : h("span", { class: "action" }, button, answer);
}

// Run what a button is for: what it gives is said, and nothing leaves what it has said itself. Until it is done the button cannot be pressed again, but keeps its place and focus.
export async function doing(button, answer, run, busy = "") {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  answer.say(busy);
  try {
    const said = await run();
    if (said !== undefined || busy) answer.say(said ?? "", "good");
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === undefined) throw error;
    answer.say(error.message, "bad");
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

// What stands where there is nothing to show: what this is, why it is empty, and what to do.
export function empty(title, text, ...actions) {
  return h("div", { class: "empty" }, h("h2", {}, title), h("p", {}, text), actions.length ? h("p", { class: "actions" }, actions) : null);
}

// Copies a text, and says so.
export function copyButton(text, label = "Copy") {
  return action([icon("copy"), h("span", { class: "aside" }, label)], async () => {
    await navigator.clipboard.writeText(text);
    return "Copied";
  }, { kind: "quiet small" });
}
