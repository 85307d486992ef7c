import { ask, forwarderPath } from "../api.js";
import { empty, h, time } from "../dom.js";
import { outcome } from "../sample.js";

export const title = (params, context) => `${context.forwarder.name} · Records`;

export async function render(root, { id }, context) {
  let entries;
  try {
    entries = (await ask("GET", `${forwarderPath(id)}/deliveries?limit=100`, { signal: context.signal })).answer;
  } catch (error) {
    if (error.status !== 404) throw error;
    root.append(empty("Deliveries are not known", error.message));
    return;
  }
  if (!entries.length) {
    root.append(empty("Nothing was sent yet", "Records that runs deliver, or give up, show here."));
    return;
  }
  root.append(h("table", { id: "deliveries" },
    h("thead", {}, h("tr", {}, ["When", "Outcome", "Record", "Attempts", "Answer"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, entries.map((entry) => h("tr", {},
      h("td", { "data-label": "When" }, time(entry.settled_at)),
      h("td", { "data-label": "Outcome" }, outcome(entry)),
      h("td", { "data-label": "Record" }, entry.kind, h("div", { class: "dim mono" }, entry.id)),
      h("td", { "data-label": "Attempts" }, String(entry.attempts)),
      h("td", { "data-label": "Answer" }, [entry.status, entry.response].filter(Boolean).join(" ")))))));
}
