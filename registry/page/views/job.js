import { empty, h } from "../dom.js";

export const title = (params) => `Job ${params.id}`;

export function render(root, params) {
  root.append(h("h1", {}, `Job ${params.id}`), empty("No such job", "There are no jobs yet."));
}
