// What a forwarder got, and what was given up: narrowed down, each can be opened, and sent again.

import { CONSOLE, Problem, ask, parameters } from "../api.js";
import { action, answerPlace, count, empty, h, time } from "../dom.js";
import { tabAddress } from "../forwarder_frame.js";
import { outcome, pretty } from "../sample.js";

const FILTERS = ["outcome", "reason", "status", "kind", "user", "record", "since", "until"];
const KINDS = ["event", "status", "score", "statement"];
const PAGE = 50;

export const title = (params, context) => `${context.forwarder.name} · Records`;

export async function render(root, { id }, context) {
  const wish = Object.fromEntries(FILTERS.map((name) => [name, context.query.get(name) ?? ""]));
  const base = `${CONSOLE}/forwarders/${encodeURIComponent(id)}`;
  const mayResend = context.forwarder.rights.jobs;
  const chosen = new Map(); // outcomes, by the record's id
  let showChosen = () => null;
  let next = null;

  const form = h("form", { class: "filters", role: "search", "aria-label": "Records" },
    field("Outcome", select("outcome", { "": "Any", delivered: "Delivered", dead_lettered: "Given up" })),
    field("Kind", select("kind", { "": "Any", ...Object.fromEntries(KINDS.map((kind) => [kind, kind])) })),
    field("Reason", input("reason", "http_503")), field("Status", input("status", "503", { inputmode: "numeric" })),
    field("User", input("user", "")), field("Record", input("record", "its id")),
    field("From (UTC)", moment("since")), field("Before (UTC)", moment("until")),
    h("p", { class: "actions" }, h("button", { class: "primary" }, "Find"), h("a", { href: tabAddress(id, "records") }, "Show all")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    context.go(tabAddress(id, "records") + parameters(written()));
  });
  const rows = h("tbody");
  const table = h("table", { id: "deliveries" },
    h("thead", {}, h("tr", {}, [mayResend && h("th", { scope: "col" }, h("span", { class: "unseen" }, "Choose")), ["When", "Outcome", "Record", "Attempts", "Answer"].map((name) => h("th", { scope: "col" }, name))])), rows);
  const nothing = h("div");
  const more = h("p", { class: "actions" });
  const bar = h("div");
  root.append(h("details", { class: "narrow", open: FILTERS.some((name) => wish[name]) }, h("summary", {}, h("h2", {}, "Narrow down")), form), bar, table, nothing, more);

  try {
    await load();
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 404) throw error;
    root.replaceChildren(empty("Deliveries are not known", error.message));
    return;
  }
  if (mayResend) bar.replaceChildren(resending());

  async function load() {
    const { answer } = await ask("GET", `${base}/records${parameters({ ...wish, after: next, limit: PAGE })}`, { signal: context.signal });
    next = answer.next;
    rows.append(...answer.records.flatMap(row));
    table.hidden = rows.childElementCount === 0;
    const narrowed = FILTERS.some((name) => wish[name]);
    nothing.replaceChildren(...(table.hidden ? [next ? empty("Nothing found so far", "Older records have not been looked at yet.") : narrowed ? empty("Nothing is like that", "Of what is kept of this forwarder nothing matches.") : empty("Nothing was sent yet", "Records that runs deliver, or give up, show here.")] : []));
    more.replaceChildren(...(next ? [action("Look further back", async () => { await load(); return undefined; }, { id: "further" })] : []));
  }

  function row(entry) {
    const details = h("tr", { class: "opened", hidden: true }, h("td", { colspan: mayResend ? 6 : 5 }));
    const opens = h("button", { type: "button", class: "opens", "aria-expanded": "false" }, entry.kind, " ", h("span", { class: "dim mono" }, entry.id));
    opens.addEventListener("click", async () => {
      const open = details.hidden;
      details.hidden = !open;
      opens.setAttribute("aria-expanded", String(open));
      if (open) await show(entry, details.firstElementChild);
    });
    const canChoose = entry.outcome === "dead_lettered" || context.forwarder.rights.replays;
    return [
      h("tr", {},
        mayResend && h("td", {}, canChoose && h("input", { type: "checkbox", "aria-label": `Choose ${entry.kind} ${entry.id}`, on: { change: (event) => { event.target.checked ? chosen.set(entry.id, entry.outcome) : chosen.delete(entry.id); showChosen(); } } })),
        h("td", { "data-label": "When" }, time(entry.settled_at)),
        h("td", { "data-label": "Outcome" }, outcome(entry)),
        h("td", { "data-label": "Record" }, opens),
        h("td", { "data-label": "Attempts" }, String(entry.attempts)),
        h("td", { "data-label": "Answer" }, [entry.status, entry.response].filter(Boolean).join(" ") || h("span", { class: "dim" }, "none"))),
      details,
    ];
  }

  async function show(entry, place) {
    if (place.childElementCount) return;
    place.replaceChildren(h("p", { class: "dim", role: "status" }, "Reading…"));
    try {
      const { answer } = await ask("GET", `${base}/record${parameters({ place: entry.place })}`, { signal: context.signal });
      place.replaceChildren(opened(answer));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      place.replaceChildren(h("p", { class: "bad", role: "alert" }, error.message));
    }
  }

  function opened(entry) {
    const sent = entry.payload !== null
      ? [h("pre", { tabindex: "0", "aria-label": "What was sent" }, pretty(entry.payload)), entry.payload_cut && h("p", { class: "hint" }, "Only its beginning.")]
      : entry.payload_hidden ? "for those who may change the forwarder" : entry.outcome === "delivered" ? "a receipt does not hold it" : "it was never encoded";
    const details = {
      Outcome: outcome(entry), Status: entry.status, Answer: entry.response, Attempts: String(entry.attempts),
      "First attempt": entry.first_attempt && time(entry.first_attempt), "Last attempt": entry.last_attempt && time(entry.last_attempt),
      User: entry.user_id, Shard: entry.shard, "Sequence number": entry.sequence_number,
      "May have arrived": entry.ambiguous ? "yes: an attempt was not acknowledged" : null,
      Remarks: entry.remarks?.length ? entry.remarks.join(", ") : null, Run: h("span", { class: "mono" }, entry.run_id), Sent: sent,
      "Its other ends": h("a", { href: tabAddress(id, "records") + parameters({ record: entry.id }) }, "all that is known of this record"),
    };
    return h("dl", { class: "facts-list" }, Object.entries(details).filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  }

  // Sending again: what was chosen, what is shown, or a time.

  function resending() {
    const said = answerPlace();
    const selected = action("Send chosen again…", () => plan({ what: [...chosen.values()].includes("delivered") ? "replay" : "redrive", records: [...chosen.keys()] }), { id: "redrive-chosen", place: said, busy: "Planning…" });
    showChosen = () => {
      selected.disabled = chosen.size === 0;
      selected.textContent = chosen.size ? `Send ${count(chosen.size, "chosen record")} again…` : "Send chosen again…";
    };
    showChosen();
    const narrowed = () => ({ what: "redrive", reasons: list(wish.reason), kinds: list(wish.kind), records: list(wish.record), ...times() });
    const matching = action("Send again what was given up…", () => plan(narrowed()), { id: "redrive", place: said, busy: "Planning…" });
    const replay = context.forwarder.rights.replays && action("Replay this time…", () => plan({ what: "replay", kinds: list(wish.kind), ...times() }), { id: "replay", kind: "quiet", place: said, busy: "Planning…" });
    return h("section", { class: "panel", "aria-labelledby": "again" }, h("h2", { id: "again" }, "Send again"),
      h("p", {}, "First a plan is made: nothing is sent before you have seen it. What was given up is chosen by outcome, reason, kind, record and time, as narrowed down above. What was delivered is chosen one by one, or by a replay of the records’ own time, which sends again all that the forwarder matches in it."),
      h("p", { class: "actions" }, selected, matching, replay, said));
  }

  async function plan(asked) {
    if ((wish.user || wish.status) && !(asked.records?.length)) throw new Problem(422, { message: "User and status choose no records to send again: choose them one by one, or leave these out." });
    const { answer } = await ask("POST", `${CONSOLE}/jobs`, { body: { forwarders: [id], ...asked }, signal: context.signal });
    await context.go(`/jobs/${answer.id}`);
    return "";
  }

  function times() {
    return Object.fromEntries(["since", "until"].filter((name) => wish[name]).map((name) => [name, wish[name]]));
  }

  function written() {
    const values = Object.fromEntries(new FormData(form));
    for (const name of ["since", "until"]) if (values[name]) values[name] = `${values[name]}${values[name].length === 16 ? ":00" : ""}Z`;
    return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value.trim()]));
  }

  function field(label, control) {
    return h("label", {}, h("span", {}, label), control);
  }

  function input(name, placeholder, more = {}) {
    return h("input", { name, value: wish[name], placeholder, autocomplete: "off", spellcheck: "false", ...more });
  }

  function moment(name) {
    return h("input", { name, type: "datetime-local", step: "1", value: wish[name].replace(/(\.\d+)?Z$/, "") });
  }

  function select(name, options) {
    return h("select", { name }, Object.entries(options).map(([value, label]) => h("option", { value, selected: value === wish[name] }, label)));
  }
}

const list = (text) => (text ? [text] : []);
