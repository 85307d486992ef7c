// Making forwarders of JSON: what was copied here, or comes from elsewhere.

import { CONSOLE, Problem, ask } from "../api.js";
import { answerPlace, count, doing, h } from "../dom.js";
import { tabAddress } from "../forwarder_frame.js";

export const title = () => "Import";

export function render(root, params, context) {
  const text = h("textarea", { id: "json", name: "json", rows: "14", class: "mono", spellcheck: "false", "aria-describedby": "json-hint", placeholder: '[{"description": "Gradebook", "query": {}, "configuration": {…}}]' });
  const file = h("input", { type: "file", id: "file", accept: ".json,.jsonl,application/json" });
  const newIds = h("input", { type: "checkbox", name: "new_ids" });
  const answer = answerPlace();
  const button = h("button", { class: "primary", id: "import" }, "Import");
  const results = h("div", { id: "results" });
  file.addEventListener("change", async () => { if (file.files[0]) text.value = await file.files[0].text(); });
  const form = h("form", { class: "stack", novalidate: true },
    h("div", { class: "field" }, h("label", { for: "file" }, "A file"), file),
    h("div", { class: "field" }, h("label", { for: "json" }, "Or its text"), text, h("p", { class: "hint", id: "json-hint" }, "One document, an array of them, or one a line. A secret that reads [redacted] has to be written.")),
    h("label", { class: "check" }, newIds, "Give each an id of its own"),
    h("p", { class: "actions" }, button, answer));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    doing(button, answer, run, "Importing…");
  });
  context.unsaved(() => text.value.trim() !== "");
  root.append(h("div", { class: "title" }, h("div", {}, h("h1", {}, "Import"), h("p", { class: "dim" }, "What is imported is not active before it was tried."))), form, results);

  async function run() {
    const forwarders = documents(text.value);
    const done = await ask("POST", `${CONSOLE}/forwarders/import`, { body: { forwarders, new_ids: newIds.checked }, signal: context.signal });
    results.replaceChildren(h("section", { class: "panel", "aria-label": "What came of each" }, h("ul", {}, done.answer.results.map((result, place) => line(result, forwarders[place])))));
    if (done.answer.refused) throw new Problem(422, { message: `${count(done.answer.done, "forwarder")} made, ${done.answer.refused} refused: see below` });
    text.value = "";
    return `${count(done.answer.done, "forwarder")} made, not active yet: see below`;
  }
}

function line(result, document) {
  const name = document?.description || result._id || "a document without a name";
  if (result.status < 300) return h("li", {}, h("a", { href: tabAddress(result._id) }, name));
  const faults = (result.faults ?? []).map(({ field, message }) => `${field} ${message}`).join("; ");
  return h("li", { class: "bad" }, name, ": ", result.message, faults && ` (${faults})`);
}

// The documents in a text. Throws Problem.
function documents(text) {
  try {
    const value = JSON.parse(text);
    return Array.isArray(value) ? value : [value];
  } catch (error) {
    try {
      const lines = text.split("\n").filter((each) => each.trim());
      if (lines.length > 1) return lines.map((each) => JSON.parse(each));
    } catch { /* it is no JSON Lines either */ }
    throw new Problem(400, { message: text.trim() ? `This is not JSON: ${error.message}` : "Choose a file, or paste JSON." });
  }
}
