import { empty } from "../dom.js";

export const title = (params, context) => `${context.forwarder.name} · History`;

export function render(root, params, context) {
  root.append(empty("History", "Nothing is shown here yet."));
}
