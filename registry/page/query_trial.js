// Trying a query: its rows, a record, and what each clause says of it, live. Everything is judged by the service.

import { CONSOLE, Problem, ask } from "./api.js";
import { action, count, h, number } from "./dom.js";
import { queryBuilder } from "./query_builder.js";

const TESTER = `${CONSOLE}/tester`;
const PAUSE = 250; // ms without a key, after which the service is asked

// Where a query is tried.
//   text       the textarea that holds the query
//   scope()    { kinds, lrs_id } of the forwarder, as the document has them
//   record     the record to begin with; without it, the first sample
//   changed(record)  is called after each answer, with the text of the record
// Gives { conditions, record, outcome }: elements to be put where there is room.
export async function queryTrial(context, { text, scope = () => ({}), record: first = null, changed = () => {} }) {
  const setup = (await ask("GET", TESTER, { signal: context.signal })).answer;
  const builder = queryBuilder(setup, (form) => soon({ form }));
  const unshown = h("p", { class: "hint", hidden: true }, "These conditions are beyond the form: they are edited as JSON.");
  const record = h("textarea", { rows: "12", spellcheck: "false", "aria-label": "The record, as JSON", id: "record" });
  const picker = h("select", { "aria-label": "Pick a record", id: "pick-record" }, h("option", { value: "" }, "As written below"));
  const about = h("p", { class: "hint" });
  const verdict = h("p", { class: "verdict", role: "status" });
  const details = h("div", { class: "judged" });
  const counted = h("div", { class: "counted-records" });
  let asking = null;
  let waiting = 0;
  let own = false; // whether it is this that writes the query

  record.value = first ?? setup.samples[0].text;
  offer("Samples", setup.samples);
  if (first === null) picker.value = "Samples 0";
  text.addEventListener("input", () => own || soon({}));
  record.addEventListener("input", () => { picker.value = ""; soon({}); });
  picker.addEventListener("change", () => {
    const chosen = picker.selectedOptions[0].record;
    if (chosen) record.value = chosen.text;
    soon({});
  });
  recent();
  await judge({});

  return {
    conditions: h("div", {}, builder, unshown),
    record: h("div", {}, picker, record, about),
    outcome: h("div", {}, verdict, details, action("Count recent records", counting, { id: "count-records", busy: "Counting…" }), counted),
    again: () => soon({}),
    get text() { return record.value; },
  };

  function offer(label, records) {
    picker.append(h("optgroup", { label }, records.map((each, place) => {
      const option = h("option", { value: `${label} ${place}` }, each.name);
      option.record = each;
      return option;
    })));
  }

  async function recent() {
    try {
      const { answer } = await ask("GET", `${TESTER}/records`, { signal: context.signal });
      if (answer.records.length) offer("Recent records", answer.records);
      about.textContent = answer.message;
    } catch (error) {
      if (error instanceof Problem) about.textContent = error.message;
    }
  }

  // `given`: { form } where the rows have changed, which then are the query.
  function soon(given) {
    clearTimeout(waiting);
    waiting = setTimeout(() => judge(given), PAUSE);
  }

  async function judge(given) {
    asking?.abort();
    asking = new AbortController();
    try {
      const body = { ...(given.form ? given : { query: text.value }), ...scope(), record: record.value };
      const { answer } = await ask("POST", TESTER, { body, signal: AbortSignal.any([asking.signal, context.signal]) });
      if (given.form) {
        builder.showFaults(answer.faults);
        if (answer.query !== null) {
          text.value = answer.query;
          // For the form around it. The rows are what they are.
          own = true;
          text.dispatchEvent(new Event("input", { bubbles: true }));
          own = false;
        }
      } else {
        show(answer.form);
      }
      told(answer);
      changed(record.value);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Problem)) throw error;
      verdict.className = "verdict bad";
      verdict.textContent = error.message;
      details.replaceChildren();
    }
  }

  function show(form) {
    builder.hidden = form === null;
    unshown.hidden = form !== null;
    // What somebody writes in is not made anew under their hands.
    if (form && !builder.contains(document.activeElement)) builder.show(form);
  }

  function told({ faults, warnings, record: judged }) {
    if (faults[0]?.field.startsWith("form.")) {
      // The row itself says what it lacks.
      verdict.className = "verdict dim";
      verdict.textContent = "A condition is not complete";
      details.replaceChildren();
      return;
    }
    const isRefused = faults.length > 0;
    const outcome = isRefused ? null : judged.problem ? null : judged.matches;
    verdict.className = `verdict ${outcome === null ? "bad" : outcome ? "good" : ""}`;
    verdict.textContent = isRefused ? "The query is refused" : judged.problem ? "This is no record" : outcome ? "This record matches" : "This record does not match";
    details.replaceChildren(...[
      isRefused && h("ul", { class: "fault" }, faults.map(({ message }) => h("li", {}, message))),
      judged.problem && h("p", { class: "fault" }, judged.problem),
      !isRefused && judged.reason?.startsWith("not in scope") && h("p", {}, judged.reason),
      judged.clauses && clauseTree(judged.clauses),
      warnings.length > 0 && h("section", { class: "panel warnings", "aria-label": "Warnings" }, h("h2", {}, "Is it meant so?"),
        h("ul", {}, warnings.map(({ message }) => h("li", {}, `The query ${message}`)))),
    ].filter(Boolean));
  }

  async function counting() {
    const { answer } = await ask("POST", `${TESTER}/count`, { body: { query: text.value, ...scope() }, signal: context.signal });
    counted.replaceChildren(
      h("p", { class: "hint" }, answer.message),
      answer.kinds.length > 1 ? h("table", {},
        h("thead", {}, h("tr", {}, ["Kind", "Matched", "Looked at"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, answer.kinds.map(({ kind, matched, looked_at: seen }) => h("tr", {}, h("th", { scope: "row" }, kind), h("td", { "data-label": "Matched" }, number(matched)), h("td", { "data-label": "Looked at" }, number(seen)))))) : "");
    return answer.source === null ? "There is nothing to count" : `${number(answer.matched)} of ${count(answer.looked_at, "record")} ${answer.matched === 1 ? "matches" : "match"}`;
  }
}

const MARKS = { match: ["✓", "holds", "good"], "no match": ["✗", "does not hold", "bad"], undecided: ["?", "is undecided", "dim"] };

function clauseTree(clause) {
  // The root of joined clauses says nothing that the verdict does not.
  const top = clause.children.length && clause.text === "all of" ? clause.children : [clause];
  return h("ul", { class: "clauses", "aria-label": "Clauses of the query" }, top.map(item));
}

function item(clause) {
  const [mark, words, tone] = MARKS[clause.outcome];
  return h("li", { class: clause.decides ? "decides" : null },
    h("span", { class: tone, role: "img", "aria-label": words }, mark), " ",
    h("code", {}, clause.text || "an empty query"), " ",
    clause.found && h("span", { class: "dim" }, "found ", h("code", {}, clause.found), " "),
    clause.decides && !clause.children.length && h("span", { class: "chip" }, "decides"),
    clause.children.length > 0 && h("ul", { class: "clauses" }, clause.children.map(item)));
}
