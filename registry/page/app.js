// The frame of the page: which view an address is, who has signed in, and what holds for every view.
//
// A view is a file of `views/` with two exports:
//   title(params, context)         the text of the window's title
//   render(root, params, context)  fills `root`; may be async. The first <h1> in it gets the focus
// To add one, name it in ROUTES, and its address in `registry/pages.py`.
//
// context:
//   session            who has signed in: { name, organisation: { id, name }, user, may_create }
//   query              the address's parameters, as URLSearchParams
//   signal             ends when the view is left: give it to `ask`
//   go(address)        show another view; go(address, { replace: true }) in the place of this one in the history;
//                      { remember: value } is what it finds in `remembered`
//   address(address)   only change the address, as for a filter; { push: true } as a step of its own in the history
//   reload()           show this view anew
//   remember(value)    keep a value with this step of the history: `remembered` is it after Back and after a reload
//   every(seconds, f)  call f again and again until the view is left; not while the window is hidden
//   unsaved(f)         f() says whether leaving would lose what was typed; then it is asked about
//   forwarder          in the tabs of a forwarder: { id, name, document, etag, rights: { may_edit, jobs, replays, state } }

import { CONSOLE, Problem, ask, events, onSignedOut } from "./api.js";
import { confirmed } from "./dialog.js";
import { all, empty, find, h } from "./dom.js";
import * as frame from "./forwarder_frame.js";
import { askToSignIn } from "./views/sign_in.js";

const ROUTES = [
  { path: "/sign-in", view: "sign_in", open: true },
  { path: "/forwarders", view: "forwarders" },
  { path: "/forwarders/new", view: "forwarder_new" },
  { path: "/forwarders/import", view: "forwarders_import" },
  { path: "/forwarders/:id/overview", view: "forwarder_overview", frame },
  { path: "/forwarders/:id/edit", view: "forwarder_edit", frame },
  { path: "/forwarders/:id/records", view: "forwarder_records", frame },
  { path: "/forwarders/:id/history", view: "forwarder_history", frame },
  { path: "/tester", view: "tester" },
  { path: "/jobs", view: "jobs" },
  { path: "/jobs/:id", view: "job" },
];
const MOVED = [["/", "/forwarders"], ["/forwarders/:id", "/forwarders/:id/overview"]];

const main = find("main");
let session = null;
let current = null; // the view that is shown: { controller, unsaved, address, index }
let showing = 0;

// Addresses

function matched(path, pattern) {
  const [given, wanted] = [path.split("/"), pattern.split("/")];
  if (given.length !== wanted.length) return null;
  const params = {};
  for (const [place, name] of wanted.entries()) {
    if (name.startsWith(":")) {
      try { params[name.slice(1)] = decodeURIComponent(given[place]); } catch { return null; }
      if (!given[place]) return null;
    } else if (name !== given[place]) return null;
  }
  return params;
}

function routed(path) {
  for (const [from, to] of MOVED) {
    const params = ROUTES.some((route) => route.path === path) ? null : matched(path, from);
    if (params) return { moved: to.replace(/:(\w+)/, (_, name) => encodeURIComponent(params[name])) };
  }
  for (const route of ROUTES) {
    const params = matched(path, route.path);
    if (params) return { route, params };
  }
  return null;
}

const address = () => location.pathname + location.search;

async function go(to, { replace = false, remember } = {}) {
  if (!(await mayLeave())) return;
  const index = (history.state?.index ?? 0) + (replace ? 0 : 1);
  history[replace ? "replaceState" : "pushState"]({ index, remembered: remember }, "", to);
  await show({ moved: true });
}

// Views

