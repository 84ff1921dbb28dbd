// Call the ledger's API. Amounts are strings, and so is any other integer that a float does not hold.

const STORED = "ledger key";

// The API key is kept until its tab is closed, and is never part of an address.
let secret = "";
try {
  secret = sessionStorage.getItem(STORED) ?? "";
} catch {
  // A browser may refuse storage: the API key is then kept until the page is left.
}

export const hasKey = () => secret !== "";

export const usedKey = () => secret;

export function useKey(given) {
  secret = given;
  try {
    if (given) sessionStorage.setItem(STORED, given);
    else sessionStorage.removeItem(STORED);
  } catch {
    // See above.
  }
}

// An answer that refuses. `sure` means that nothing was done.
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title);
    Object.assign(this, { status, code: problem.code, title: problem.title, errors: problem.errors ?? {} });
    this.sure = status !== 504 && status !== 500 && status !== 0;
  }
}

const UNREACHABLE = {
  code: "unreachable",
  title: "The ledger does not answer",
  detail: "the request was sent, or could not be; its answer did not arrive",
};

// Return the answer: its data, the path of the next page, its entry, its text.
export async function call(method, path, { body, idempotencyKey, signal } = {}) {
  const headers = { Prefer: "amounts=string" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (idempotencyKey) headers["Idempotency-Key"] = idempotencyKey;
  const { response, read: text } = await send(path, { method, headers, signal, body: body && JSON.stringify(body) }, (given) => given.text());
  const answer = decode(text);
  return { data: answer?.data, next: answer?.next ?? null, entry: response.headers.get("Ledger-Entry"), text };
}

// The whole answer as a file of a media type.
export async function getFile(path, type, signal) {
  return (await send(path, { headers: { Accept: type }, signal }, (given) => given.blob())).read;
}

async function send(path, { headers, ...given }, read) {
  if (secret) headers.Authorization = `Bearer ${secret}`;
  let response, content;
  try {
    response = await fetch(path, { ...given, headers, cache: "no-store" });
    content = await (response.ok ? read(response) : response.text());
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, UNREACHABLE);
  }
  if (!response.ok) {
    throw new Refusal(response.status, decode(content) ?? { code: "unreadable", title: `Status ${response.status}`, detail: "the answer is not the ledger's" });
  }
  return { response, read: content };
}

export const get = (path, signal) => call("GET", path, { signal });

// The data of a GET, or null where it is not found.
export async function find(path, signal) {
  try {
    return (await get(path, signal)).data;
  } catch (refusal) {
    if (refusal.status === 404) return null;
    throw refusal;
  }
}

function decode(text) {
  try {
    return JSON.parse(text, (name, value, context) =>
      Number.isInteger(value) && !Number.isSafeInteger(value) ? (context?.source ?? value) : value);
  } catch {
    return null;
  }
}

// A UUID of version 7, which rises with time (RFC 9562).
export function newIdempotencyKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  let time = Date.now();
  for (let place = 5; place >= 0; place--, time = Math.floor(time / 256)) bytes[place] = time % 256;
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

// Usernames by participant, for as long as a page is shown.
const names = new Map();

export const forgetNames = () => names.clear();

// The username of a side of an entry, also of a participant who has left since; empty where it cannot be found.
export function nameOf(group, participant, entry, signal) {
  const place = `${group}/${participant}`;
  if (!names.has(place)) {
    const found = findName(group, participant, entry, signal).catch((refusal) => {
      names.delete(place);
      if (refusal.status === 404) return "";
      throw refusal;
    });
    names.set(place, found);
  }
  return names.get(place);
}

async function findName(group, participant, entry, signal) {
  const path = `/api/groups/${group}/participants/${participant}`;
  let moment = entry.id;
  if (entry.kind === "exit") {
    // After it they are not there any more.
    const { data } = await get(`${path}/entries?order=desc&limit=1&before=${entry.id}`, signal);
    moment = data[0]?.id ?? moment;
  }
  return (await get(`${path}?at=${moment}`, signal)).data.username;
}
