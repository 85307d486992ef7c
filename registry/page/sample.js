// Sending one sample record through the job's own delivery, and what came of it.

import { ask, forwarderPath } from "./api.js";
import { h } from "./dom.js";

// Gives an element that shows the receipt of a sample. Throws Problem.
export async function sendSample(id, { kind = null, signal } = {}) {
  const { answer } = await ask("POST", `${forwarderPath(id)}/test`, { body: kind ? { kind } : {}, signal });
  return { delivered: answer.receipt.outcome === "delivered", element: receipt(answer) };
}

export const outcome = (entry) =>
  entry.outcome === "delivered" ? h("span", { class: "good" }, "delivered") : h("span", { class: "bad" }, `given up: ${entry.reason || entry.outcome}`);

function receipt({ receipt, matches }) {
  const details = {
    Outcome: outcome(receipt), Status: receipt.status, Record: `${receipt.kind} ${receipt.id}`,
    "Query matches it": matches ? "yes" : "no: it was sent all the same", Shard: receipt.shard,
    Answer: receipt.response, Sent: receipt.payload && h("pre", { tabindex: "0", "aria-label": "What was sent" }, pretty(receipt.payload)),
  };
  const known = Object.entries(details).filter(([, value]) => value !== null && value !== undefined);
  return h("section", { class: "panel", id: "receipt", "aria-label": "What came of the sample" },
    h("h2", {}, "Sample"), h("dl", { class: "facts-list" }, known.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}

// JSON as people read it; anything else as it is.
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return String(text);
  }
}
