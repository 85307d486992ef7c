// Editing a forwarder, or making a new one: the form, and a bar with what can be done with it.

import { CONSOLE, Problem, ask, forwarderPath } from "./api.js";
import { confirmed } from "./dialog.js";
import { action, answerPlace, count, doing, h } from "./dom.js";
import { Fields, textOf, valueAt, written } from "./forwarder_form.js";
import { tabAddress } from "./forwarder_frame.js";
import { queryTrial } from "./query_trial.js";
import { sendSample } from "./sample.js";

// A new forwarder sends nothing before it was tried and made active.
const START = { active: false, configuration: { protocol: "https" } };

// `forwarder`: as in the context; null for a new one.
export function editor(forwarder, context) {
  let etag = forwarder?.etag ?? null;
  const fields = new Fields(forwarder?.document ?? null, START);
  fields.control("query").closest(".field").append(trying(fields, context));
  if (!forwarder) fields.control("active").closest(".field").hidden = true;
  const answer = answerPlace();
  const save = h("button", { class: "primary", id: "save" }, forwarder ? "Save" : "Create");
  const below = h("div", { class: "below" });
  const form = h("form", { id: "form", novalidate: true }, fields.root,
    forwarder && h("p", { class: "hint" }, "A secret that is stored shows as [redacted]; leave it so to keep it. For another host write it anew."),
    below,
    h("div", { class: "save-bar" }, h("span", { class: "action" }, save, answer), h("span", { class: "others" }, forwarder && [sampleButton(), deleteButton()])));

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    doing(save, answer, saved, "Saving…");
  });
  form.addEventListener("input", () => answer.say(fields.changed.length ? "Not saved yet" : ""));
  context.unsaved(() => fields.changed.length > 0);
  if (context.remembered?.created) {
    context.remember(undefined); // it is said once
    answer.say([`Created at ${now()}`, ...(forwarder.document.active === true ? [] : [", not active yet: ", h("a", { href: tabAddress(forwarder.id) }, "try it")])], "good");
    below.replaceChildren(...warned(context.remembered.created));
  }
  return form;

  async function saved() {
    try {
      const sent = fields.changes;
      const done = forwarder
        ? await ask("PATCH", forwarderPath(forwarder.id), { body: sent, ifMatch: etag, signal: context.signal })
        : await ask("POST", `${CONSOLE}/forwarders`, { body: sent, signal: context.signal });
      const warnings = JSON.parse(done.headers.get("Forwarder-Warnings") || "[]");
      if (!forwarder) {
        context.unsaved(null);
        await context.go(tabAddress(done.answer._id, "edit"), { replace: true, remember: { created: warnings } });
        return "";
      }
      etag = done.etag;
      fields.showFaults([]);
      fields.saved(done.answer);
      below.replaceChildren(...warned(warnings));
      document.querySelector("h1").textContent = done.answer.description || done.answer._id;
      return `Saved at ${now()}`;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 412) return conflict();
      const rest = fields.showFaults(error.faults);
      if (error.status === 422 && error.faults.length) {
        error.message = rest.length ? `Not saved: ${rest.join("; ")}` : `Not saved: ${count(error.faults.length, "field is", "fields are")} not right`;
      }
      throw error;
    }
  }

  // Somebody else was faster. Both versions are shown; what was typed stays in the form.
  async function conflict() {
    const before = fields.shown;
    const theirs = await ask("GET", forwarderPath(forwarder.id), { signal: context.signal });
    const rows = fields.controls
      .map((control) => {
        const text = (document) => (control.type === "checkbox" ? valueAt(document, control.name) === true : textOf(control, valueAt(document, control.name)));
        return { control, before: text(before), theirs: text(theirs.answer), ours: written(control), typed: fields.changed.includes(control) };
      })
      .filter((row) => row.theirs !== row.before || row.typed);
    const panel = h("section", { class: "panel conflict", "aria-labelledby": "conflict-title", tabindex: "-1" },
      h("h2", { id: "conflict-title" }, "Somebody else has changed this forwarder"),
      h("p", {}, "Nothing of theirs was overwritten, and what you typed is still in the form. Choose what to keep where both of you changed a field, then save."),
      h("table", {},
        h("thead", {}, h("tr", {}, ["Field", "Before", "Theirs, stored now", "Yours, typed here"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, rows.map((row) => h("tr", {},
          h("th", { scope: "row" }, fields.label(row.control.name)),
          h("td", { "data-label": "Before" }, shownValue(row.before)),
          h("td", { "data-label": "Theirs, stored now" }, choice(row, "theirs")),
          h("td", { "data-label": "Yours, typed here" }, choice(row, "ours")))))),
      h("p", { class: "actions" }, h("button", { type: "button", class: "primary", id: "keep", on: { click: keep } }, "Save what is chosen"),
        h("button", { type: "button", id: "discard", on: { click: () => { context.unsaved(null); context.reload(); } } }, "Drop what I typed")));
    below.replaceChildren(panel);
    panel.focus();
    throw new Problem(412, { message: "Not saved: somebody else was faster" });

    // Of a field that both changed either can be taken; of another there is nothing to choose.
    function choice(row, side) {
      const both = row.typed && row.theirs !== row.before && row.theirs !== row.ours;
      const value = shownValue(row[side]);
      if (!both) return (side === "ours") === row.typed ? value : h("span", { class: "dim" }, "not changed");
      return h("label", { class: "check" }, h("input", { type: "radio", name: `keep ${row.control.name}`, value: side, checked: side === "ours" }), " ", value);
    }

    // From now on theirs is what was read. What was typed stays typed, but where theirs was chosen.
    function keep() {
      const chosen = rows.map((row) => {
        const picked = panel.querySelector(`input[name="${CSS.escape(`keep ${row.control.name}`)}"]:checked`)?.value;
        return { ...row, ours: row.typed && picked !== "theirs" ? row.ours : row.theirs };
      });
      etag = theirs.etag;
      fields.saved(theirs.answer);
      for (const { control, ours } of chosen) {
        if (control.type === "checkbox") control.checked = ours;
        else control.value = ours;
      }
      fields.arrange();
      below.replaceChildren();
      save.focus(); // the button that was pressed is gone
      form.requestSubmit(save);
    }
  }

  function sampleButton() {
    return action("Send a sample", async () => {
      if (fields.changed.length) throw new Problem(0, { message: "Save first: a sample goes by what is saved." });
      const { delivered, element } = await sendSample(forwarder.id, { signal: context.signal });
      below.replaceChildren(element);
      if (!delivered) throw new Problem(422, { message: "Not delivered: see above" });
      return "Delivered: see above";
    }, { id: "test", busy: "Sending…" });
  }

  function deleteButton() {
    return action("Delete", async () => {
      if (!(await confirmed(`Delete ${forwarder.name}?`, "It forwards nothing from then on. What it delivered stays in the receipts.", "Delete"))) return "";
      await ask("DELETE", forwarderPath(forwarder.id), { ifMatch: etag, signal: context.signal });
      context.unsaved(null);
      await context.go("/forwarders", { replace: true });
      return "";
    }, { kind: "danger", id: "delete" });
  }
}

// The rows of the query, and a record to try it on: asked for once it is opened.
function trying(fields, context) {
  const place = h("div", {});
  const folded = h("details", { id: "try-query" }, h("summary", {}, "Build and try this query"), place);
  let trial = null;
  const scope = () => {
    const kinds = fields.control("kinds").value.split(",").map((kind) => kind.trim()).filter(Boolean);
    return { kinds: kinds.length ? kinds : null, lrs_id: fields.control("lrs_id").value || null };
  };
  folded.addEventListener("toggle", async () => {
    if (!folded.open || trial) return;
    try {
      trial = queryTrial(context, { text: fields.control("query"), scope });
      const { conditions, record, outcome } = await trial;
      place.replaceChildren(conditions, h("h3", {}, "What it says of a record"), record, outcome);
    } catch (error) {
      trial = null;
      if (error instanceof Problem) place.replaceChildren(h("p", { class: "fault" }, error.message));
      else if (error.name !== "AbortError") throw error;
    }
  });
  return folded;
}

const now = () => new Date().toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

const shownValue = (value) => (value === "" ? h("span", { class: "dim" }, "empty") : h("span", { class: "mono" }, typeof value === "boolean" ? (value ? "yes" : "no") : value));

function warned(warnings) {
  return warnings.length
    ? [h("section", { class: "panel warnings", "aria-label": "Warnings" }, h("h2", {}, "Saved, but is it meant so?"), h("ul", {}, warnings.map(({ field, message }) => h("li", {}, h("code", {}, field), " ", message))))]
    : [];
}
