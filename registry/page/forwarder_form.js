// The form of a forwarder: its fields come with the page (registry/form.py), each named by its path in the document.

import { all, find, h } from "./dom.js";

export const valueAt = (document, path) => path.split(".").reduce((value, name) => value?.[name], document);

function put(document, path, value) {
  const names = path.split(".");
  const last = names.pop();
  names.reduce((inner, name) => (inner[name] ??= {}), document)[last] = value;
}

export class Fields {
  // `document`: what is edited; null: a new forwarder, which begins as `start`.
  constructor(document, start = {}) {
    this.root = h("div", { class: "fields" }, find("#forwarder-fields").content.cloneNode(true));
    this.shown = document;
    this.fill(document ?? start);
    this.root.addEventListener("change", () => this.arrange());
  }

  get controls() {
    return all("[name]", this.root);
  }

  control(path) {
    return this.controls.find((control) => control.name === path);
  }

  label(path) {
    return find(`label[for="${CSS.escape(this.control(path)?.id ?? "")}"]`, this.root)?.textContent ?? path;
  }

  fill(document) {
    this.filled = new Map();
    for (const control of this.controls) {
      if (control.type === "checkbox") control.checked = valueAt(document, control.name) === true;
      else control.value = textOf(control, valueAt(document, control.name));
      // What the control made of the text: one of a single line, for instance, takes line breaks out.
      this.filled.set(control.name, written(control));
    }
    for (const section of all("details", this.root)) {
      section.open ||= all("[name]", section).some((control) => (control.type === "checkbox" ? control.checked : control.value));
    }
    this.arrange();
  }

  // Saved: what is in the form is now what is stored.
  saved(document) {
    this.shown = document;
    this.fill(document);
  }

  // The controls that were written in.
  get changed() {
    return this.controls.filter((control) => written(control) !== this.filled.get(control.name));
  }

  // The controls whose values are sent: of a new forwarder, what the form begins with, too.
  get sent() {
    return this.shown ? this.changed : this.controls.filter((control) => written(control));
  }

  // Only what was changed here is sent. Everything else stays as it is, with what this form does not know.
  get changes() {
    const changes = {};
    for (const control of this.sent) {
      const before = this.shown === null ? undefined : valueAt(this.shown, control.name);
      if (control.type === "checkbox") put(changes, control.name, control.checked);
      else put(changes, control.name, control.value === "" ? null : valueOf(control, before));
    }
    return changes;
  }

  // What belongs to another protocol or authentication is not shown, unless there is a fault in it.
  arrange() {
    const protocol = this.control("configuration.protocol").value || "http";
    const auth = this.control("configuration.authType").value || "no auth";
    for (const field of all(".field", this.root)) {
      const { protocols, auth: wanted } = field.dataset;
      const is = (!protocols || protocols.split(" ").includes(protocol)) && (!wanted || wanted === auth || protocol === "Kinesis");
      field.hidden = !is && !find(".fault", field);
    }
    for (const section of all(".section", this.root)) {
      section.hidden = !all(".field", section).some((field) => !field.hidden);
    }
  }

  // Shows each fault at its field, and goes to the first. Gives those that are about no field, as texts.
  showFaults(faults) {
    for (const old of all(".fault", this.root)) old.remove();
    for (const control of all("[aria-invalid]", this.root)) {
      control.removeAttribute("aria-invalid");
      control.setAttribute("aria-describedby", `${control.id}-hint`);
    }
    const rest = [];
    for (const { field: path, message } of faults) {
      // A fault may be about a part of what a field holds, such as one header.
      const control = this.controls.find(({ name }) => path === name || path.startsWith(`${name}.`) || path.startsWith(`${name}[`));
      if (!control) { rest.push(`${path} ${message}`.trim()); continue; }
      const place = `${control.id}-fault`;
      const text = path === control.name ? message : `${path.slice(control.name.length + 1)} ${message}`;
      const earlier = find(`#${CSS.escape(place)}`, this.root);
      if (earlier) earlier.append(`; ${text}`);
      else control.closest(".field").append(h("p", { class: "fault", id: place }, text));
      control.setAttribute("aria-invalid", "true");
      control.setAttribute("aria-describedby", `${control.id}-hint ${place}`);
      for (let section = control.closest("details"); section; section = section.parentElement.closest("details")) section.open = true;
    }
    this.arrange();
    find("[aria-invalid]", this.root)?.focus();
    return rest;
  }
}

// What was written in a control, as text, or whether it is checked.
export const written = (control) => (control.type === "checkbox" ? control.checked : control.value);

// How a control shows a value of the document. Empty: the document has none.
export function textOf(control, value) {
  if (value === undefined || value === null) return "";
  if (control.dataset.kind === "secrets" && Array.isArray(value)) return value.join("\n");
  if (control.dataset.kind === "choices" && Array.isArray(value)) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

// The value of the document that a control shows, where that had the value `before`.
function valueOf(control, before) {
  const { kind } = control.dataset;
  const text = control.value;
  if ((kind === "number" || kind === "count") && /^\d+(\.\d+)?$/.test(text)) return Number(text);
  if (kind === "choices" && text) return text.split(",").map((choice) => choice.trim()).filter(Boolean);
  if (kind !== "secrets") return text;
  const secrets = text.split("\n").map((line) => line.trim()).filter(Boolean);
  return secrets.length === 1 && !Array.isArray(before) ? secrets[0] : secrets;
}
