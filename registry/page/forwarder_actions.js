// What can be done with a forwarder from any of its tabs.

import { CONSOLE, ask, forwarderPath } from "./api.js";
import { action, answerPlace } from "./dom.js";
import { tabAddress } from "./forwarder_frame.js";

// Elements for the head of a forwarder's page. `context.forwarder` is the forwarder.
export function actions(context) {
  const { id, document: content, rights } = context.forwarder;
  const said = answerPlace();
  const copy = action("Copy as JSON", async () => {
    await navigator.clipboard.writeText(JSON.stringify(content, null, 2));
    return "Copied, without secrets";
  }, { kind: "quiet", id: "copy-json", place: said });
  if (!rights.may_edit) return [copy, said];
  const duplicate = action("Duplicate", async () => {
    const { answer } = await ask("POST", `${CONSOLE}/forwarders/${encodeURIComponent(id)}/duplicate`, { body: {}, signal: context.signal });
    await context.go(tabAddress(answer._id, "edit"));
    return "";
  }, { kind: "quiet", id: "duplicate", place: said });
  return [content.active === true && action("Disable", () => setActive(context, false), { id: "disable", place: said }), duplicate, copy, said];
}

// Make the forwarder of the context active, or not, and show the view anew.
export async function setActive(context, active) {
  const { id, etag } = context.forwarder;
  await ask("PATCH", forwarderPath(id), { body: { active }, ifMatch: etag, signal: context.signal });
  await context.reload();
  return "";
}
