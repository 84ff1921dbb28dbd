// The page of a participant: the balance, its chart, and the statement.

import { deposit, exit, transferFrom } from "./actions.js";
import { amount } from "./amounts.js";
import { stepChart } from "./chart.js";
import { find, get, nameOf } from "./client.js";
import { button, copyable, empty, facts, h, link, moment, named, refresh, table, trail } from "./dom.js";
import { kindOf, metadataOf, side } from "./entries.js";
import { pages } from "./groups.js";

const PAGE = 25;
const STEPS = 500; // movements in the chart

const COLUMNS = [["Entry", "number"], ["Kind"], ["Counterparty"], ["Amount", "number"], ["Balance after", "number"], ["Metadata", "wide"], ["Time", "wide"]];

export async function showParticipant({ ids: [group, id], query, signal, again, watch }) {
  const address = `/api/groups/${group}/participants/${id}`;
  const before = query.get("before");
  const state = h("div"), chart = h("div"), statement = h("div");
  let seen = {}, known = null;
  const history = await get(`${address}/entries?order=desc&limit=1`, signal);
  const bound = find(`${address}/address`, signal);
  const inside = find(`/api/groups/${group}`, signal);

  const look = async () => {
    const [present, page, newest] = await Promise.all([
      find(address, signal),
      get(`${address}/entries?order=desc&limit=${PAGE}${before ? `&before=${before}` : ""}`, signal),
      get(`${address}/entries?order=desc&limit=1`, signal),
    ]);
    const now = JSON.stringify(present);
    if (newest.text !== seen.newest) {
      const { data, next } = await get(`${address}/entries?order=desc&limit=${STEPS}`, signal);
      const points = data.map((entry) => [entry.created_at, entry.kind === "exit" ? 0n : balanceAfter(entry, id)]);
      refresh(chart, stepChart("Balance", points.reverse(), next ? `The newest ${STEPS} entries.` : ""));
    }
    if (page.text !== seen.page) {
      const rows = await statementRows(group, id, page.data, signal, (entry) => known !== null && !before && !known.has(entry.id));
      refresh(statement, rows.length ? table("Statement, newest first", COLUMNS, rows) : empty(h("p", {}, "There are no older entries.")),
        pages(`#/groups/${group}/participants/${id}`, page.next, before, ["Newest entries", "Older entries"]));
    }
    if (now !== seen.now) {
      refresh(state, present
        ? h("p", { class: "balance" }, h("span", { class: "note" }, "Balance "), amount(present.amount, { withUnit: true }))
        : h("p", { class: "balance" }, "Left the group with ", amount(newest.data[0].amount, { withUnit: true })));
    }
    known = new Set(page.data.map((entry) => entry.id));
    seen = { now, newest: newest.text, page: page.text };
  };
  await watch(look, ({ group_id: its, from, to }) => String(its) === group && [String(from), String(to)].includes(id));

  const isPresent = seen.now !== "null";
  const username = isPresent ? JSON.parse(seen.now).username : await nameOf(group, id, history.data[0], signal);
  const participant = { id, username, group_id: group };
  const owner = (await bound)?.address;
  return {
    title: username,
    shown: [
      trail([`#/groups/${group}`, named((await inside)?.name ?? `Group ${group}`)]),
      h("h1", {}, named(username)),
      h("p", { class: "row" }, "Participant ", copyable(String(id), "Participant id")),
      owner && facts([["Address", copyable(owner, "Address")]]),
      state,
      isPresent && h("p", { class: "row" },
        button("Send", () => transferFrom(participant, again), "main"),
        button("Deposit", () => deposit(participant, again)),
        button("Exit", () => exit(participant, again), "danger")),
      chart,
      h("section", { "aria-labelledby": "statement" }, h("h2", { id: "statement" }, "Statement"), statement),
    ],
  };
}

const isTo = (entry, id) => String(entry.to) === String(id);

const balanceAfter = (entry, id) => BigInt(isTo(entry, id) ? entry.to_amount : entry.from_amount);

function statementRows(group, id, entries, signal, fresh) {
  return Promise.all(entries.map(async (entry) => ({
    kind: fresh(entry) && "fresh",
    cells: [
      link(`#/groups/${group}/entries/${entry.id}`, entry.id),
      kindOf(entry),
      await side(group, isTo(entry, id) ? entry.from : entry.to, entry, signal),
      amount(entry.amount, { sign: isTo(entry, id) ? "+" : "−" }),
      amount(entry.kind === "exit" ? "0" : balanceAfter(entry, id)),
      metadataOf(entry) ?? "",
      moment(entry.created_at),
    ],
  })));
}
