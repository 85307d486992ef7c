// One job: its plan, which is carried out when somebody says so; how far it is; and its report.

import { CONSOLE, ask } from "../api.js";
import { confirmed } from "../dialog.js";
import { action, answerPlace, count, h, number, time } from "../dom.js";
import { tabAddress } from "../forwarder_frame.js";
import { jobState, namesOf, runs, whatOf } from "../jobs_shown.js";
import { progressBar } from "../plot.js";

const LOOK = 1; // seconds

export const title = () => "Job";

export async function render(root, { id }, context) {
  const path = `${CONSOLE}/jobs/${encodeURIComponent(id)}`;
  const place = h("div", { id: "job" });
  const said = answerPlace();
  let job = (await ask("GET", path, { signal: context.signal })).answer;
  const names = Object.fromEntries(job.forwarders.map((forwarder) => [forwarder._id, forwarder.name]));
  const head = h("p", { class: "facts" });
  root.append(h("p", { class: "crumbs" }, h("a", { href: "/jobs" }, "All jobs")),
    h("div", { class: "title" }, h("div", {}, h("h1", {}, `${whatOf(job)} to ${namesOf(job)}`), head)), place);
  show();
  context.every(LOOK, () => (runs(job.state) ? look().catch(() => null) : null));

  async function look() {
    const before = JSON.stringify(job);
    job = (await ask("GET", path, { signal: context.signal })).answer;
    // What has not changed keeps its place and focus.
    if (JSON.stringify(job) !== before) show();
  }

  function show() {
    head.replaceChildren(h("span", { role: "status" }, jobState(job)), h("span", { class: "dim" }, "asked for by ", job.by, " ", time(job.times.planning)));
    place.replaceChildren(...[
      job.problems.length > 0 && h("section", { class: "panel bad", role: "alert", "aria-label": "What went wrong" }, job.problems.map((line) => h("p", {}, line))),
      job.state === "planned" && decision(),
      runs(job.state) && progress(),
      chosen(),
      job.report && accounts("What was sent", "sent", job.report),
      job.plan && accounts("The plan", "plan", job.plan),
    ].filter(Boolean));
  }

  function decision() {
    const many = job.plan.records;
    if (!many) return h("section", { class: "panel" }, h("h2", {}, "There is nothing to send"), h("p", {}, "No record is chosen that its forwarder would get by now."));
    const send = job.may_edit && action(`Send ${count(many, "record")}…`, async () => {
      if (!(await confirmed(`Send ${count(many, "record")}?`, `To ${namesOf(job)}, as the plan shows.${job.what === "replay" ? " What was delivered is sent again." : ""}`, "Send", "Cancel", "primary"))) return "";
      job = (await ask("POST", `${path}/confirm`, { body: { digest: job.digest }, signal: context.signal })).answer;
      show();
      return undefined;
    }, { kind: "primary", id: "send", place: said });
    return h("section", { class: "panel", "aria-labelledby": "decide" }, h("h2", { id: "decide" }, "Nothing has been sent yet"),
      h("p", {}, "Look at the plan below. It holds for an hour, and as long as the forwarders are not changed."),
      h("p", { class: "actions" }, send, job.may_edit && stop("Withdraw"), said));
  }

  function progress() {
    const known = job.progress;
    const done = known ? known.delivered + known.dead_lettered : 0;
    const label = job.state === "planning" ? "Making the plan: nothing is sent" : "Sending";
    return h("section", { class: "panel", "aria-labelledby": "far" }, h("h2", { id: "far" }, label),
      known && job.state === "sending"
        ? [progressBar(done, known.due, "Records that have ended"), h("p", {}, `${number(known.delivered)} delivered, ${number(known.dead_lettered)} given up, ${number(known.waiting)} wait, of ${count(known.due, "record")} so far`)]
        : h("p", { class: "dim" }, known ? `It is ${known.phase}.` : "It is starting."),
      job.may_edit && h("p", { class: "actions" }, stop("Stop"), said));
  }

  function stop(label) {
    return action(label, async () => {
      job = (await ask("POST", `${path}/stop`, { body: {}, signal: context.signal })).answer;
      show();
      return runs(job.state) ? "It finishes what is in flight, then stops" : undefined;
    }, { id: "stop", place: said });
  }

  function chosen() {
    const details = {
      Forwarders: job.forwarders.map(({ _id, name }, place) => [place > 0 && ", ", h("a", { href: tabAddress(_id) }, name)]),
      What: job.what === "replay" ? "records of the input, delivered or not" : "what was given up and not delivered since",
      From: job.since && time(job.since), Before: job.until && time(job.until),
      Reasons: job.reasons.join(", ") || null, Kinds: job.kinds.join(", ") || null,
      Records: job.records.length ? count(job.records.length, "chosen record") : null,
      Run: job.run_id && h("span", { class: "mono" }, job.run_id),
    };
    return h("section", { class: "panel", "aria-labelledby": "chosen" }, h("h2", { id: "chosen" }, "What was chosen"),
      h("dl", { class: "facts-list" }, Object.entries(details).filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
  }

  function accounts(heading, id_, report) {
    return h("section", { class: "panel", id: id_, "aria-labelledby": `${id_}-title` }, h("h2", { id: `${id_}-title` }, heading),
      report.input.read > 0 && h("p", { class: "dim" }, `${count(report.input.read, "piece")} of input read, ${number(report.input.rejected)} refused.`),
      report.forwarders.map((account) => account_(account)));
  }

  function account_(account) {
    const letters = Object.entries(account.letters?.by_reason ?? {});
    const details = account.delivered === undefined
      ? { "Would be sent": number(account.matched) }
      : { Matched: number(account.matched), Delivered: number(account.delivered), "Had it already": account.already_delivered || null,
          "Given up": account.dead_lettered ? h("span", { class: "bad" }, `${number(account.dead_lettered)}: ${Object.entries(account.dead_letter_reasons).map(([reason, many]) => `${reason} ${number(many)}`).join(", ")}`) : "0",
          "Still waits": account.pending || null };
    if (account.kept) details["Left as they were"] = Object.entries(account.kept).map(([why, many]) => `${why} ${number(many)}`).join(", ");
    if (account.letters?.delivered_since) details["Delivered since"] = number(account.letters.delivered_since);
    return h("div", { class: "of-forwarder" }, h("h3", {}, names[account.id] ?? account.id),
      h("dl", { class: "facts-list" }, Object.entries(details).filter(([, value]) => value !== null).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
      letters.length > 0 && h("table", {},
        h("thead", {}, h("tr", {}, ["Given up for", "Open", "Sent again", "Not chosen"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, letters.map(([reason, plan]) => h("tr", {}, h("th", { scope: "row" }, reason),
          h("td", { "data-label": "Open" }, number(plan.open)), h("td", { "data-label": "Sent again" }, number(plan.sent)), h("td", { "data-label": "Not chosen" }, number(plan.not_selected)))))),
      account.sample !== undefined && h("details", {}, h("summary", {}, "A sample of what is sent"), h("pre", { tabindex: "0", "aria-label": "A sample" }, typeof account.sample === "string" ? account.sample : JSON.stringify(account.sample, null, 2))));
  }
}
