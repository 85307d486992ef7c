// Questions, on top of a view.

import { h } from "./dom.js";

// Ask, in a dialog. True if the answer is yes.
export function confirmed(title, text, yes, no = "Cancel", kind = "danger") {
  return new Promise((resolve) => {
    const close = (value) => () => { dialog.close(); resolve(value); };
    const dialog = h("dialog", { class: "ask", "aria-labelledby": "ask-title", on: { cancel: close(false) } },
      h("h2", { id: "ask-title" }, title), h("p", {}, text),
      h("p", { class: "actions" },
        h("button", { type: "button", class: kind, on: { click: close(true) } }, yes),
        h("button", { type: "button", autofocus: true, on: { click: close(false) } }, no)));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  });
}
