// Who changed a forwarder, when, and what; and how to have it again as it was.

import { CONSOLE, Problem, ask } from "../api.js";
import { confirmed } from "../dialog.js";
import { action, empty, h, short, time } from "../dom.js";

const SAID = { create: "created it", update: "changed it", delete: "deleted it" };
const NOT_SHOWN = new Set(["updatedAt"]);

export const title = (params, context) => `${context.forwarder.name} · History`;

export async function render(root, { id }, context) {
  const base = `${CONSOLE}/forwarders/${encodeURIComponent(id)}`;
  const { answer: edits } = await ask("GET", `${base}/history`, { signal: context.signal });
  if (!edits.length) {
    root.append(empty("No changes are known", "What is changed here from now on shows with who did it, and when."));
    return;
  }
  if (context.remembered?.restored) {
    context.remember(undefined); // it is said once
    root.append(h("p", { class: "good", role: "status" }, "Restored."));
  }
  root.append(h("p", { class: "dim" }, "Secrets are never kept here: after a restoration they are those of now."),
    h("ol", { class: "edits", id: "edits" }, edits.map((edit, place) => entry(edit, edits[place + 1], place === 0))));

  function entry(edit, before, isLatest) {
    const changes = edit.content && before?.content ? differences(before.content, edit.content) : null;
    return h("li", { class: "edit" },
      h("p", {}, h("strong", {}, edit.by), " ", SAID[edit.action] ?? edit.action, " ", time(edit.at), isLatest && h("span", { class: "chip" }, "as it is now")),
      changes && (changes.length
        ? h("ul", { class: "changes" }, changes.map(([path, from, to]) => h("li", {}, h("code", {}, path), ": ", shown(from), " → ", shown(to))))
        : h("p", { class: "dim" }, "Nothing that is shown; a secret may have been written anew.")),
      edit.content && h("details", {}, h("summary", {}, "The whole document"), h("pre", { tabindex: "0", "aria-label": "The document" }, JSON.stringify(edit.content, null, 2))),
      !edit.content && edit.action !== "delete" && h("p", { class: "dim" }, "What it was then is not kept, or not yours to see."),
      !isLatest && edit.content && context.forwarder.rights.may_edit && restoring(edit));
  }

  function restoring(edit) {
    return action("Restore this", async () => {
      const now = edits[0].content ? differences(edits[0].content, edit.content).map(([path]) => path) : [];
      const text = now.length ? `Changes again: ${short(now.join(", "), 200)}.` : "Nothing that is shown changes.";
      if (!(await confirmed(`Restore ${context.forwarder.name} as it was?`, `${text} Its secrets stay as they are.`, "Restore", "Cancel", "primary"))) return "";
      try {
        await ask("POST", `${base}/restore`, { body: { version: edit.version }, ifMatch: context.forwarder.etag, signal: context.signal });
      } catch (error) {
        if (!(error instanceof Problem) || error.status !== 422) throw error;
        error.message = `Not restored: ${error.faults.map(({ field, message }) => `${field} ${message}`).join("; ")}`;
        throw error;
      }
      context.remember({ restored: true });
      await context.go(location.pathname, { replace: true, remember: { restored: true } });
      return "";
    }, { kind: "small" });
  }
}

// What differs between two documents: [path, before, after] for each value.
function differences(before, after, path = "") {
  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  if (isObject(before) && isObject(after) && path !== "query") {
    const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((name) => path || !NOT_SHOWN.has(name));
    return names.flatMap((name) => differences(before[name], after[name], path ? `${path}.${name}` : name));
  }
  return JSON.stringify(before) === JSON.stringify(after) ? [] : [[path, before, after]];
}

const shown = (value) => (value === undefined ? h("span", { class: "dim" }, "not there") : h("code", {}, short(typeof value === "string" ? value : JSON.stringify(value), 200)));
