// Check proofs and snapshots with WebCrypto, as the pages of the API define their bytes.

const hex = (bytes) => `0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;

function integer(value, size) {
  const digits = BigInt(value).toString(16).padStart(2 * size, "0");
  if (digits.length > 2 * size) throw new Error(`${value} needs more than ${size} bytes`);
  return octets(`0x${digits}`);
}

function octets(text) {
  if (!/^0x([0-9a-f]{2})*$/i.test(text)) throw new Error(`${text} is not hex`);
  return Uint8Array.from(text.slice(2).match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

async function hash(...parts) {
  if (!globalThis.crypto?.subtle) throw new Error("this browser checks proofs only on localhost or over HTTPS");
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let place = 0;
  for (const part of parts) {
    joined.set(part, place);
    place += part.length;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", joined));
}

const domainOf = ({ chain_id: chain, vault, group_id: group }) =>
  hash(Uint8Array.of(3), new TextEncoder().encode("ledger/vault/1"), integer(chain, 32), octets(vault), integer(group, 8));

async function headerOf(checkpoint, domain) {
  const { number, previous, deposits, credited, settled, leaf_count: leaves, total, root } = checkpoint;
  return hex(await hash(
    Uint8Array.of(2), domain, integer(number, 8), octets(previous), integer(deposits, 8), integer(credited, 32),
    integer(settled, 32), integer(leaves, 8), integer(total, 32), octets(root)));
}

async function leafNode(leaf, domain) {
  const { participant_id: participant, exit_entry: exited, owner, amount } = leaf;
  const bytes = [Uint8Array.of(0), domain, integer(participant, 8), integer(exited ?? 0, 8), octets(owner), integer(amount, 32)];
  return { sum: BigInt(amount), hash: await hash(...bytes) };
}

async function parent(left, right) {
  const bytes = [Uint8Array.of(1), integer(left.sum, 32), left.hash, integer(right.sum, 32), right.hash];
  return { sum: left.sum + right.sum, hash: await hash(...bytes) };
}

// What was computed beside what is claimed: each [name, computed, claimed].
async function compare(node, checkpoint, domain) {
  const checks = [
    ["Root", node ? hex(node.hash) : `0x${"0".repeat(64)}`, checkpoint.root],
    ["Total", (node?.sum ?? 0n).toString(), checkpoint.total],
    ["Credited less settled", (BigInt(checkpoint.credited) - BigInt(checkpoint.settled)).toString(), checkpoint.total],
    ["Header", await headerOf(checkpoint, domain), checkpoint.header],
  ];
  return { valid: checks.every(([, computed, claimed]) => computed === String(claimed)), checks };
}

// Compute the root from a leaf and its siblings.
export async function checkProof({ checkpoint, leaf, siblings }) {
  const domain = await domainOf(checkpoint);
  const rest = [...siblings];
  let node = await leafNode(leaf, domain);
  let place = BigInt(leaf.index);
  let width = BigInt(checkpoint.leaf_count);
  if (place >= width) throw new Error("the leaf is beyond the last one");
  for (; width > 1n; place /= 2n, width = (width + 1n) / 2n) {
    if (place % 2n === 0n && place + 1n >= width) continue; // the last of an odd number moves up as it is
    if (!rest.length) throw new Error("siblings are missing");
    const { sum, hash: sibling } = rest.shift();
    const other = { sum: BigInt(sum), hash: octets(sibling) };
    node = await (place % 2n ? parent(other, node) : parent(node, other));
  }
  if (rest.length) throw new Error("there are too many siblings");
  return compare(node, checkpoint, domain);
}

// Compute the root from all leaves.
export async function checkSnapshot(checkpoint, leaves) {
  if (leaves.length !== Number(checkpoint.leaf_count)) throw new Error(`there are ${leaves.length} leaves, and ${checkpoint.leaf_count} were committed to`);
  for (const [place, leaf] of leaves.entries()) {
    if (Number(leaf.index) !== place) throw new Error(`leaf ${place} has another index`);
    if (place && BigInt(leaf.participant_id) <= BigInt(leaves[place - 1].participant_id)) throw new Error("a participant is there twice, or out of order");
  }
  const domain = await domainOf(checkpoint);
  let level = await Promise.all(leaves.map((leaf) => leafNode(leaf, domain)));
  while (level.length > 1) {
    const pairs = Array.from({ length: Math.ceil(level.length / 2) }, (_, pair) => level.slice(2 * pair, 2 * pair + 2));
    level = await Promise.all(pairs.map(([left, right]) => (right ? parent(left, right) : left)));
  }
  return compare(level[0], checkpoint, domain);
}
