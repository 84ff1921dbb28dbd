// The page of a participant: the balance, its chart, and the statement.

import { deposit, exit, transferFrom } from "./actions.js";
import { amount } from "./amounts.js";
import { stepChart } from "./chart.js";
import { find, get } from "./client.js";
import { button, copyable, facts, h, link, named, refresh, trail } from "./dom.js";
import { showStatement, STATEMENT } from "./statements.js";

const STEPS = 500; // movements in the chart

export async function showParticipant({ ids: [group, id], query, signal, again, watch }) {
  const address = `/api/groups/${group}/participants/${id}`;
  const state = h("div"), chart = h("div");
  const statement = showStatement({ group, id, query, signal });
  let seen = {};
  const around = Promise.all([find(`${address}/address`, signal), find(`/api/groups/${group}`, signal)]);
  around.catch(() => {}); // where the view is left, or refused, before it is awaited

  const look = async () => {
    const [present, newest] = await Promise.all([
      find(address, signal),
      get(`${address}/entries?order=desc&limit=1`, signal),
      statement.look(),
    ]);
    const now = JSON.stringify(present);
    if (newest.text !== seen.newest) {
      const { data, next } = await get(`${address}/entries?order=desc&limit=${STEPS}`, signal);
      const points = data.map((entry) => [entry.created_at, entry.kind === "exit" ? 0n : balanceAfter(entry, id)]);
      refresh(chart, stepChart("Balance", points.reverse(), next ? `The newest ${STEPS} entries.` : ""));
    }
    if (now !== seen.now) {
      refresh(state, present
        ? h("p", { class: "balance" }, h("span", { class: "note" }, "Balance "), amount(present.amount, { withUnit: true }))
        : h("p", { class: "balance" }, "Left the group with ", amount(newest.data[0].amount, { withUnit: true })));
    }
    seen = { now, newest: newest.text };
  };
  await watch(look, ({ group_id: its, from, to }) => String(its) === group && [String(from), String(to)].includes(id));

  const username = statement.username();
  const participant = { id, username, group_id: group };
  const [bound, inside] = await around;
  const owner = bound?.address;
  return {
    title: username,
    shown: [
      trail([`#/groups/${group}`, named(inside?.name ?? `Group ${group}`)]),
      h("h1", {}, named(username)),
      h("p", { class: "row" }, "Participant ", copyable(String(id), "Participant id")),
      owner && facts([["Address", copyable(owner, "Address")]]),
      state,
      seen.now !== "null" && h("p", { class: "row" },
        button("Send", () => transferFrom(participant, again), "main"),
        button("Deposit", () => deposit(participant, again)),
        button("Exit", () => exit(participant, again), "danger")),
      chart,
      h("section", { "aria-labelledby": STATEMENT }, h("h2", { id: STATEMENT }, "Statement"), statement.shown),
    ],
  };
}

const balanceAfter = (entry, id) => BigInt(String(entry.to) === id ? entry.to_amount : entry.from_amount);
