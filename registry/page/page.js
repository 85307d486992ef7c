// The page of the forwarders service. It lists, edits and tests forwarders through the REST interface, like any client.
"use strict";

const REST = "/api/v2/statementforwarding";
const PAGE = 50;
const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Key and secret are kept in this page alone: in no cookie that another site could use, and nowhere on the disk.
let authorization = "";
let shown = null; // the forwarder in the form as it was read, null for a new one
let etag = null;
let skip = 0;
let filled = new Map(); // by field: the text that the form showed for the forwarder as it was read

async function ask(method, path, body, headers = {}) {
  const response = await fetch(REST + path, {
    method,
    headers: { Authorization: authorization, ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "omit",
  });
  const text = await response.text();
  let answer = null;
  try { answer = text ? JSON.parse(text) : null; } catch { answer = { message: text }; }
  return { ok: response.ok, status: response.status, answer, headers: response.headers };
}

// What is put into the page is text, never markup: names and answers come from other people.
function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

function show(id) {
  for (const section of ["enter", "list", "edit"]) find(`#${section}`).hidden = section !== id;
  find("#leave").hidden = id === "enter";
}

function problem(section, text = "") {
  find(`#${section} .problem`).textContent = text;
}

// Signing in

find("#enter").addEventListener("submit", async (event) => {
  event.preventDefault();
  const bytes = new TextEncoder().encode(`${find("#key").value}:${find("#secret").value}`);
  authorization = "Basic " + btoa(String.fromCharCode(...bytes));
  const { ok, answer } = await ask("GET", "/count");
  if (!ok) return problem("enter", answer.message);
  problem("enter");
  find("#secret").value = "";
  find("#who").textContent = find("#key").value.slice(0, 12);
  await list();
});

find("#leave").addEventListener("click", () => {
  authorization = "";
  location.reload();
});

// The list

find("#search").addEventListener("submit", (event) => { event.preventDefault(); list(); });
find("#more").addEventListener("click", () => list(true));
find("#new").addEventListener("click", () => edit(null));

async function list(more = false) {
  skip = more ? skip + PAGE : 0;
  const query = find("#filter").value.trim();
  const filter = query ? `query=${encodeURIComponent(query)}` : "";
  const [page, count, last] = await Promise.all([
    ask("GET", `?sort=-active,description&skip=${skip}&limit=${PAGE}&${filter}`),
    ask("GET", `/count?${filter}`),
    ask("GET", "/deliveries"),
  ]);
  show("list");
  problem("list", page.ok ? "" : page.answer.message);
  if (!page.ok) return;
  const rows = find("#rows");
  if (!more) rows.replaceChildren();
  for (const forwarder of page.answer) rows.append(row(forwarder, last.ok ? last.answer[forwarder._id] : null));
  find("#count").textContent = `${rows.childElementCount} of ${count.answer.count} forwarders`;
  find("#more").hidden = rows.childElementCount >= count.answer.count;
}

function row(forwarder, last) {
  const made = element("tr");
  const name = element("td");
  const link = element("a", forwarder.description || forwarder._id);
  link.href = `#${encodeURIComponent(forwarder._id)}`;
  link.addEventListener("click", (event) => { event.preventDefault(); edit(forwarder._id); });
  name.append(link, element("div", forwarder._id, "id"));
  const query = element("td");
  query.append(element("code", typeof forwarder.query === "string" ? forwarder.query : JSON.stringify(forwarder.query ?? {})));
  const active = forwarder.active === true;
  made.append(element("td", active ? "● active" : "○ off", active ? "good" : "off"), name, element("td", target(forwarder)), query, delivery(last));
  return made;
}

function target(forwarder) {
  const configuration = forwarder.configuration || {};
  if (configuration.protocol !== "Kinesis") return `${configuration.protocol || "http"}://${configuration.url || ""}`;
  const options = forwarder.kinesisOptions || {};
  return `${options.service || "firehose"} ${options.streamName || ""}`;
}

function delivery(last) {
  if (!last) return element("td", "none known", "off");
  const made = element("td");
  made.append(outcome(last), element("div", when(last.settled_at), "id"));
  return made;
}

function outcome(entry) {
  const good = entry.outcome === "delivered";
  return element("span", good ? "delivered" : `given up: ${entry.reason || entry.outcome}`, good ? "good" : "bad");
}

const when = (time) => (time ? time.replace("T", " ").replace(/\.\d+Z$/, " UTC") : "");

// The form

const fields = () => all("#form [name]");
const valueAt = (document, path) => path.split(".").reduce((value, name) => value?.[name], document);

function put(document, path, value) {
  const names = path.split(".");
  const last = names.pop();
  names.reduce((inner, name) => (inner[name] ??= {}), document)[last] = value;
}

async function edit(id) {
  let document = { active: true, configuration: { protocol: "https" } };
  shown = etag = null;
  if (id !== null) {
    const { ok, answer, headers } = await ask("GET", `/${encodeURIComponent(id)}`);
    if (!ok) { show("list"); return problem("list", answer.message); }
    document = shown = answer;
    etag = headers.get("ETag");
  }
  fill(document);
  problem("edit");
  faults([]);
  warnings([]);
  find("#receipt").hidden = true;
  show("edit");
  await deliveries();
}

function title() {
  find("#title").textContent = shown ? shown.description || shown._id : "New forwarder";
}

function fill(document) {
  title();
  filled = new Map();
  for (const field of fields()) {
    const value = valueAt(document, field.name);
    if (field.type === "checkbox") field.checked = value === true;
    else field.value = textOf(field, value);
    // What the control made of the text: one of a single line, for instance, takes line breaks out.
    if (shown) filled.set(field.name, field.value);
  }
  for (const id of ["test", "delete"]) find(`#${id}`).hidden = !shown;
  arrange();
}

// How a field of the form shows a value of the document. Empty: the document has none.
function textOf(field, value) {
  if (value === undefined || value === null) return "";
  if (field.dataset.kind === "secrets" && Array.isArray(value)) return value.join("\n");
  if (field.dataset.kind === "choices" && Array.isArray(value)) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

// The value of the document that a field of the form shows, where that had the value `before`.
function valueOf(field, before) {
  const { kind } = field.dataset;
  const text = field.value;
  if ((kind === "number" || kind === "count") && /^\d+(\.\d+)?$/.test(text)) return Number(text);
  if (kind === "choices" && text) return text.split(",").map((choice) => choice.trim()).filter(Boolean);
  if (kind !== "secrets") return text;
  const secrets = text.split("\n").map((line) => line.trim()).filter(Boolean);
  return secrets.length === 1 && !Array.isArray(before) ? secrets[0] : secrets;
}

// What belongs to another protocol or authentication is not shown, unless there is a fault in it.
function arrange() {
  const kinesis = find('[name="configuration.protocol"]').value === "Kinesis";
  find("#http").hidden = kinesis && !find("#http .fault");
  find("#kinesis").hidden = !kinesis && !find("#kinesis .fault");
  const auth = find('[name="configuration.authType"]').value;
  for (const label of all("[data-auth]")) label.hidden = label.dataset.auth !== auth && !find(".fault", label);
}

find("#form").addEventListener("change", arrange);

// Only what was changed here is sent. Everything else stays as it is, with what this form does not know.
function changes() {
  const changed = {};
  for (const field of fields()) {
    const before = shown === null ? undefined : valueAt(shown, field.name);
    if (field.type === "checkbox") {
      if (field.checked !== (before === true)) put(changed, field.name, field.checked);
    } else if (field.value !== (filled.get(field.name) ?? "")) {
      put(changed, field.name, field.value === "" ? null : valueOf(field, before));
    }
  }
  return changed;
}

find("#form").addEventListener("submit", async (event) => {
  event.preventDefault();
  find("#save").disabled = true;
  try {
    const sent = changes();
    const { ok, status, answer, headers } = shown
      ? await ask("PATCH", `/${encodeURIComponent(shown._id)}`, sent, { "If-Match": etag })
      : await ask("POST", "", sent);
    faults(ok ? [] : answer.faults || []);
    if (!ok) {
      title();
      problem("edit", status === 422 ? "Not saved: see the fields." : answer.message);
      // Whoever saves is at the end of the form. What is wrong may be far up, so go there.
      const faulty = find(".faulty");
      if (faulty) faulty.focus();
      else find("#edit").scrollIntoView();
      return;
    }
    shown = answer;
    etag = headers.get("ETag");
    fill(shown);
    problem("edit");
    warnings(JSON.parse(headers.get("Forwarder-Warnings") || "[]"));
    find("#title").textContent += " — saved";
    await deliveries();
  } finally {
    find("#save").disabled = false;
  }
});

function faults(problems) {
  for (const old of all("#form .fault")) old.remove();
  for (const field of all(".faulty")) field.classList.remove("faulty");
  const rest = [];
  for (const { field: path, message } of problems) {
    // A fault may be about a part of what a field holds, such as one header.
    const field = fields().find(({ name }) => path === name || path.startsWith(name + ".") || path.startsWith(name + "["));
    if (!field) { rest.push(`${path} ${message}`); continue; }
    field.classList.add("faulty");
    field.after(element("span", path === field.name ? message : `${path.slice(field.name.length + 1)} ${message}`, "fault"));
  }
  if (rest.length) find("#form .actions").before(element("span", rest.join("; "), "fault"));
  arrange();
}

function warnings(notes) {
  find("#warnings").replaceChildren(...notes.map(({ field, message }) => element("li", `${field} ${message}`)));
}

find("#back").addEventListener("click", () => list());

find("#delete").addEventListener("click", async () => {
  if (!confirm(`Delete ${shown.description || shown._id}?`)) return;
  const { ok, answer } = await ask("DELETE", `/${encodeURIComponent(shown._id)}`, undefined, { "If-Match": etag });
  if (!ok) return problem("edit", answer.message);
  await list();
});

find("#test").addEventListener("click", async () => {
  if (Object.keys(changes()).length) return problem("edit", "Save first: a sample goes by what is saved.");
  find("#test").disabled = true;
  problem("edit");
  try {
    const { ok, answer } = await ask("POST", `/${encodeURIComponent(shown._id)}/test`, {});
    faults(ok ? [] : answer.faults || []);
    if (!ok) return problem("edit", answer.message);
    const receipt = answer.receipt;
    const details = { outcome: outcome(receipt), status: receipt.status, record: `${receipt.kind} ${receipt.id}`,
      "query matches it": answer.matches ? "yes" : "no: it was sent all the same", shard: receipt.shard,
      answer: receipt.response, sent: receipt.payload };
    find("#receipt dl").replaceChildren(...Object.entries(details).filter(([, value]) => value !== null).flatMap(([name, value]) => {
      const description = element("dd");
      description.append(value);
      return [element("dt", name), description];
    }));
    find("#receipt").hidden = false;
  } finally {
    find("#test").disabled = false;
  }
});

async function deliveries() {
  find("#deliveries").hidden = true;
  if (!shown) return;
  const { ok, answer } = await ask("GET", `/${encodeURIComponent(shown._id)}/deliveries?limit=20`);
  if (!ok || !answer.length) return;
  find("#deliveries tbody").replaceChildren(...answer.map((entry) => {
    const made = element("tr");
    const result = element("td");
    result.append(outcome(entry));
    made.append(element("td", when(entry.settled_at)), result, element("td", entry.id, "id"), element("td", entry.kind),
      element("td", String(entry.attempts)), element("td", [entry.status, entry.response].filter(Boolean).join(" ")));
    return made;
  }));
  find("#deliveries").hidden = false;
}
