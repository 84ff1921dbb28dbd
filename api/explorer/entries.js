// Entries: rows of the record, and the page of one.

import { reverse, settle } from "./actions.js";
import { amount } from "./amounts.js";
import { find, get, hasKey, nameOf, newIdempotencyKey } from "./client.js";
import { copyable, facts, h, link, moment, named, trail } from "./dom.js";

export const ENTRY_COLUMNS = [["Entry", "number"], ["Kind"], ["From"], ["To"], ["Amount", "number"], ["Time", "wide"]];

// A side of an entry, with a link to the participant.
export async function side(group, participant, entry, signal) {
  if (participant === null) return h("span", { class: "note" }, "outside");
  const name = await nameOf(group, participant, entry, signal);
  return link(`#/groups/${group}/participants/${participant}`, name ? named(name) : `participant ${participant}`);
}

export const kindOf = (entry) => (entry.reverses === null ? entry.kind : "reversal");

// The rows of a table of entries; `fresh` tells those that have just arrived.
export function entryRows(group, entries, signal, fresh = () => false) {
  return Promise.all(entries.map(async (entry) => ({
    kind: fresh(entry) && "fresh",
    cells: [
      link(`#/groups/${group}/entries/${entry.id}`, entry.id),
      kindOf(entry),
      await side(group, entry.from, entry, signal),
      await side(group, entry.to, entry, signal),
      amount(entry.amount),
      moment(entry.created_at),
    ],
  })));
}

export function metadataOf(entry) {
  return entry.metadata && h("pre", { class: "metadata" }, JSON.stringify(entry.metadata, null, 1));
}

export async function showEntry({ ids: [group, id], signal, again }) {
  const { data: entry } = await get(`/api/groups/${group}/entries/${id}`, signal);
  const [inside, from, to] = await Promise.all([
    find(`/api/groups/${group}`, signal),
    side(group, entry.from, entry, signal),
    side(group, entry.to, entry, signal),
  ]);
  const other = (number) => link(`#/groups/${group}/entries/${number}`, `entry ${number}`);
  const command = await curl(entry, signal);
  const settlement = entry.reference !== null
    ? ["Settled", copyable(entry.reference, "Reference"), " ", moment(entry.settled_at)]
    : ["Settled", "not yet: the amount has not been paid on the main network"];
  return {
    title: `Entry ${id}`,
    shown: [
      trail([`#/groups/${group}`, named(inside?.name ?? `Group ${group}`)]),
      h("h1", {}, `Entry ${id}`),
      h("p", { class: "row" }, "Entry ", copyable(String(id), "Entry id")),
      facts([
        ["Kind", kindOf(entry)],
        ["Amount", amount(entry.amount, { withUnit: true })],
        ["From", from, entry.from !== null && [", who then had ", amount(entry.from_amount)]],
        ["To", to, entry.to !== null && [", who then had ", amount(entry.to_amount)]],
        ["Time", moment(entry.created_at)],
        entry.metadata && ["Metadata", metadataOf(entry)],
        entry.reverses !== null && ["Reverses", other(entry.reverses)],
        entry.reversed_by !== null && ["Reversed by", other(entry.reversed_by)],
        entry.kind === "exit" && settlement,
      ]),
      h("p", { class: "row" },
        entry.kind === "transfer" && entry.reversed_by === null && reverse(entry, again),
        entry.kind === "exit" && entry.reference === null && settle(entry, again)),
      h("h2", {}, "The same request in curl"),
      h("p", { class: "note" }, "It makes such an entry once more: its idempotency key is new."),
      h("pre", { class: "command" }, h("code", {}, command)),
    ],
  };
}

// A shell command whose request makes such an entry.
async function curl(entry, signal) {
  const { method, path, body } = await request(entry, signal);
  const lines = [`curl -X ${method} ${location.origin}/api/groups/${entry.group_id}${path}`];
  if (hasKey()) lines.push('-H "Authorization: Bearer $LEDGER_KEY"');
  lines.push(`-H 'Idempotency-Key: ${newIdempotencyKey()}'`);
  if (body) lines.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`);
  return lines.join(" \\\n  ");
}

async function request(entry, signal) {
  const { kind, from, to, amount: sum, reverses, metadata } = entry;
  const more = metadata ? { metadata } : {};
  if (kind === "join") {
    const username = await nameOf(entry.group_id, to, entry, signal);
    return { method: "POST", path: "/participants", body: { username, amount: sum, ...more } };
  }
  if (kind === "deposit") return { method: "POST", path: `/participants/${to}/deposits`, body: { amount: sum, ...more } };
  if (kind === "exit") return { method: "DELETE", path: `/participants/${from}`, body: metadata && more };
  if (reverses !== null) return { method: "POST", path: `/entries/${reverses}/reversal`, body: metadata && more };
  return { method: "POST", path: "/transfer", body: { from, to, amount: sum, ...more } };
}