async function show({ moved }) {
  const turn = ++showing;
  current?.controller.abort(new DOMException("the view was left", "AbortError"));
  const here = routed(location.pathname);
  if (here?.moved) return go(here.moved + location.search, { replace: true });
  if (here && !here.route.open && !session) {
    return go(`/sign-in?to=${encodeURIComponent(address())}`, { replace: true });
  }
  const controller = new AbortController();
  current = { controller, unsaved: null, address: address(), index: history.state?.index ?? 0 };
  document.documentElement.toggleAttribute("data-busy", true);
  const root = h("div", { class: "view" });
  let title = "Not found";
  try {
    if (here) {
      const context = contextOf(current);
      const module = await viewOf(here.route);
      const inner = here.route.frame ? await here.route.frame.render(root, here.params, context) : root;
      await module.render(inner, here.params, context);
      title = module.title(here.params, context);
    } else {
      root.append(h("h1", {}, "Not found"), empty("There is no such page", "The address may have been cut off.", h("a", { href: "/forwarders" }, "All forwarders")));
    }
  } catch (error) {
    if (turn !== showing || error.name === "AbortError") return;
    root.replaceChildren(...failed(error));
    title = "Not shown";
  }
  if (turn !== showing) return;
  document.documentElement.toggleAttribute("data-busy", false);
  document.title = title === "Forwarders" ? title : `${title} · Forwarders`;
  const tab = moved && document.activeElement?.closest(".tabs a")?.getAttribute("href");
  main.replaceChildren(root);
  for (const link of all("header nav a")) {
    const is = location.pathname === link.pathname || location.pathname.startsWith(`${link.pathname}/`);
    is ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  document.body.toggleAttribute("data-signed-in", Boolean(session));
  focusOn(root, moved, tab);
  current.shown?.();
}

function viewOf(route) {
  return import(`./views/${route.view}.js`).catch((error) => {
    if (error instanceof TypeError) {
      events.dispatchEvent(new Event("gone"));
      throw new Problem(0, { message: "The service does not answer." });
    }
    throw error;
  });
}

// After a change of view the focus is where reading goes on. A tab that was pressed keeps it.
function focusOn(root, moved, tab) {
  const first = (tab && all(".tabs a", root).find((link) => link.getAttribute("href") === tab)) || find("[autofocus]", root) || (moved && find("h1", root));
  if (!first) return;
  if (first.tagName === "H1") first.tabIndex = -1;
  first.focus({ preventScroll: true });
  if (moved && !current.keepsScroll) scrollTo(0, 0);
}

function failed(error) {
  if (!(error instanceof Problem)) {
    console.error(error);
    return [h("h1", {}, "This did not work"), empty("A mistake of this page", String(error.message))];
  }
  if (error.status === 0) current.wantsAnswer = true;
  const title = error.status === 404 ? "Not found" : "Not shown";
  const again = h("button", { type: "button", on: { click: () => show({ moved: false }) } }, "Try again");
  return [h("h1", {}, title), empty(error.message, error.status === 404 ? "It may have been deleted meanwhile." : "", again, h("a", { href: "/forwarders" }, "All forwarders"))];
}

function contextOf(view) {
  const { signal } = view.controller;
  return {
    session,
    query: new URLSearchParams(location.search),
    signal,
    remembered: history.state?.remembered,
    go,
    reload: () => show({ moved: false }),
    address(to, { push = false } = {}) {
      if (to === address()) return;
      const index = history.state?.index ?? 0;
      push ? history.pushState({ index: index + 1 }, "", to) : history.replaceState({ ...history.state }, "", to);
      view.address = to;
      view.index = history.state.index;
    },
    remember(value) {
      if (!signal.aborted) history.replaceState({ ...history.state, remembered: value }, "");
    },
    every(seconds, run) {
      const timer = setInterval(() => document.hidden || run(), seconds * 1000);
      signal.addEventListener("abort", () => clearInterval(timer));
    },
    unsaved(isUnsaved) {
      view.unsaved = isUnsaved;
    },
    // Called once the view is in the page. `keepsScroll`: it scrolls itself.
    shown(run, { keepsScroll = false } = {}) {
      view.shown = run;
      view.keepsScroll = keepsScroll;
    },
    signedIn(who) {
      session = who;
      showWho();
    },
  };
}

// Leaving with something unsaved

async function mayLeave() {
  if (!current?.unsaved?.()) return true;
  return confirmed("Leave without saving?", "What you typed here is not saved yet, and would be lost.", "Leave", "Stay");
}

let returning = false; // on the way back to a view that is not to be left
addEventListener("popstate", async (event) => {
  if (returning) { returning = false; return; }
  if (current?.unsaved?.()) {
    const steps = (event.state?.index ?? 0) - current.index;
    returning = true;
    history.go(-steps);
    if (!(await mayLeave())) return;
    current.unsaved = null;
    history.go(steps);
    return;
  }
  await show({ moved: true });
});

addEventListener("beforeunload", (event) => {
  if (current?.unsaved?.()) event.preventDefault();
});

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (link.target || link.hasAttribute("download") || link.origin !== location.origin || !routed(link.pathname)) return;
  event.preventDefault();
  if (link.hash && link.pathname === location.pathname) return find(link.hash)?.focus();
  go(link.pathname + link.search);
});

// Who has signed in

function showWho() {
  find("#who").replaceChildren(...(session ? [h("strong", {}, session.name), h("span", { class: "dim" }, session.organisation.name)] : []));
  document.body.toggleAttribute("data-signed-in", Boolean(session));
}

find("#sign-out").addEventListener("click", async () => {
  if (!(await mayLeave())) return;
  current.unsaved = null;
  try {
    await ask("DELETE", `${CONSOLE}/session`, { asIs: true });
  } catch (error) {
    // Whoever wants to be out is not to believe so before the service has said it.
    if (error.status === 0) return;
  }
  session = null;
  showWho();
  await go("/sign-in");
});

// A session may end in the middle of work. Then it is asked for anew on top of the view, which keeps what was typed.
onSignedOut(async () => {
  if (!session) {
    await go(`/sign-in?to=${encodeURIComponent(address())}`, { replace: true });
    return false;
  }
  const who = await askToSignIn(session);
  if (who && who.client === session.client) return true;
  current.unsaved = null;
  session = who;
  showWho();
  await go(who ? "/forwarders" : "/sign-in");
  return false;
});

// The service is gone, and back

const banner = find("#gone");
let waiting = null;
events.addEventListener("gone", () => {
  banner.hidden = false;
  waiting ??= setInterval(() => fetch("/health", { cache: "no-store" }).then(back, () => null), 2000);
});
events.addEventListener("answered", () => back());

function back() {
  if (banner.hidden) return;
  banner.hidden = true;
  clearInterval(waiting);
  waiting = null;
  if (current?.wantsAnswer) show({ moved: false });
}

// Keys: / goes to the search of the view

addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, textarea, select, dialog")) return;
  const search = find("[data-search]");
  if (!search) return;
  event.preventDefault();
  search.focus();
  search.select();
});

// Start

history.scrollRestoration = "manual";
// A step of the history that an address was typed for has no place among the others yet.
if (history.state?.index === undefined) history.replaceState({ ...history.state, index: history.length }, "");
try {
  session = (await ask("GET", `${CONSOLE}/session`, { asIs: true })).answer;
} catch (error) {
  if (error.status === 0) current = { controller: new AbortController(), wantsAnswer: true };
}
showWho();
await show({ moved: false });
// Now, so that a service that is gone later leaves the views.
for (const route of ROUTES) import(`./views/${route.view}.js`).catch(() => null);
