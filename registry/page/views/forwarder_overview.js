import { empty } from "../dom.js";

export const title = (params, context) => `${context.forwarder.name} · Overview`;

export function render(root, params, context) {
  root.append(empty("Overview", "Nothing is shown here yet."));
}
