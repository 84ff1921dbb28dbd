// The explorer's frame: which view an address has, the unit, the API key, and what a refusal looks like.

import { chooseUnit, currentUnit } from "./amounts.js";
import { showCheckpoint, showCheckpoints, showProof } from "./checkpoints.js";
import { forgetNames, hasKey, Refusal, useKey } from "./client.js";
import { announce, button, empty, h, link, nodes } from "./dom.js";
import { showEntry } from "./entries.js";
import { showGroup, showGroups } from "./groups.js";
import { watch } from "./live.js";
import { showParticipant } from "./participants.js";
import { showResults } from "./search.js";
import { showService } from "./service.js";

// The address of a view is behind the #, with its page in a query.
const VIEWS = [
  [/^\/?$/, showGroups],
  [/^\/groups\/(\d+)$/, showGroup],
  [/^\/groups\/(\d+)\/participants\/(\d+)$/, showParticipant],
  [/^\/groups\/(\d+)\/entries\/(\d+)$/, showEntry],
  [/^\/groups\/(\d+)\/checkpoints$/, showCheckpoints],
  [/^\/groups\/(\d+)\/checkpoints\/(\d+)$/, showCheckpoint],
  [/^\/groups\/(\d+)\/checkpoints\/(\d+)\/proofs\/(\d+)$/, showProof],
  [/^\/search$/, showResults],
  [/^\/service$/, showService],
];

const content = document.getElementById("content");
let leaving = new AbortController();

// Show the view of the address. It gets its ids, its query, a signal that it was left, and ways to show itself again and to stay current.
async function show({ quietly = false } = {}) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [path, query = ""] = location.hash.slice(1).split("?");
  const found = VIEWS.map(([pattern, view]) => [pattern.exec(path), view]).find(([match]) => match);
  content.setAttribute("aria-busy", "true");
  forgetNames();
  let shown, title;
  try {
    if (!found) throw new Refusal(404, { code: "not_found", title: "There is no such page", detail: "the address names none" });
    const [[, ...ids], view] = found;
    const again = () => show({ quietly: true });
    ({ title, shown } = await view({ ids, query: new URLSearchParams(query), signal, again, watch: (look, concerns) => watch(look, concerns, signal, again) }));
  } catch (error) {
    if (signal.aborted) return;
    title = error instanceof Refusal ? error.title : "The explorer failed";
    shown = [h("h1", {}, title), explanation(error)];
    if (!(error instanceof Refusal)) console.error(error);
  }
  if (signal.aborted) return;
  document.title = title === "Groups" ? "Ledger" : `${title} · Ledger`;
  content.replaceChildren(...nodes(shown));
  content.removeAttribute("aria-busy");
  if (!quietly) {
    scrollTo(0, 0);
    content.focus({ preventScroll: true });
  }
}

// What was refused, why, and what to do.
function explanation(error) {
  if (!(error instanceof Refusal)) return h("p", {}, `${error}. Load the page again.`);
  const retry = () => button("Try again", () => show());
  const advice = {
    unauthorized: () => [h("p", {}, hasKey() ? "The API key that you entered is not valid, or was revoked. Enter another one." : "This ledger asks for an API key. Its administrator makes one with ", !hasKey() && h("code", {}, "ledger key create"), !hasKey() && "."), keyForm("key-asked")],
    forbidden: () => {
      const only = /for group (\d+) alone/.exec(error.message)?.[1];
      return only ? h("p", {}, "Your API key is for one group: ", link(`#/groups/${only}`, `open group ${only}`), ".") : h("p", {}, "Enter an API key that may do this.");
    },
    not_found: () => h("p", {}, "It may have been removed, or never existed. Go back to ", link("#/", "all groups"), " or search for it."),
    foreign_origin: () => h("p", {}, "Open the explorer under 127.0.0.1 or localhost, or have an API key made: then any address will do."),
    unreachable: () => [h("p", {}, "See whether the service runs and whether you are connected."), retry()],
  }[error.code] ?? (() => (error.status >= 500 ? retry() : null));
  return empty(h("p", { role: "alert" }, error.message), advice());
}

function keyForm(id, close = () => {}) {
  const field = h("input", { id, type: "password", autocomplete: "off", spellcheck: "false", required: true });
  const submit = (event) => {
    event.preventDefault();
    useKey(field.value.trim());
    close();
    markKey();
    show();
  };
  return h("form", { class: "row", on: { submit } },
    h("label", { for: id }, "API key"), field, h("button", { type: "submit" }, "Use it"));
}

const keyButton = document.getElementById("key");

function markKey() {
  keyButton.textContent = hasKey() ? "API key in use" : "API key";
}

keyButton.addEventListener("click", () => {
  const dialog = h("dialog", { "aria-labelledby": "key-title" });
  const close = () => dialog.close();
  const forget = () => {
    useKey("");
    close();
    markKey();
    show();
  };
  dialog.append(
    h("h2", { id: "key-title" }, "API key"),
    h("p", {}, "It is kept until this tab is closed, sent to this ledger only, and never part of an address."),
    keyForm("key-entered", close),
    h("p", { class: "row" }, hasKey() && button("Forget it", forget, "quiet"), button("Close", close, "quiet")),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
});

const unit = document.getElementById("unit");
unit.value = currentUnit();
unit.addEventListener("change", () => chooseUnit(unit.value));

document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = document.getElementById("query").value.trim();
  if (!query) return;
  const group = /^#\/groups\/(\d+)/.exec(location.hash)?.[1] ?? new URLSearchParams(location.hash.split("?")[1]).get("in");
  location.hash = `#/search?${new URLSearchParams({ q: query, ...(group ? { in: group } : {}) })}`;
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, dialog")) return;
  event.preventDefault();
  document.getElementById("query").focus();
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});

addEventListener("hashchange", () => {
  announce();
  show();
});
markKey();
show({ quietly: true });
