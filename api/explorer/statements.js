// A participant's statement of a period, as the service makes it: shown newest first, downloaded as CSV, printed.

import { amount } from "./amounts.js";
import { get, getFile } from "./client.js";
import { announce, button, empty, h, link, moment, named, refresh, table } from "./dom.js";
import { metadataOf } from "./entries.js";

export const STATEMENT = "statement"; // the id of its heading

const PAGE = 25; // entries of a page, where no period was chosen
const WHOLE = 500; // entries of a page of a period, which may be printed
const MOST = 1000; // of one answer: more than a page where several entries have one time

const COLUMNS = [["Entry", "number"], ["Kind"], ["Counterparty"], ["Amount", "number"], ["Balance after", "number"], ["Metadata", "wide"], ["Time", "wide"]];

// The statement of the period in the query, which `look` reads. Days are those of the browser's time zone.
export function showStatement({ group, id, query, signal }) {
  const address = `/api/groups/${group}/participants/${id}`;
  const view = `#/groups/${group}/participants/${id}`;
  const [from, to, before, after] = ["from", "to", "before", "after"].map((name) => query.get(name));
  const period = { from: from && midnight(from), to: to && midnight(to, 1) };
  const end = before ?? period.to;
  const place = h("div");
  let seen = null, known = null, username = "";

  // The service's pages go forward in time. So the newest entries alone show where the newest page begins.
  async function look() {
    const size = from || to ? WHOLE : PAGE;
    const listed = await get(`${address}/entries?${parameters({ order: "desc", limit: size, since: period.from, until: end })}`, signal);
    if (listed.text === seen) return;
    const begin = listed.next ? listed.data.at(-1).created_at : period.from;
    const { data, next } = await get(`${address}/statement?${parameters({ from: begin, to: end, limit: MOST, after })}`, signal);
    const fresh = ({ id: entry }) => known !== null && !end && !known.has(entry);
    const rows = data.lines.map((line) => ({ kind: fresh(line) && "fresh", cells: cells(group, line) })).reverse();
    if (!next) rows.unshift(balance("Closing balance", data.closing_balance));
    if (!after) rows.push(balance("Opening balance", data.opening_balance));
    const inPeriod = { from, to };
    const links = [
      (before || after) && link(`${view}?${parameters(inPeriod)}`, "Newest entries"),
      next && link(`${view}?${parameters({ ...inPeriod, before, after: data.lines.at(-1).id })}`, "More of the same time"),
      listed.next && link(`${view}?${parameters({ ...inPeriod, before: begin })}`, "Older entries"),
    ].filter(Boolean);
    refresh(place,
      data.lines.length ? null : empty(h("p", {}, before ? "There are no older entries." : "Nothing happened in this period.")),
      table("Statement, newest first", COLUMNS, rows),
      links.length > 0 && h("nav", { class: "row pages", "aria-label": "Pages" }, links));
    known = new Set(data.lines.map(({ id: entry }) => entry));
    seen = listed.text;
    username = data.username;
  }

  const choose = (event) => {
    event.preventDefault();
    const { from: first, to: last } = event.currentTarget.elements;
    location.hash = `${view}?${parameters({ from: first.value, to: last.value })}`;
  };
  const day = (name, label, value) => h("label", {}, `${label} `, h("input", { type: "date", name, value, max: "9999-12-31" }));
  const download = async ({ currentTarget: pressed }) => {
    pressed.disabled = true;
    try {
      await save(`${address}/statement?${parameters(period)}`, `statement-${group}-${id}.csv`, signal);
    } catch (error) {
      if (error.name !== "AbortError") announce(`The statement was not downloaded: ${error.message}.`);
    }
    pressed.disabled = false;
  };
  const form = h("form", { class: "row period", on: { submit: choose } },
    day("from", "First day", from), day("to", "Last day", to), h("button", { type: "submit" }, "Show"),
    (from || to) && link(view, "All"), button("Download CSV", download, "quiet"), button("Print", () => print(), "quiet"));
  const heading = (from || to) && h("p", { class: "note" }, from && `From ${from} `, to && `to ${to}`);
  return { look, shown: [form, heading, place], username: () => username };
}

// The beginning of a day, or of a later one.
function midnight(day, later = 0) {
  const time = new Date(`${day}T00:00`);
  time.setDate(time.getDate() + later);
  return time.toISOString();
}

const parameters = (given) => new URLSearchParams(Object.entries(given).filter(([, value]) => value));

const balance = (name, wei) => ({ kind: "end", cells: ["", name, "", "", amount(wei), "", ""] });

function cells(group, line) {
  const { id, kind, change, counterparty_id: other, counterparty_username: username } = line;
  return [
    link(`#/groups/${group}/entries/${id}`, id),
    kind,
    other === null ? h("span", { class: "note" }, "outside") : link(`#/groups/${group}/participants/${other}`, named(username)),
    amount(change.replace("-", ""), { sign: change.startsWith("-") ? "\u2212" : "+" }),
    amount(line.balance),
    metadataOf(line) ?? "",
    moment(line.created_at),
  ];
}

async function save(path, name, signal) {
  const address = URL.createObjectURL(await getFile(path, "text/csv", signal));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // the browser reads it in its own time
}
