// How jobs are said, in the list and on their own pages.

import { h, number } from "./dom.js";

const STATES = { planning: "Planning", planned: "Waits for you", sending: "Sending", done: "Done", stopped: "Stopped", failed: "Failed", killed: "Killed" };
const MARKS = { planning: "quiet", planned: "quiet", sending: "active", done: "ok", stopped: "inactive", failed: "failing", killed: "failing" };

// A job that is done and has delivered nothing is no good news.
export function jobState({ state, report }) {
  const givenUp = (report?.forwarders ?? []).reduce((all, account) => all + (account.dead_lettered ?? 0), 0);
  const isBad = state === "done" && givenUp > 0;
  return h("span", { class: `state ${isBad ? "failing" : MARKS[state] ?? "inactive"}` }, h("span", { class: "mark", "aria-hidden": "true" }),
    (STATES[state] ?? state) + (isBad ? `, ${number(givenUp)} given up` : ""));
}

export const runs = (state) => state === "planning" || state === "sending";

export const whatOf = (job) => (job.what === "replay" ? "Replay" : "Redrive");

export const namesOf = (job) => job.forwarders.map(({ name }) => name).join(", ");
