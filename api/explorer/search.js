// What a search finds: groups by name or id, participants by username or id, entries by id.

import { amount } from "./amounts.js";
import { find, get } from "./client.js";
import { empty, h, link, named, table } from "./dom.js";
import { kindOf } from "./entries.js";

const SEARCHED = 25; // groups whose participants and entries are looked at

export async function showResults({ query, signal }) {
  const text = query.get("q") ?? "";
  const here = query.get("in");
  const wanted = encodeURIComponent(text);
  const isId = /^[1-9]\d{0,18}$/.test(text);

  const listed = await groups(here, signal);
  const rows = [];
  const groupsNamed = listed.all ? (await get(`/api/groups?name=${wanted}`, signal)).data : [];
  const byId = isId ? await find(`/api/groups/${text}`, signal) : null;
  for (const { id, name } of [...groupsNamed, ...(byId ? [byId] : [])]) {
    rows.push({ cells: ["group", link(`#/groups/${id}`, named(name)), "", ""] });
  }
  const found = await Promise.all(listed.groups.map(async (group) => {
    const path = `/api/groups/${group.id}`;
    const inside = link(`#/groups/${group.id}`, named(group.name));
    const [byName, participant, entry] = await Promise.all([
      find(`${path}/participants?username=${wanted}`, signal),
      isId && find(`${path}/participants/${text}`, signal),
      isId && find(`${path}/entries/${text}`, signal),
    ]);
    return [
      ...[...(byName ?? []), ...(participant ? [participant] : [])].map(({ id, username, amount: held }) =>
        ({ cells: ["participant", link(`#/groups/${group.id}/participants/${id}`, named(username)), inside, amount(held)] })),
      ...(entry ? [{ cells: ["entry", link(`#/groups/${group.id}/entries/${text}`, `${kindOf(entry)}, entry ${text}`), inside.cloneNode(true), amount(entry.amount)] }] : []),
    ];
  }));
  rows.push(...found.flat());
  return {
    title: "Search",
    shown: [
      h("h1", {}, "Search: ", named(text)),
      rows.length
       
        ? table("Found", [["Kind"], ["Found"], ["Group"], ["Amount", "number"]], rows)
        : empty(h("p", {}, "Nothing has this name or id. Names are compared whole, with their capital letters: write ", h("kbd", {}, "Vitalik"), ", not ", h("kbd", {}, "vita"), ".")),
      listed.more && h("p", { class: "note" }, `Usernames and ids were looked up in ${SEARCHED} groups. Open another group and search there.`),
    ],
  };
}

// The group whose page the search came from, then the first ones. An API key may be for one group alone.
async function groups(here, signal) {
  const own = here ? await find(`/api/groups/${here}`, signal) : null;
  try {
    const { data, next } = await get(`/api/groups?limit=${SEARCHED}`, signal);
    return { all: true, more: next, groups: [...(own ? [own] : []), ...data.filter(({ id }) => id !== own?.id)] };
  } catch (refusal) {
    if (refusal.code !== "forbidden" || !own) throw refusal;
    return { all: false, more: null, groups: [own] };
  }
}
