// The jobs that were asked for: what is sent again, and what came of it.

import { CONSOLE, ask } from "../api.js";
import { count, empty, h, time } from "../dom.js";
import { jobState, namesOf, runs, whatOf } from "../jobs_shown.js";

const LOOK = 3; // seconds

export const title = () => "Jobs";

export async function render(root, params, context) {
  const place = h("div", { id: "jobs" });
  root.append(h("div", { class: "title" }, h("div", {}, h("h1", {}, "Jobs"), h("p", { class: "dim" }, "What is sent again: planned first, and sent when somebody says so."))), place);
  let known = await look();
  context.every(LOOK, async () => {
    if (known.jobs.some((job) => runs(job.state))) known = await look().catch(() => known);
  });

  async function look() {
    const { answer } = await ask("GET", `${CONSOLE}/jobs`, { signal: context.signal });
    place.replaceChildren(shown(answer));
    return answer;
  }
}

function shown({ enabled, jobs }) {
  if (!jobs.length) {
    return enabled
      ? empty("No jobs", "What is sent again from the records of a forwarder shows here.", h("a", { class: "button", href: "/forwarders" }, "All forwarders"))
      : empty("This service starts no jobs", "Whoever runs it allows that with --jobs CONFIG.toml.");
  }
  return h("table", {},
    h("thead", {}, h("tr", {}, ["Asked for", "What", "Forwarders", "State", "Records"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, jobs.map((job) => h("tr", {},
      h("td", { "data-label": "Asked for" }, time(job.times.planning), h("div", { class: "dim" }, `by ${job.by}`)),
      h("td", { "data-label": "What" }, h("a", { href: `/jobs/${job.id}` }, whatOf(job))),
      h("td", { "data-label": "Forwarders" }, namesOf(job)),
      h("td", { "data-label": "State" }, jobState(job)),
      h("td", { "data-label": "Records" }, job.report ? count(sum(job.report.forwarders), "delivered record") : job.plan ? `${count(job.plan.records, "record")} planned` : h("span", { class: "dim" }, "not known"))))));
}

const sum = (accounts) => accounts.reduce((all, account) => all + account.delivered, 0);
