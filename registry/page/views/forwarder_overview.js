// What a forwarder is, and how it does.

import { CONSOLE, Problem, ask, parameters } from "../api.js";
import { action, answerPlace, count, h, number, standing, time } from "../dom.js";
import { setActive } from "../forwarder_actions.js";
import { tabAddress, targetOf } from "../forwarder_frame.js";
import { bars } from "../plot.js";
import { pretty, sendSample } from "../sample.js";

const SPANS = { hour: "Last hour", day: "Last day", week: "Last week" };
const LOOK = 15; // seconds

export const title = (params, context) => `${context.forwarder.name} · Overview`;

export async function render(root, { id }, context) {
  const place = h("section", { id: "health", "aria-label": "Health" });
  root.append(...(context.forwarder.document.active === true ? [] : [trial(context)]), place, facts(context.forwarder.document));
  await look();
  context.every(LOOK, () => look().catch(() => null)); // that the service is gone is said elsewhere

  async function look() {
    try {
      const { answer } = await ask("GET", `${CONSOLE}/forwarders/${encodeURIComponent(id)}/health`, { signal: context.signal });
      place.replaceChildren(...health(answer, id, context));
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 404) throw error;
      place.replaceChildren(h("p", { class: "dim" }, "How it does is not known: ", error.message));
    }
  }
}

// A forwarder that is not active is tried first. It can be made active all the same.
function trial(context) {
  const { id, rights } = context.forwarder;
  const below = h("div");
  const said = answerPlace();
  const activate = (label, kind) => action(label, () => setActive(context, true), { kind, id: "enable", place: said });
  const buttons = h("p", { class: "actions" });
  if (rights.may_edit) {
    buttons.append(
      action("Send a sample", async () => {
        const { delivered, element } = await sendSample(id, { signal: context.signal });
        below.replaceChildren(element);
        if (!delivered) throw new Problem(422, { message: "Not delivered: see below" });
        buttons.replaceChildren(activate("Activate", "primary"), said);
        return "Delivered: see below";
      }, { kind: "primary", id: "try", place: said, busy: "Sending…" }),
      activate("Activate without trying it", "quiet"), said);
  }
  return h("section", { class: "panel", id: "trial", "aria-labelledby": "trial-title" },
    h("h2", { id: "trial-title" }, "It is not active"),
    h("p", {}, rights.may_edit ? "It gets no records. Send it a sample, look at the answer, then activate it." : "It gets no records."),
    buttons, below);
}

function health(known, id, context) {
  return [
    known.as_of === null && h("p", { class: "dim", role: "status" }, "The output is being read for the first time: what follows is not all yet."),
    h("div", { class: "spans" }, Object.entries(SPANS).map(([name, label]) => span(known[name], label, id))),
    unsent(known.unsent, known.state, id, context),
    h("p", { class: "hint" }, "Counted is what ended: a record that was given up and is delivered later counts as both. ",
      known.as_of && ["Read ", time(known.as_of), "."]),
  ].filter(Boolean);
}

function span(known, label, id) {
  const reasons = Object.entries(known.reasons);
  return h("section", { class: "panel span" },
    h("h2", {}, label),
    h("p", { class: "share" }, known.share === null ? h("span", { class: "dim" }, "nothing ended") : [h("strong", { class: known.dead_lettered ? "bad" : "good" }, percent(known.share)), " delivered"]),
    bars(known, label),
    h("p", { class: "dim" }, `${number(known.delivered)} delivered, ${number(known.dead_lettered)} given up`),
    reasons.length > 0 && h("ul", { class: "reasons" }, reasons.slice(0, 6).map(([reason, many]) =>
      h("li", {}, h("a", { href: tabAddress(id, "records") + parameters({ outcome: "dead_lettered", reason, since: known.since }) }, reason), " ", h("span", { class: "n" }, number(many)))),
      reasons.length > 6 && h("li", { class: "dim" }, `and ${count(reasons.length - 6, "other reason")}`)));
}

// 99.96 % is not 100 %: what was lost must not be rounded away.
function percent(share) {
  const text = (share * 100).toFixed(share > 0.9 ? 1 : 0);
  return `${share < 1 && Number(text) === 100 ? "99.9" : text} %`;
}

function unsent(known, state, id, context) {
  const letters = known.dead_letters;
  const details = {
    State: standing(state),
    "Oldest unsent": known.oldest === null ? "nothing waits" : time(known.oldest),
    "Waits in the run": known.waiting > 0 ? count(known.waiting, "record") : null,
    "Given up, not delivered since": letters > 0
      ? [h("a", { href: tabAddress(id, "records") + parameters({ outcome: "dead_lettered" }) }, `${known.more_dead_letters ? "more than " : ""}${count(letters, "record")}`), " of the last week"]
      : null,
    "Takes nothing since": known.failing_since && h("span", { class: "bad" }, time(known.failing_since), known.answer ? `: ${known.answer}` : ""),
    "Given up unsent": known.unavailable ? h("span", { class: "bad" }, "the outage budget is over") : null,
  };
  return h("section", { class: "panel", "aria-labelledby": "now" }, h("h2", { id: "now" }, "Now"), list(details),
    letters > 0 && context.forwarder.rights.jobs && h("p", { class: "actions" }, h("a", { class: "button", href: `${tabAddress(id, "records")}?outcome=dead_lettered` }, "Send them again…")));
}

function facts(document) {
  const [kind, address] = targetOf(document);
  const configuration = document.configuration ?? {};
  const details = {
    "Sends to": [h("span", { class: "chip" }, kind), " ", h("span", { class: "mono" }, address || "no address")],
    "Which records": h("pre", { tabindex: "0", "aria-label": "The query" }, document.query && document.query !== "{}" ? pretty(typeof document.query === "string" ? document.query : JSON.stringify(document.query)) : "every record"),
    Kinds: Array.isArray(document.kinds) ? document.kinds.join(", ") : "all that a run derives",
    "Sent as": document.payload ?? "statement",
    Authentication: configuration.authType ?? "none",
    "Attempts at a record": configuration.maxRetries === undefined ? null : String(Number(configuration.maxRetries) + 1),
    Public: document.isPublic === true ? "yes" : "no",
    Owner: document.owner ?? null,
    Changed: document.updatedAt ? time(document.updatedAt) : null,
    Created: document.createdAt ? time(document.createdAt) : null,
  };
  return h("section", { class: "panel", "aria-labelledby": "what" }, h("h2", { id: "what" }, "What it is"), list(details));
}

const list = (details) => h("dl", { class: "facts-list" }, Object.entries(details).filter(([, value]) => value !== null && value !== undefined && value !== false).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
