import { h } from "../dom.js";
import { editor } from "../forwarder_editor.js";

export const title = () => "New forwarder";

export function render(root, params, context) {
  root.append(h("div", { class: "title" }, h("div", {}, h("h1", {}, "New forwarder"),
    h("p", { class: "dim" }, "Which records go to which receiver."))));
  root.append(editor(null, context));
}
