// The list: found by words, narrowed down, sorted; more comes as one scrolls.

import { CONSOLE, ask, parameters } from "../api.js";
import { all, count, empty, find, h, icon, number, short, standing, stateName, time } from "../dom.js";
import { TARGETS, tabAddress } from "../forwarder_frame.js";
import { chosenOnes } from "../chosen_forwarders.js";
import { outcome } from "../sample.js";

const PAGE = 100;
const MOST = 1000; // that the service gives at once
const AHEAD = 1500; // pixels below the window
const PAUSE = 150; // milliseconds without a key before a search is asked for
const STATES = ["", "failing", "active", "inactive"];
const COLUMNS = [["State", "health"], ["Forwarder", "name"], ["Target", "target"], ["Last delivery", "last"]];

export const title = () => "Forwarders";

export async function render(root, params, context) {
  const wish = Object.fromEntries(["text", "state", "target", "sort"].map((name) => [name, context.query.get(name) ?? ""]));
  let after = null; // the cursor of the next page
  let loading = null; // ends the loading that is under way
  let total = 0;

  const search = h("input", { type: "search", id: "search", value: wish.text, placeholder: "Search name, target or query", autocomplete: "off", spellcheck: "false", "aria-label": "Search", "data-search": true, "aria-keyshortcuts": "/" });
  const filters = h("div", { class: "segments", role: "group", "aria-label": "State" });
  const targets = h("select", { id: "target", "aria-label": "Kind of target" },
    h("option", { value: "" }, "All targets"), Object.entries(TARGETS).map(([value, label]) => h("option", { value, selected: value === wish.target }, label)));
  const counted = h("p", { class: "counted", role: "status", id: "count" });
  const heads = h("div", { role: "row", class: "row heads" });
  const rows = h("div", { role: "rowgroup", id: "rows" });
  const table = h("div", { role: "table", class: "list", "aria-label": "Forwarders" }, h("div", { role: "rowgroup" }, heads), rows);
  const nothing = h("div", { id: "nothing" });
  const end = h("div", { class: "end" });
  const chosen = chosenOnes(context, () => load({ anew: true, least: rows.childElementCount }));

  root.append(
    h("div", { class: "title" }, h("h1", {}, "Forwarders"),
      h("div", { class: "actions" }, context.session.may_create && h("a", { class: "button", id: "to-import", href: "/forwarders/import" }, "Import"), context.session.may_create && h("a", { class: "button primary", id: "new", href: "/forwarders/new" }, icon("plus"), "New forwarder"))),
    h("div", { class: "tools" }, h("div", { class: "search" }, icon("search"), search, h("kbd", { "aria-hidden": "true" }, "/")), filters, targets),
    counted, chosen.bar, table, nothing, end);

  // More is read before the end comes into view; a page may be shorter than the window.
  const more = () => {
    if (after && !loading && table.isConnected && end.getBoundingClientRect().top < innerHeight + AHEAD) load();
  };

  let pause = null;
  search.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => want({ text: search.value }), PAUSE);
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && search.value) { event.preventDefault(); search.value = ""; want({ text: "" }); }
    if (event.key === "ArrowDown") { event.preventDefault(); find("a", rows)?.focus(); }
  });
  targets.addEventListener("change", () => want({ target: targets.value }, { push: true }));
  rows.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const links = all("a", rows);
    const next = links[links.indexOf(document.activeElement) + step];
    event.preventDefault();
    (next ?? (step < 0 ? search : links.at(-1))).focus();
  });

  const remembered = context.remembered ?? { rows: 0, at: 0, top: 0 };
  let noting = null;
  const noteNow = () => {
    clearTimeout(noting);
    context.remember({ rows: rows.childElementCount, ...firstSeen() });
  };
  const note = () => {
    clearTimeout(noting);
    noting = setTimeout(noteNow, 100);
  };
  // Whoever scrolls and goes on at once finds the place again, too.
  rows.addEventListener("click", noteNow);
  addEventListener("scroll", () => { note(); more(); }, { passive: true, signal: context.signal });
  addEventListener("resize", more, { passive: true, signal: context.signal });

  // The first row that is seen, and how far below the window's upper edge it begins. Not pixels from the beginning: of
  // rows that were never shown the height is a guess.
  function firstSeen() {
    let [low, high] = [0, rows.childElementCount];
    while (low < high) {
      const middle = (low + high) >> 1;
      rows.children[middle].getBoundingClientRect().bottom < 0 ? (low = middle + 1) : (high = middle);
    }
    return { at: low, top: rows.children[low]?.getBoundingClientRect().top ?? 0 };
  }

  function scrollBack() {
    const row = rows.children[remembered.at];
    if (row) scrollBy(0, row.getBoundingClientRect().top - remembered.top);
  }

  await load({ anew: true, least: remembered.rows });
  const comesBack = remembered.at > 0;
  context.shown(() => {
    if (comesBack) {
      scrollBack();
      // Once more, when the rows around it have their heights.
      requestAnimationFrame(() => requestAnimationFrame(scrollBack));
    }
    more();
  }, { keepsScroll: comesBack });

  // Narrow down, or sort. What is typed is no step of its own in the history; what is chosen is.
  async function want(changed, { push = false } = {}) {
    Object.assign(wish, changed);
    context.address(`/forwarders${parameters(wish)}`, { push });
    await load({ anew: true });
  }

  async function load({ anew = false, least = 0 } = {}) {
    if (anew) loading?.abort();
    const mine = (loading = new AbortController());
    const signal = AbortSignal.any([context.signal, mine.signal]);
    try {
      let cursor = anew ? null : after;
      const found = [];
      do {
        // Whoever scrolls on gets as many again as there are: ten thousand come in a dozen requests.
        const limit = Math.min(MOST, Math.max(PAGE, anew ? 0 : rows.childElementCount, least - found.length));
        const { answer } = await ask("GET", `${CONSOLE}/forwarders${parameters({ ...wish, after: cursor, limit })}`, { signal });
        found.push(...answer.forwarders);
        cursor = answer.after;
        if (!cursor || found.length >= least) show(answer, found, anew);
      } while (cursor && found.length < least);
      after = cursor;
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === undefined || (anew && !table.isConnected)) throw error;
      // What is listed stays; a query that is being typed is wrong most of the time.
      counted.replaceChildren(h("span", { class: "bad" }, error.message));
      counted.setAttribute("role", "alert");
      return;
    } finally {
      if (loading === mine) loading = null;
    }
    more();
  }

  function show(answer, found, anew) {
    total = answer.total;
    const shown = found.map((forwarder, place) => row(forwarder, (anew ? 0 : rows.childElementCount) + place, answer.knows_deliveries, chosen));
    if (anew) chosen.keep(found.map(({ id }) => id));
    anew ? rows.replaceChildren(...shown) : rows.append(...shown);
    table.setAttribute("aria-rowcount", total + 1);
    counted.setAttribute("role", "status");
    counted.replaceChildren(total === answer.all ? count(total, "forwarder") : `${number(total)} of ${count(answer.all, "forwarder")}`);
    showFilters(answer.states);
    showHeads();
    table.hidden = total === 0;
    nothing.replaceChildren(...(total ? [] : [answer.all ? noMatch() : noForwarders()]));
    note();
  }

  function showFilters(states) {
    const sum = (...names) => names.reduce((all, name) => all + (states[name] ?? 0), 0);
    const counts = { "": sum("failing", "ok", "quiet", "inactive"), failing: sum("failing"), active: sum("failing", "ok", "quiet"), inactive: sum("inactive") };
    const focused = filters.contains(document.activeElement) ? document.activeElement.value : null;
    filters.replaceChildren(...STATES.map((state) =>
      h("button", { type: "button", value: state, class: state === "failing" && counts.failing ? "failing some" : state, "aria-pressed": String(state === wish.state), on: { click: () => want({ state }, { push: true }) } },
        { "": "All", active: "Active" }[state] ?? stateName(state), h("span", { class: "n" }, number(counts[state])))));
    if (focused !== null) find(`button[value="${focused}"]`, filters)?.focus();
  }

  function showHeads() {
    const [sorted, descends] = [(wish.sort || "health").replace("-", ""), wish.sort.startsWith("-")];
    const focused = heads.contains(document.activeElement) ? document.activeElement.value : null;
    heads.replaceChildren(...COLUMNS.map(([label, name]) => {
      const is = name === sorted;
      // What was last delivered is mostly looked for from the newest on.
      const next = is ? (descends ? name : `-${name}`) : name === "last" ? "-last" : name;
      return h("div", { role: "columnheader", "aria-sort": is ? (descends ? "descending" : "ascending") : "none" },
        h("button", { type: "button", value: name, on: { click: () => want({ sort: next === "health" ? "" : next }, { push: true }) } }, label, is && icon(descends ? "down" : "up")));
    }));
    if (focused !== null) find(`button[value="${focused}"]`, heads)?.focus();
  }

  function noMatch() {
    const said = wish.text ? `Nothing matches “${short(wish.text, 60)}”` : "No forwarder is like that";
    return empty(said, "Searching looks at name, id, target and query. A MongoDB query, such as {\"active\": true}, works too.",
      h("button", { type: "button", on: { click: () => { search.value = targets.value = ""; want({ text: "", state: "", target: "" }, { push: true }); } } }, "Show all"));
  }

  function noForwarders() {
    return empty("No forwarders yet", "A forwarder says which records go to which receiver. Make the first one here, or through the API.",
      context.session.may_create ? h("a", { class: "button primary", href: "/forwarders/new" }, icon("plus"), "New forwarder") : null, h("a", { href: "/docs" }, "The API"));
  }
}

function row(forwarder, place, knowsDeliveries, chosen) {
  const { id, name, health, last } = forwarder;
  return h("div", { role: "row", class: "row", "aria-rowindex": place + 2 },
    h("div", { role: "cell" }, forwarder.may_edit && chosen.box(id, name), standing(health.state)),
    h("div", { role: "cell", class: "what" }, h("a", { href: tabAddress(id), class: "name" }, name),
      forwarder.problem ? h("span", { class: "bad" }, forwarder.problem)
        : h("span", { class: "query", title: forwarder.query }, forwarder.query && forwarder.query !== "{}" ? forwarder.query : "every record")),
    h("div", { role: "cell", class: "where" }, h("span", { class: "chip" }, TARGETS[forwarder.target]), h("span", { class: "address", title: forwarder.address }, forwarder.address || "no address")),
    h("div", { role: "cell", class: "when" }, last ? [outcome(last), h("span", { class: "dim" }, time(last.settled_at))]
      : h("span", { class: "dim" }, knowsDeliveries ? "none known" : "not watched")));
}
