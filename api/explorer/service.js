// What the service does now, from its metrics.

import { empty, facts, h, refresh, table } from "./dom.js";

const SAMPLE = /^([a-z_]+)(?:\{([^}]*)\})? (\S+)$/;
const LABEL = /([a-z_]+)="((?:[^"\\]|\\.)*)"/g;

export async function showService({ signal, watch }) {
  const place = h("div");
  let before = null;
  const look = async () => {
    const response = await fetch("/metrics", { signal, cache: "no-store" }).catch(() => null);
    if (!response?.ok) {
      refresh(place, empty(h("p", {}, "The metrics can be read on the service's own machine only, unless METRICS=all is set.")));
      return;
    }
    const now = { time: performance.now(), samples: read(await response.text()) };
    refresh(place, measured(now, before ?? now));
    before = now;
  };
  await watch(look);
  return {
    title: "The service now",
    shown: [h("h1", {}, "The service now"), h("p", { class: "note" }, "Looked at every two seconds; all workers together."), place],
  };
}

function read(text) {
  return text.split("\n").map((line) => SAMPLE.exec(line)).filter(Boolean).map(([, name, labels, value]) => ({
    name,
    labels: Object.fromEntries([...(labels ?? "").matchAll(LABEL)].map(([, label, content]) => [label, content])),
    value: Number(value),
  }));
}

const sum = ({ samples }, name, wanted = () => true) =>
  samples.filter((sample) => sample.name === name && wanted(sample.labels)).reduce((all, { value }) => all + value, 0);

// A client that waits at the feed takes as long as it asked for.
const quick = ({ route }) => route !== "/api/entries";

function measured(now, before) {
  const seconds = Math.max((now.time - before.time) / 1000, 0.001);
  const grown = (name, wanted) => sum(now, name, wanted) - sum(before, name, wanted);
  const first = now === before;
  const count = grown("ledger_request_duration_seconds_count", quick);
  const mean = (1000 * grown("ledger_request_duration_seconds_sum", quick)) / count;
  const refused = now.samples.filter(({ name, value }) => name === "ledger_problems_total" && value > 0);
  return [
    facts([
      ["Database", sum(now, "ledger_database_up") ? "answers" : "does not answer"],
      ["Requests a second", first ? "…" : (grown("ledger_requests_total") / seconds).toFixed(1)],
      ["Mean duration", count ? `${mean.toFixed(1)} ms` : "…"],
      ["Being answered", sum(now, "ledger_requests_in_flight")],
      ["Waiting for a shared call", sum(now, "ledger_shared_calls_waiting")],
      ["Waiting for a connection", sum(now, "ledger_pool_waiting")],
      ["Answered since the start", sum(now, "ledger_requests_total")],
    ]),
    h("h2", {}, "Refusals since the start"),
    refused.length
      ? table("Refusals", [["Code"], ["Requests", "number"]], refused.sort((a, b) => b.value - a.value).map(({ labels, value }) => ({ cells: [h("code", {}, labels.code), value] })))
      : h("p", {}, "None."),
  ];
}
