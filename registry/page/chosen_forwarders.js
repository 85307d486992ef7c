// Forwarders that are chosen in the list, and what can be done with all of them at once.

import { CONSOLE, Problem, ask, forwarderPath } from "./api.js";
import { confirmed } from "./dialog.js";
import { action, answerPlace, count, h } from "./dom.js";

// `changed()`: shows the list anew.
export function chosenOnes(context, changed) {
  const names = new Map(); // by id
  const said = answerPlace();
  const counted = h("strong", { role: "status" });
  const buttons = h("div", { class: "actions" },
    counted,
    act("Enable", "enable", "enabled"), act("Disable", "disable", "disabled"), action("Copy as JSON", copy, { place: said }), remove(),
    h("button", { type: "button", class: "quiet", on: { click: clear } }, "Choose none"));
  const bar = h("div", { class: "chosen-bar", tabindex: "-1", hidden: true }, buttons, said);
  return { bar, box, keep };

  // The control that chooses one.
  function box(id, name) {
    const input = h("input", { type: "checkbox", checked: names.has(id), "aria-label": `Choose ${name}` });
    input.addEventListener("change", () => {
      input.checked ? names.set(id, name) : names.delete(id);
      said.say("");
      show();
    });
    return h("label", { class: "choose" }, input);
  }

  // What is no longer listed is no longer chosen.
  function keep(ids) {
    const listed = new Set(ids);
    for (const id of [...names.keys()]) if (!listed.has(id)) names.delete(id);
    show();
  }

  function show() {
    counted.textContent = `${count(names.size, "forwarder")} chosen`;
    buttons.hidden = names.size === 0;
    bar.hidden = names.size === 0 && !said.textContent;
  }

  function clear() {
    names.clear();
    said.say("");
    show();
    changed();
  }

  function act(label, what, done) {
    return action(label, () => bulk(what, done), { id: `all-${what}`, place: said, busy: "Changing…" });
  }

  function remove() {
    return action("Delete", async () => {
      if (!(await confirmed(`Delete ${count(names.size, "forwarder")}?`, "They forward nothing from then on. What they delivered stays in the receipts.", "Delete"))) return "";
      return bulk("delete", "deleted");
    }, { kind: "danger", id: "all-delete", place: said });
  }

  async function bulk(what, done) {
    const { answer } = await ask("POST", `${CONSOLE}/forwarders/bulk`, { body: { action: what, ids: [...names.keys()] }, signal: context.signal });
    const refused = answer.results.filter(({ status }) => status >= 300);
    const why = refused.slice(0, 3).map((result) => `${names.get(result._id) ?? result._id}: ${result.faults?.[0] ? `${result.faults[0].field} ${result.faults[0].message}` : result.message}`).join("; ");
    await changed();
    // The button that was pressed is gone with what was deleted: what came of it is said where it was.
    if (buttons.hidden) {
      bar.hidden = false;
      bar.focus();
    }
    if (refused.length) throw new Problem(422, { message: `${answer.done} ${done}, ${refused.length} not: ${why}${refused.length > 3 ? "; …" : ""}` });
    return `${count(answer.done, "forwarder")} ${done}`;
  }

  async function copy() {
    const documents = await Promise.all([...names.keys()].map(async (id) => (await ask("GET", forwarderPath(id), { signal: context.signal })).answer));
    await navigator.clipboard.writeText(JSON.stringify(documents, null, 2));
    return "Copied, without secrets";
  }
}
