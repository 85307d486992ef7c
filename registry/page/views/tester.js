import { empty, h } from "../dom.js";

export const title = () => "Query tester";

export function render(root) {
  root.append(h("h1", {}, "Query tester"), empty("Which forwarders would a record reach?", "Nothing is shown here yet."));
}
