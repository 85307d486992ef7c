// A query as rows of a form: the common clauses, for those who do not write MongoDB's language. Rows become JSON, and
// JSON rows, on the server (registry/query_builder.py); nothing here knows the language.

import { all, h, icon } from "./dom.js";

const TYPES = { text: "text", number: "number", boolean: "yes or no", null: "null" };
const OF_FIELD = { string: "text", id: "text", date: "text", number: "number", boolean: "boolean" };
const LISTS = ["is one of", "is none of"];
const ONLY_TEXT = ["contains", "starts with", "ends with", "matches"];
const START = { field: "", operator: "is", type: "text", values: [""] };

// `setup`: the tester's, `{ fields, operators }`. `changed(form)` is called with what the rows are after each change.
export function queryBuilder(setup, changed) {
  const fields = new Map(setup.fields.map((field) => [field.name, field]));
  const names = h("datalist", { id: "query-fields" }, setup.fields.map(({ name, meaning }) => h("option", { value: name }, meaning)));
  const join = h("select", { "aria-label": "Which conditions have to hold", on: { change: tell } },
    h("option", { value: "all" }, "All of these hold"), h("option", { value: "any" }, "Any of these holds"));
  const rows = h("ol", { class: "conditions" });
  const none = h("p", { class: "hint" }, "No condition: every record matches.");
  const add = h("button", { type: "button", class: "small", id: "add-condition", on: { click: added } }, icon("plus"), "Add a condition");
  const element = h("div", { class: "builder", role: "group", "aria-label": "Conditions" }, names, join, rows, none, h("p", { class: "actions" }, add));

  // In the form of a forwarder this key would save it.
  element.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.tagName === "INPUT") event.preventDefault(); });
  element.show = (form) => {
    join.value = form.join;
    rows.replaceChildren(...form.rows.map(row));
    arrange();
  };
  // Shows which rows are not right: `{ field: "form.rows.1", message }`.
  element.showFaults = (faults) => {
    for (const [place, item] of [...rows.children].entries()) {
      const fault = faults.find(({ field }) => field === `form.rows.${place}`);
      item.lastElementChild.textContent = fault ? fault.message : "";
    }
  };
  return element;

  function tell() {
    arrange();
    changed({ join: join.value, rows: [...rows.children].map((item) => item.row()) });
  }

  function added() {
    rows.append(row(START));
    arrange();
    rows.lastElementChild.querySelector("input").focus();
  }

  function arrange() {
    join.hidden = rows.children.length < 2;
    none.hidden = rows.children.length > 0;
    for (const [place, item] of [...rows.children].entries()) {
      for (const control of all("[data-name]", item)) {
        control.setAttribute("aria-label", control.dataset.name === "Remove" ? `Remove condition ${place + 1}` : `${control.dataset.name} of condition ${place + 1}`);
      }
    }
  }

  function row(given) {
    let { values } = given;
    const field = h("input", { value: given.field, list: "query-fields", placeholder: "field", autocomplete: "off", spellcheck: "false", data: { name: "Field" }, on: { input: tell, change: typed } });
    const operator = h("select", { data: { name: "Comparison" }, on: { change: refilled } }, setup.operators.map((name) => h("option", {}, name)));
    const type = h("select", { data: { name: "Type" }, on: { change: refilled } }, Object.entries(TYPES).map(([name, label]) => h("option", { value: name }, label)));
    const value = h("span", { class: "value" });
    const remove = h("button", { type: "button", class: "quiet small", data: { name: "Remove" }, on: { click: removed } }, "✕");
    operator.value = given.operator;
    type.value = given.type;
    const item = h("li", { class: "condition" }, field, operator, type, value, remove, h("p", { class: "fault", role: "alert" }));
    item.row = () => ({ field: field.value.trim(), operator: operator.value, type: type.value, values });
    fill();
    return item;

    // What a field of the table holds says what it is compared with.
    function typed() {
      const known = OF_FIELD[fields.get(field.value.trim())?.type];
      if (known && !ONLY_TEXT.includes(operator.value) && operator.value !== "exists" && known !== type.value) {
        type.value = known;
        fill();
      }
      tell();
    }

    function refilled() {
      if (operator.value === "exists") type.value = "boolean";
      else if (ONLY_TEXT.includes(operator.value)) type.value = "text";
      fill();
      tell();
    }

    // The control of the value, for the comparison and the type as they are.
    function fill() {
      type.disabled = operator.value === "exists" || ONLY_TEXT.includes(operator.value);
      const isList = LISTS.includes(operator.value);
      if (type.value === "null") values = isList ? values.map(() => "null") : ["null"];
      else if (type.value === "boolean") values = [values[0] === "false" ? "false" : "true"];
      else values = isList ? values : [values[0] ?? ""];
      value.replaceChildren(...controls(isList));
      arrange();
    }

    function controls(isList) {
      const named = { data: { name: "Value" } };
      if (type.value === "null") return [h("span", { class: "dim" }, "null")];
      if (type.value === "boolean") {
        const choice = h("select", { ...named, on: { change: () => { values = [choice.value]; tell(); } } }, h("option", { value: "true" }, "yes"), h("option", { value: "false" }, "no"));
        choice.value = values[0];
        return [choice];
      }
      if (isList) {
        const lines = h("textarea", { rows: "3", placeholder: "one value a line", spellcheck: "false", ...named, on: { input: () => { values = lines.value.split("\n").filter((line) => line !== ""); tell(); } } });
        lines.value = values.join("\n");
        return [lines];
      }
      const possible = fields.get(field.value.trim())?.values ?? [];
      const list = possible.length ? h("datalist", { id: `values-${crypto.randomUUID()}` }, possible.map((each) => h("option", { value: each }))) : null;
      const text = h("input", { value: values[0], placeholder: type.value === "number" ? "5" : "text", autocomplete: "off", spellcheck: "false", inputmode: type.value === "number" ? "decimal" : null, list: list?.id, ...named, on: { input: () => { values = [text.value]; tell(); } } });
      return [text, list].filter(Boolean);
    }

    function removed() {
      const next = item.nextElementSibling ?? item.previousElementSibling;
      item.remove();
      (next?.querySelector("input") ?? add).focus();
      tell();
    }
  }
}
