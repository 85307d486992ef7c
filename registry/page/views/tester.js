// The query tester: a query, a record, what each clause says of it, and which forwarders the record would reach.

import { FORWARDERS, ask, forwarderPath, parameters } from "../api.js";
import { action, count, h, short } from "../dom.js";
import { tabAddress } from "../forwarder_frame.js";
import { queryTrial } from "../query_trial.js";

const MOST = 100; // forwarders that are listed

export const title = () => "Query tester";

export async function render(root, params, context) {
  const from = context.query.get("forwarder");
  const document = from && !context.remembered ? (await ask("GET", forwarderPath(from), { signal: context.signal })).answer : {};
  const start = context.remembered ?? { query: textOf(document.query), kinds: document.kinds ?? null, lrs_id: document.lrs_id ?? null, record: null };
  const text = h("textarea", { rows: "5", id: "query", spellcheck: "false", placeholder: '{"kind": "score", "score": {"$gte": 5}}' });
  text.value = start.query;
  const kinds = ["event", "status", "score", "statement"].map((kind) =>
    h("label", { class: "check" }, h("input", { type: "checkbox", value: kind, checked: start.kinds?.includes(kind), on: { change: again } }), kind));
  const store = h("input", { id: "store", autocomplete: "off", placeholder: "any", on: { input: again } });
  store.value = start.lrs_id ?? "";
  const reached = h("div", { id: "reached" });

  const trial = await queryTrial(context, { text, scope, record: start.record, changed: (record) => context.remember({ query: text.value, ...scope(), record }) });

  root.append(
    h("div", { class: "title" }, h("div", {}, h("h1", {}, "Query tester"),
      h("p", { class: "dim" }, "What a query says of a record, clause by clause, as the job would decide. Nothing is sent, nothing is saved."))),
    h("div", { class: "trial" },
      h("section", { class: "panel", "aria-labelledby": "trial-query" }, h("h2", { id: "trial-query" }, "Query"), trial.conditions,
        h("label", { for: "query" }, "As JSON"), text,
        h("details", {}, h("summary", {}, "Kinds and store"),
          h("fieldset", {}, h("legend", { class: "hint" }, "Kinds of records; none chosen: events, status and scores"), h("div", { class: "tools" }, kinds)),
          h("p", {}, h("label", { for: "store" }, "Store (lrs_id)"), store))),
      h("section", { class: "panel", "aria-labelledby": "trial-record" }, h("h2", { id: "trial-record" }, "Record"), trial.record),
      h("section", { class: "panel outcome", "aria-labelledby": "trial-outcome" }, h("h2", { id: "trial-outcome" }, "What the query says"), trial.outcome)),
    h("section", { class: "panel", "aria-labelledby": "all-forwarders" }, h("h2", { id: "all-forwarders" }, "Forwarders"),
      h("p", {}, "Which of the forwarders that you may see would this record reach?"),
      action("Ask them all", askAll, { id: "ask-all", busy: "Asking…" }), reached));

  function scope() {
    const chosen = kinds.map((label) => label.querySelector("input")).filter((box) => box.checked).map((box) => box.value);
    return { kinds: chosen.length ? chosen : null, lrs_id: store.value || null };
  }

  function again() {
    trial.again();
  }

  async function askAll() {
    const { answer } = await ask("POST", `${FORWARDERS}/match`, { json: trial.text, signal: context.signal });
    const due = answer.forwarders.filter((each) => each.reached);
    const rest = answer.forwarders.filter((each) => !each.reached);
    const listed = [...due, ...rest].slice(0, MOST);
    const names = await namesOf(listed.map((each) => each._id));
    reached.replaceChildren(h("table", {},
      h("thead", {}, h("tr", {}, ["Forwarder", "Reached", "Why"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, listed.map((each) => h("tr", {},
        h("th", { scope: "row" }, h("a", { href: tabAddress(each._id, "edit") }, short(names.get(each._id) ?? each._id))),
        h("td", { "data-label": "Reached" }, h("span", { class: each.reached ? "good" : "dim" }, each.reached ? "yes" : "no")),
        h("td", { "data-label": "Why" }, each.reason))))),
    answer.forwarders.length > MOST ? h("p", { class: "hint" }, `The first ${MOST} of ${count(answer.forwarders.length, "forwarder")}.`) : "");
    return `It would reach ${count(due.length, "forwarder")} of ${answer.forwarders.length}`;
  }

  async function namesOf(ids) {
    const query = JSON.stringify({ _id: { $in: ids } });
    const { answer } = await ask("GET", FORWARDERS + parameters({ query, select: "description", limit: MOST }), { signal: context.signal });
    return new Map(answer.filter(({ description }) => description).map(({ _id, description }) => [_id, description]));
  }
}

const textOf = (query) => (query === undefined || query === null ? "" : typeof query === "string" ? query : JSON.stringify(query));
