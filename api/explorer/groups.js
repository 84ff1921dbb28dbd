// The list of groups, and the page of one.

import { depositTo, join, makeCheckpoint, openGroup, transfer } from "./actions.js";
import { amount } from "./amounts.js";
import { stepChart } from "./chart.js";
import { call, find, get, newIdempotencyKey } from "./client.js";
import { announce, button, copyable, empty, h, link, named, refresh, table, trail } from "./dom.js";
import { entryRows, ENTRY_COLUMNS } from "./entries.js";

const PAGE = 50;
const NEWEST = 15; // entries
const STEPS = 100; // movements of each kind in the chart
const BRINGING = ["join", "deposit", "exit"]; // the kinds that change a total

// The demo groups, as `ledger seed` makes them.
const DEMO = { "Ethereum Foundation": ["Vitalik", "Vlad", "Gavin", "Danny"], ConsenSys: ["Joe", "Dudley", "Kevin"] };

export async function showGroups({ query, signal, again, watch }) {
  const place = h("div");
  const after = query.get("after");
  const look = async () => {
    const { data: groups, next } = await get(`/api/groups?limit=${PAGE}${after ? `&after=${after}` : ""}`, signal);
    const totals = await Promise.all(groups.map(async ({ id }) => (await find(`/api/groups/${id}/total`, signal))?.group_total));
    const seen = JSON.stringify([groups, totals, next]);
    if (seen === place.dataset.seen) return;
    place.dataset.seen = seen;
    refresh(place, groups.length || after ? list(groups, totals, next, after) : offerDemo(again));
  };
  await watch(look, () => true);
  const bar = h("p", { class: "row" }, button("Open a group", () => openGroup()));
  return { title: "Groups", shown: [h("h1", {}, "Groups"), bar, place] };
}

function list(groups, totals, next, after) {
  const rows = groups.map(({ id, name }, index) => ({
    cells: [link(`#/groups/${id}`, named(name)), id, totals[index] === undefined ? "removed" : amount(totals[index])],
  }));
  return [table("Groups and their totals", [["Group"], ["Id", "number"], ["Total", "number"]], rows), pages("#/", next, after)];
}

// Links to the first page and to the next; the browser's own Back leads to the one before.
export function pages(address, next, place, words = ["First page", "Next page"]) {
  const cursor = next && new URLSearchParams(next.split("?")[1]);
  const query = cursor && new URLSearchParams([...cursor].filter(([name]) => name === "after" || name === "before"));
  if (!next && !place) return null;
  return h("nav", { class: "row pages", "aria-label": "Pages" },
    place && link(address, words[0]), next && link(`${address}?${query}`, words[1]));
}

function offerDemo(again) {
  const load = async ({ currentTarget: pressed }) => {
    pressed.disabled = true;
    try {
      for (const [name, usernames] of Object.entries(DEMO)) {
        const { data: group } = await call("POST", "/api/groups", { body: { name }, idempotencyKey: newIdempotencyKey() });
        for (const username of usernames) {
          const body = { username, amount: "100" };
          await call("POST", `/api/groups/${group.id}/participants`, { body, idempotencyKey: newIdempotencyKey() });
        }
      }
      announce("The demo groups are there.");
    } catch (refusal) {
      announce(`The demo groups were not all made: ${refusal.message}.`);
    }
    again();
  };
  return empty(
    h("p", {}, "This ledger is empty. Open a group and let participants join it, or look at two demo groups first."),
    button("Load the demo groups", load, "main"),
  );
}

export async function showGroup({ ids: [id], query, signal, again, watch }) {
  const address = `/api/groups/${id}`;
  const after = query.get("after");
  const total = h("div"), chart = h("div"), participants = h("div"), newest = h("div");
  let seen = {}, known = null;

  const { data: group } = await get(address, signal);
  const look = async () => {
    const [sum, page, entries] = await Promise.all([
      get(`${address}/total`, signal),
      get(`${address}/participants?limit=${PAGE}${after ? `&after=${after}` : ""}`, signal),
      get(`${address}/entries?order=desc&limit=${NEWEST}`, signal),
    ]);
    const drawn = sum.text === seen.sum ? null : await totalOverTime(address, sum.data.group_total, signal);
    const fresh = (entry) => known !== null && !known.has(entry.id);
    const rows = entries.text === seen.entries ? null : await entryRows(id, entries.data, signal, fresh);
    // All of one moment on the page at once.
    if (sum.text !== seen.sum) refresh(total, h("p", { class: "balance" }, h("span", { class: "note" }, "Total "), amount(sum.data.group_total, { withUnit: true }))), refresh(chart, drawn);
    if (page.text !== seen.page) refresh(participants, listParticipants(id, page, after));
    if (rows) refresh(newest, rows.length ? table("Newest entries", ENTRY_COLUMNS, rows) : empty(h("p", {}, "Nothing has happened here yet.")));
    known = new Set(entries.data.map((entry) => entry.id));
    seen = { sum: sum.text, page: page.text, entries: entries.text };
  };
  await watch(look, ({ group_id: group }) => String(group) === id);

  return {
    title: group.name,
    shown: [
      trail(),
      h("h1", {}, named(group.name)),
      h("p", { class: "row" }, "Group ", copyable(String(id), "Group id"), link(`#/groups/${id}/checkpoints`, "Checkpoints")),
      total,
      h("p", { class: "row" },
        button("Transfer", () => transfer(group, again), "main"),
        button("Join a participant", () => join(group, again)),
        button("Deposit", () => depositTo(group, again)),
        button("Make a checkpoint", () => makeCheckpoint(group))),
      chart,
      h("div", { class: "columns" },
        h("section", { "aria-labelledby": "participants" }, h("h2", { id: "participants" }, "Participants"), participants),
        h("section", { "aria-labelledby": "newest" }, h("h2", { id: "newest" }, "Newest entries"),
          h("p", { class: "note" }, "New ones appear as they are made."), newest)),
    ],
  };
}

function listParticipants(group, { data, next }, after) {
  if (!data.length && !after) return empty(h("p", {}, "Nobody has joined yet. Join a participant with a deposit."));
  const rows = data.map(({ id, username, amount: held }) => ({
    cells: [link(`#/groups/${group}/participants/${id}`, named(username)), id, amount(held)],
  }));
  const columns = [["Username"], ["Id", "number"], ["Balance", "number"]];
  return [table("Participants", columns, rows), pages(`#/groups/${group}`, next, after)];
}

// The total after each of the newest movements that changed it, from the newest back: no balances are added up.
async function totalOverTime(address, now, signal) {
  const found = await Promise.all(BRINGING.map((kind) => get(`${address}/entries?kind=${kind}&order=desc&limit=${STEPS}`, signal)));
  // A kind with more entries than were read limits how far back all kinds are known.
  const from = Math.max(...found.map(({ data, next }) => (next ? Date.parse(data.at(-1).created_at) : 0)));
  const moved = found.flatMap(({ data }) => data).filter((entry) => Date.parse(entry.created_at) >= from);
  moved.sort((a, b) => Date.parse(b.created_at) - Date.parse(a.created_at) || b.id - a.id);
  const points = [];
  let sum = BigInt(now);
  for (const entry of moved) {
    if (sum < 0n) break; // more was recorded since the total was read
    points.push([entry.created_at, sum]);
    sum -= entry.kind === "exit" ? -BigInt(entry.amount) : BigInt(entry.amount);
  }
  const note = from ? `The newest ${points.length} joins, deposits and exits.` : "";
  return stepChart("Total", points.reverse(), note);
}
