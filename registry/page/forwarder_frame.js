// What stands around every tab of a forwarder: its name, how it stands, where it sends, and the tabs.

import { CONSOLE, ask, forwarderPath } from "./api.js";
import { copyButton, h, icon, standing } from "./dom.js";
import { actions } from "./forwarder_actions.js";

const TABS = { overview: "Overview", edit: "Edit", records: "Records", history: "History" };

// Reads the forwarder, puts it into the context, and gives the place that the tab is to fill.
export async function render(root, { id }, context) {
  const [{ answer, etag }, rights] = await Promise.all([
    ask("GET", forwarderPath(id), { signal: context.signal }),
    ask("GET", `${CONSOLE}/forwarders/${encodeURIComponent(id)}/rights`, { signal: context.signal }),
  ]);
  context.forwarder = { id, name: nameOf(answer), document: answer, etag, rights: rights.answer };
  const [kind, address] = targetOf(answer);
  const place = h("div", { class: "tab" });
  const here = location.pathname.split("/").at(-1);
  root.append(
    h("p", { class: "crumbs" }, h("a", { href: "/forwarders" }, icon("back"), "All forwarders")),
    h("div", { class: "title" },
      h("div", {},
        h("h1", {}, context.forwarder.name),
        h("p", { class: "facts" },
          // Active is no news of one that fails.
          standing(rights.answer.state ?? (answer.active === true ? "active" : "inactive")),
          h("span", { class: "chip" }, kind), h("span", { class: "mono" }, address || "no address"),
          h("span", { class: "dim mono" }, id), copyButton(id, "Copy the id"))),
      h("div", { class: "actions" }, actions(context))),
    h("nav", { class: "tabs", "aria-label": "Of this forwarder" },
      Object.entries(TABS).map(([name, label]) =>
        h("a", { href: tabAddress(id, name), "aria-current": name === here ? "page" : null }, label))),
    place,
  );
  return place;
}

export const tabAddress = (id, tab = "overview") => `/forwarders/${encodeURIComponent(id)}/${tab}`;

export const nameOf = (document) =>
  typeof document.description === "string" && document.description.trim() ? document.description : document._id;

// Kind of target and address, as the list shows them.
export function targetOf(document) {
  const configuration = document.configuration ?? {};
  const options = document.kinesisOptions ?? {};
  if (configuration.protocol === "Kinesis") return [TARGETS[options.service === "streams" ? "streams" : "firehose"], options.streamName ?? ""];
  return [TARGETS[configuration.protocol ?? "http"] ?? String(configuration.protocol), configuration.url ?? ""];
}

export const TARGETS = { https: "HTTPS", http: "HTTP", streams: "Kinesis", firehose: "Firehose" };
