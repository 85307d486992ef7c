// Signing in: a view of its own, and a dialog where a session has ended in the middle of work.

import { CONSOLE, ask } from "../api.js";
import { answerPlace, doing, h } from "../dom.js";

export const title = () => "Sign in";

export function render(root, _, context) {
  const to = context.query.get("to") ?? "";
  // Only to this page: an address that somebody else has written may lead anywhere.
  const onward = () => context.go(to.startsWith("/") && !to.startsWith("//") && !to.startsWith("/sign-in") ? to : "/forwarders", { replace: true });
  if (context.session) return onward();
  root.append(h("div", { class: "entrance" },
    h("h1", {}, "Sign in"),
    h("p", { class: "dim" }, "See which forwarders deliver, try them, and mend what does not."),
    form((who) => {
      context.signedIn(who);
      onward();
    }),
    h("p", { class: "hint" }, "Key and secret are those of a client of this service. Whoever runs it makes one with ", h("code", {}, "python -m registry client add"), ".")));
  return undefined;
}

// Asks whoever was signed in to do so again. Gives who has signed in; null if nobody wants to.
export function askToSignIn(before) {
  asked ??= new Promise((resolve) => {
    const done = (who) => { asked = null; dialog.close(); dialog.remove(); resolve(who); };
    const dialog = h("dialog", { class: "ask", "aria-labelledby": "again-title" },
      h("h2", { id: "again-title" }, "Sign in again"),
      h("p", {}, `Your session has ended. What you typed is still here; sign in as ${before.name} to go on.`),
      form(done, before.client),
      h("button", { type: "button", class: "quiet", on: { click: () => done(null) } }, "Sign in as somebody else"));
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    document.body.append(dialog);
    dialog.showModal();
  });
  return asked;
}

let asked = null;

function form(done, key = "") {
  const answer = answerPlace();
  const button = h("button", { class: "primary" }, "Sign in");
  const made = h("form", { class: "stack", id: "sign-in", novalidate: true },
    h("label", {}, "Key", h("input", { name: "key", autocomplete: "username", spellcheck: "false", value: key, autofocus: !key })),
    h("label", {}, "Secret", h("input", { name: "secret", type: "password", autocomplete: "current-password", autofocus: Boolean(key) })),
    h("div", { class: "action" }, button, answer));
  made.addEventListener("submit", (event) => {
    event.preventDefault();
    const { key, secret } = Object.fromEntries(new FormData(made));
    doing(button, answer, async () => {
      if (!key.trim() || !secret.trim()) {
        made.elements[key.trim() ? "secret" : "key"].focus();
        answer.say("Both key and secret are needed.", "bad");
        return undefined;
      }
      done((await ask("POST", `${CONSOLE}/session`, { body: { key, secret }, asIs: true })).answer);
      return "";
    });
  });
  return made;
}
