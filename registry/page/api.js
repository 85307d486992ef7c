// How the page asks the service. Everything goes through `ask`.

// The service answered that it cannot be done, or did not answer.
export class Problem extends Error {
  constructor(status, answer, headers = new Headers()) {
    super(answer?.message || `The service answered ${status}.`);
    this.name = "Problem";
    this.status = status; // 0: no answer came
    this.answer = answer ?? {};
    this.faults = this.answer.faults ?? [];
    this.warnings = this.answer.warnings ?? [];
    this.retryAfter = Number(headers.get("Retry-After")) || 0; // seconds; 0: it does not say
  }
}

// "gone": the service did not answer. "answered": it did, after that or not.
export const events = new EventTarget();

const SECONDS = 90; // after which an answer is no longer waited for

let signInAgain = null; // asks for key and secret; true once somebody has signed in
export function onSignedOut(handler) {
  signInAgain = handler;
}

// Ask, and give `{ answer, status, etag, headers }`; throws Problem for whatever is no 2xx.
// `body`: a value to be sent as JSON. `json`: a text that is JSON already, sent as it is: a number stays as it is written.
// `ifMatch`: the etag of what is to be changed. `signal`: ends the waiting. `asIs`: a 401 is for the caller.
export async function ask(method, path, { body, json = body === undefined ? undefined : JSON.stringify(body), ifMatch, signal, asIs = false } = {}) {
  const response = await fetched(method, path, { json, ifMatch, signal });
  const text = await response.text();
  let answer = null;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    answer = { message: response.ok ? "The answer cannot be read." : text.slice(0, 300) };
  }
  if (response.ok) return { answer, status: response.status, etag: response.headers.get("ETag"), headers: response.headers };
  if (response.status === 401 && !asIs && signInAgain && (await signInAgain())) {
    return ask(method, path, { json, ifMatch, signal });
  }
  const problem = new Problem(response.status, answer, response.headers);
  if (problem.status === 429 && problem.retryAfter) problem.message += ` (in ${problem.retryAfter} s)`;
  throw problem;
}

async function fetched(method, path, { json, ifMatch, signal }) {
  const headers = { Accept: "application/json", "X-Requested-With": "XMLHttpRequest" };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  if (ifMatch) headers["If-Match"] = ifMatch;
  try {
    const response = await fetch(path, {
      method,
      headers,
      body: json,
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.any([AbortSignal.timeout(SECONDS * 1000), ...(signal ? [signal] : [])]),
    });
    events.dispatchEvent(new Event("answered"));
    return response;
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    events.dispatchEvent(new Event("gone"));
    throw new Problem(0, { message: "The service does not answer. Nothing was lost here: try again once it does." });
  }
}

export const FORWARDERS = "/api/v2/statementforwarding";
export const CONSOLE = "/api/console";
export const forwarderPath = (id) => `${FORWARDERS}/${encodeURIComponent(id)}`;

// A query string of those parameters that have a value.
export function parameters(given) {
  const kept = Object.entries(given).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return kept.length ? `?${new URLSearchParams(kept)}` : "";
}
