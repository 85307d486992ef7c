import { empty, h } from "../dom.js";

export const title = () => "Jobs";

export function render(root) {
  root.append(h("h1", {}, "Jobs"), empty("No jobs", "What is sent again from a forwarder's page shows here."));
}
