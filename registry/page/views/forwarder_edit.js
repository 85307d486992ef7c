import { editor } from "../forwarder_editor.js";

export const title = (params, context) => `${context.forwarder.name} · Edit`;

export function render(root, params, context) {
  root.append(editor(context.forwarder, context));
}
