// The checkpoints of a group, one with its leaves, and a proof, which the page checks itself.

import { makeCheckpoint } from "./actions.js";
import { amount } from "./amounts.js";
import { find, get } from "./client.js";
import { button, copyable, empty, facts, h, link, moment, named, table, trail } from "./dom.js";
import { pages } from "./groups.js";
import { checkProof, checkSnapshot } from "./proofs.js";

const PAGE = 50;
const LARGEST = 20_000; // leaves that the page checks at once

const above = (group, inside) => [`#/groups/${group}`, named(inside?.name ?? `Group ${group}`)];
const beside = (group) => [`#/groups/${group}/checkpoints`, "Checkpoints"];

export async function showCheckpoints({ ids: [group], query, signal }) {
  const after = query.get("after");
  const [{ data, next }, inside] = await Promise.all([
    get(`/api/groups/${group}/checkpoints?limit=${PAGE}${after ? `&after=${after}` : ""}`, signal),
    find(`/api/groups/${group}`, signal),
  ]);
  const rows = data.map((checkpoint) => ({
    cells: [
      link(`#/groups/${group}/checkpoints/${checkpoint.number}`, `Checkpoint ${checkpoint.number}`),
      checkpoint.leaf_count,
      amount(checkpoint.total),
      h("code", { class: "hash" }, checkpoint.header),
      moment(checkpoint.created_at),
    ],
  }));
  return {
    title: "Checkpoints",
    shown: [
      trail(above(group, inside)),
      h("h1", {}, "Checkpoints"),
      h("p", { class: "note" }, "A checkpoint commits, in 32 bytes that can be published, to what everybody in the group holds."),
      h("p", { class: "row" }, button("Make a checkpoint", () => makeCheckpoint({ id: group }))),
      rows.length || after
        ? [table("Checkpoints", [["Number"], ["Leaves", "number"], ["Total", "number"], ["Header", "wide"], ["Time", "wide"]], rows), pages(`#/groups/${group}/checkpoints`, next, after)]
        : empty(h("p", {}, "No checkpoint has been made yet.")),
    ],
  };
}

const figures = (checkpoint) => facts([
  ["Total", amount(checkpoint.total, { withUnit: true })],
  ["Leaves", checkpoint.leaf_count],
  ["Credited", amount(checkpoint.credited), ` in ${checkpoint.deposits} joins and deposits`],
  ["Settled", amount(checkpoint.settled)],
  ["Header", copyable(checkpoint.header, "Header")],
  ["Root", copyable(checkpoint.root, "Root")],
  ["Time", moment(checkpoint.created_at)],
  checkpoint.state !== undefined && ["State", checkpoint.state],
]);

export async function showCheckpoint({ ids: [group, number], query, signal }) {
  const address = `/api/groups/${group}/checkpoints/${number}`;
  const after = query.get("after");
  const [{ data: checkpoint }, { data, next }, inside] = await Promise.all([
    get(address, signal),
    get(`${address}/leaves?limit=${PAGE}${after ? `&after=${after}` : ""}`, signal),
    find(`/api/groups/${group}`, signal),
  ]);
  const result = h("div", { role: "status" });
  const check = async () => {
    const leaves = [];
    let path = `${address}/leaves?limit=1000`;
    while (path) {
      const page = await get(path, signal);
      leaves.push(...page.data);
      path = page.next;
      result.replaceChildren(h("p", {}, `${leaves.length} leaves read …`));
    }
    return checkSnapshot(checkpoint, leaves);
  };
  const rows = data.map(({ index, participant_id: participant, exit_entry: exited, amount: held }) => ({
    cells: [
      index,
      exited === null ? link(`#/groups/${group}/participants/${participant}`, `participant ${participant}`) : [`participant ${participant}, left in `, link(`#/groups/${group}/entries/${exited}`, `entry ${exited}`)],
      amount(held),
      link(`#/groups/${group}/checkpoints/${number}/proofs/${participant}`, "Proof"),
    ],
  }));
  return {
    title: `Checkpoint ${number}`,
    shown: [
      trail(above(group, inside), beside(group)),
      h("h1", {}, `Checkpoint ${number}`),
      figures(checkpoint),
      h("h2", {}, "Leaves"),
      checkpoint.leaf_count <= LARGEST
        ? h("p", { class: "row" }, checker("Check all leaves in this page", check, result))
        : h("p", { class: "note" }, `More than ${LARGEST} leaves are checked by the command: ledger verify-snapshot.`),
      result,
      table("Leaves", [["Leaf", "number"], ["Participant"], ["Amount", "number"], ["Proof"]], rows),
      pages(`#/groups/${group}/checkpoints/${number}`, next, after),
    ],
  };
}

export async function showProof({ ids: [group, number, participant], signal }) {
  const [{ data: proof, text }, inside] = await Promise.all([
    get(`/api/groups/${group}/checkpoints/${number}/proofs/${participant}`, signal),
    find(`/api/groups/${group}`, signal),
  ]);
  const { checkpoint, leaf, siblings } = proof;
  const result = h("div", { role: "status" });
  const download = h("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: `proof-${group}-${number}-${participant}.json` }, "Download the proof");
  signal.addEventListener("abort", () => URL.revokeObjectURL(download.href));
  return {
    title: `Proof of participant ${participant}`,
    shown: [
      trail(above(group, inside), beside(group)),
      h("h1", {}, `Proof of participant ${participant}`),
      h("p", { class: "lead" }, "Participant ", link(`#/groups/${group}/participants/${participant}`, participant),
        leaf.exit_entry === null ? " holds " : [" left in ", link(`#/groups/${group}/entries/${leaf.exit_entry}`, `entry ${leaf.exit_entry}`), " with "],
        amount(leaf.amount, { withUnit: true }), `: leaf ${leaf.index} of ${checkpoint.leaf_count} in `,
        link(`#/groups/${group}/checkpoints/${number}`, `checkpoint ${number}`), "."),
      h("p", { class: "row" }, checker("Check it in this page", () => checkProof(proof), result), download),
      result,
      figures(checkpoint),
      h("h2", {}, "Siblings on the way to the root"),
      siblings.length
        ? table("Siblings", [["Sum", "number"], ["Hash"]], siblings.map(({ sum, hash }) => ({ cells: [amount(sum), h("code", { class: "hash" }, hash)] })))
        : h("p", {}, "None: it is the only leaf."),
    ],
  };
}

// A button that computes, and shows what was computed beside what was claimed.
function checker(text, check, result) {
  return button(text, async ({ currentTarget: pressed }) => {
    pressed.disabled = true;
    try {
      const { valid, checks } = await check();
      result.replaceChildren(
        h("p", { class: valid ? "right" : "wrong" }, valid
          ? "Valid: this page computed the same root, total and header. Compare the header with the one that was published."
          : "Not valid: what this page computed differs from what the ledger claims."),
        facts(checks.map(([name, computed, claimed]) => [
          `${name}, computed here`,
          h("code", { class: "hash" }, computed),
          computed === String(claimed) ? " as claimed" : h("p", { class: "wrong" }, "claimed: ", h("code", { class: "hash" }, claimed)),
        ])));
    } catch (error) {
      result.replaceChildren(h("p", { class: "wrong" }, `Not checked: ${error.message}.`));
    }
    pressed.disabled = false;
  }, "main");
}
