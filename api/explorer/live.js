// Keep a view current: it is read again when an entry arrives that concerns it.
//
// The end of the feed is taken before the view is read. So what the view does not have yet comes in the feed.

import { get, Refusal, usedKey } from "./client.js";
import { announce } from "./dom.js";

const PAUSE = 2000; // milliseconds before each look: a busy group is not read without end
const WAIT = 30; // seconds that a request waits. After them the view is read again: not everything is an entry.
const PAGE = 200; // entries. With more at once the view is read again, and the feed followed from its new end.

// A browser has six connections to a service for all its windows, and a request that waits keeps one busy. So this many
// windows wait, and others ask every two seconds, as where the API key may not read the feed.
const WAITING = 3;

const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE));

// Read a view by `look`, and again until the signal: with `concerns`, when it is true of an entry; without, every two
// seconds. `leave` is called once the view is refused.
export async function watch(look, concerns, signal, leave) {
  let place = concerns ? await findEnd(signal) : null;
  await look();
  follow();

  async function follow() {
    let away = false;
    for (;;) {
      await pause();
      await visible();
      if (signal.aborted) return;
      try {
        await once();
        if (away) announce("The ledger answers again.");
        away = false;
      } catch (error) {
        if (signal.aborted) return;
        if (error.name === "AbortError") continue; // the window was hidden
        if ([401, 403, 404].includes(error.status)) return leave();
        if (error.status === 410) place = null; // the ledger was reset or restored
        else if (!away) announce("What you see may be old: the ledger does not answer. It is asked again every two seconds.");
        away ||= error.status !== 410;
        if (!(error instanceof Refusal)) throw error;
      }
    }
  }

  async function once() {
    if (place === null || !(await mayWait())) {
      if (concerns) place ??= await findEnd(signal);
      return look();
    }
    const { data, next } = await get(place, AbortSignal.any([signal, hiding.signal]));
    const more = data.length >= PAGE;
    place = more ? await findEnd(signal) : waitingAt(next);
    if (more || !data.length || data.some(concerns)) await look();
  }
}

function waitingAt(next) {
  const [path, query] = next.split("?");
  const parameters = new URLSearchParams(query);
  parameters.set("limit", PAGE);
  parameters.set("wait", WAIT);
  return `${path}?${parameters}`;
}

let refused = null; // the API key that may not read the feed

// The path of what comes after the feed's end; null where it cannot be read.
async function findEnd(signal) {
  if (usedKey() === refused) return null;
  try {
    return waitingAt((await get("/api/entries/end", signal)).next);
  } catch (refusal) {
    if (!(refusal instanceof Refusal)) throw refusal;
    if (refusal.status === 403) refused = usedKey();
    return null; // what is wrong otherwise, the view shows
  }
}

let hiding = new AbortController();
let right = null; // of this window to wait: a promise of the function that gives it back, or of null

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return;
  hiding.abort();
  hiding = new AbortController();
  right?.then((giveBack) => giveBack?.());
  right = null;
});

async function visible() {
  while (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

async function mayWait() {
  if (!navigator.locks) return true; // not on localhost, and without HTTPS
  right ??= takeRight();
  const taken = right;
  if (await taken) return true;
  if (right === taken) right = null;
  return false;
}

async function takeRight() {
  for (let number = 1; number <= WAITING; number++) {
    const giveBack = await new Promise((resolve) => {
      navigator.locks.request(`ledger feed ${number}`, { ifAvailable: true }, (lock) =>
        lock ? new Promise((release) => resolve(release)) : resolve(null));
    });
    if (giveBack) return giveBack;
  }
  return null;
}
