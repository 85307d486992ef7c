// How jobs are said, in the list and on their own pages.

import { h } from "./dom.js";

const STATES = { planning: "Planning", planned: "Waits for you", sending: "Sending", done: "Done", stopped: "Stopped", failed: "Failed", killed: "Killed" };
const MARKS = { planning: "quiet", planned: "quiet", sending: "active", done: "ok", stopped: "inactive", failed: "failing", killed: "failing" };

export const jobState = (state) => h("span", { class: `state ${MARKS[state] ?? "inactive"}` }, h("span", { class: "mark", "aria-hidden": "true" }), STATES[state] ?? state);

export const runs = (state) => state === "planning" || state === "sending";

export const whatOf = (job) => (job.what === "replay" ? "Replay" : "Redrive");

export const namesOf = (job) => job.forwarders.map(({ name }) => name).join(", ");
