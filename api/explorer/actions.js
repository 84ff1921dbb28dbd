// What changes the ledger: a form, a confirmation that names the amount, and one request with its idempotency key.

import { currentUnit, parse, spelled } from "./amounts.js";
import { call, find, get, newIdempotencyKey, Refusal } from "./client.js";
import { announce, button, h, link, named, nodes } from "./dom.js";

const OFFERED = 50; // participants whose names a field suggests

// An invalid value of a field, found before anything is sent.
class Invalid extends Error {
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

const ADVICE = {
  unauthorized: "Enter a valid API key at the top of the page.",
  forbidden: "Enter an API key that may do this.",
  insufficient_funds: "Send at most the balance.",
  not_found: "Somebody has left, or was never there. Look at the group again.",
  already_taken: "Choose another name.",
  outcome_unknown: "It may have been done. Try again: it is sent with the same idempotency key, and done once.",
  internal_error: "It may have been done. Try again: it is sent with the same idempotency key, and done once.",
  unreachable: "It may have been done. Try again: it is sent with the same idempotency key, and done once.",
  busy: "Nothing was done. Try again in a moment.",
  unavailable: "Nothing was done. Try again in a moment.",
};

// Ask for the fields, have `prepare` make the request and its sentence out of them, and send it once it is confirmed.
// `done` returns what is announced. Without fields the confirmation comes at once.
async function act({ title, verb, fields = [], prepare, done, danger = false }) {
  const dialog = h("dialog", { "aria-labelledby": "action" });
  const idempotencyKey = newIdempotencyKey();
  const opener = document.activeElement;
  const close = () => dialog.close();
  dialog.addEventListener("close", () => {
    dialog.remove();
    opener?.focus();
  });
  const show = (...parts) => dialog.replaceChildren(...nodes(h("h2", { id: "action" }, title), parts));

  function ask(values = {}, wrong = {}) {
    const inputs = fields.map((field) => input(field, values[field.name] ?? field.value ?? "", wrong[field.name]));
    const submit = async (event) => {
      event.preventDefault();
      const given = Object.fromEntries(fields.map(({ name }) => [name, form.elements[name].value]));
      try {
        confirm(given, await prepare(given));
      } catch (error) {
        if (error instanceof Invalid) return ask(given, { [error.field]: error.message });
        if (!(error instanceof Refusal)) throw error;
        ask(given);
        form.prepend(problem(error));
      }
    };
    const form = h("form", { novalidate: true, on: { submit } }, inputs,
      h("p", { class: "row" }, h("button", { type: "submit", class: "main" }, "Continue"), button("Cancel", close, "quiet")));
    show(form);
    (form.querySelector("[aria-invalid]") ?? form.elements[0]).focus();
  }

  function confirm(given, { sentence, method, path, body }) {
    const answers = h("div");
    const back = fields.length > 0 && button("Back", () => ask(given), "quiet");
    const cancel = button("Cancel", close, "quiet");
    const send = button(verb, async () => {
      for (const each of dialog.querySelectorAll("button")) each.disabled = true;
      try {
        const answer = await call(method, path, { body, idempotencyKey });
        close();
        announce(await done(answer, given));
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        for (const each of dialog.querySelectorAll("button")) each.disabled = false;
        answers.replaceChildren(problem(error));
        send.textContent = "Try again";
        cancel.textContent = "Close";
        // Another request with this idempotency key would be refused if this one was done after all.
        if (!error.sure) back && back.remove();
        send.focus();
      }
    }, danger ? "danger" : "main");
    show(h("p", { class: "sentence" }, sentence), answers, h("p", { class: "row" }, send, back, cancel));
    send.focus();
  }

  document.body.append(dialog);
  dialog.showModal();
  if (fields.length) return ask();
  confirm({}, await prepare({}));
}

function input({ name, label, hint, suggestions, type = "text" }, value, wrong) {
  const id = `field-${name}`;
  const described = [hint && `${id}-hint`, wrong && `${id}-wrong`].filter(Boolean).join(" ");
  const list = suggestions && h("datalist", { id: `${id}-list` }, suggestions.map((each) => h("option", { value: each })));
  return h("div", { class: "field" },
    h("label", { for: id }, label),
    h("input", { id, name, type, value, autocomplete: "off", spellcheck: "false", list: list && `${id}-list`,
      "aria-describedby": described || null, "aria-invalid": wrong ? "true" : null }),
    list,
    hint && h("p", { id: `${id}-hint`, class: "note" }, hint),
    wrong && h("p", { id: `${id}-wrong`, class: "wrong" }, wrong));
}

function problem(refusal) {
  const fields = Object.entries(refusal.errors).filter(([name]) => name !== "detail");
  return h("div", { class: "problem", role: "alert" },
    h("p", {}, h("strong", {}, refusal.title), `: ${refusal.message}.`),
    fields.length > 0 && h("ul", {}, fields.map(([name, messages]) => h("li", {}, `${name}: ${[messages].flat().join(", ")}`))),
    ADVICE[refusal.code] && h("p", {}, ADVICE[refusal.code]));
}

const amountField = () => ({ name: "amount", label: `Amount in ${currentUnit()}` });

function readAmount({ amount }) {
  try {
    return parse(amount);
  } catch (error) {
    throw new Invalid("amount", error.message);
  }
}

function readName(given, field) {
  const name = given[field].trim();
  if (!name) throw new Invalid(field, "Write a name.");
  return name;
}

// The participant whom a person named by username or, if nobody has that one, by id.
async function readParticipant(group, given, field) {
  const name = readName(given, field);
  const address = `/api/groups/${group}/participants`;
  const [found] = (await get(`${address}?username=${encodeURIComponent(name)}`)).data;
  const participant = found ?? (/^[1-9]\d{0,18}$/.test(name) ? await find(`${address}/${name}`) : null);
  if (!participant) throw new Invalid(field, "Nobody in this group has that username or id. Capital letters matter.");
  return participant;
}

const suggested = async (group) => (await get(`/api/groups/${group}/participants?limit=${OFFERED}`)).data.map(({ username }) => username);

const entryLink = (group, entry) => entry && link(`#/groups/${group}/entries/${entry}`, `entry ${entry}`);

const who = ({ username, id }) => [named(username), ` (${id})`];

export function openGroup() {
  return act({
    title: "Open a group",
    verb: "Open it",
    fields: [{ name: "name", label: "Name" }],
    prepare: async (given) => {
      const name = readName(given, "name");
      return { sentence: ["Open the group ", named(name), "."], method: "POST", path: "/api/groups", body: { name } };
    },
    done: ({ data }) => {
      location.hash = `#/groups/${data.id}`;
      return "The group is open.";
    },
  });
}

export function join(group, again) {
  return act({
    title: "Join a participant",
    verb: "Join",
    fields: [{ name: "username", label: "Username" }, { ...amountField(), hint: "The deposit, which may be 0." }],
    prepare: async (given) => {
      const username = readName(given, "username");
      const amount = readAmount(given);
      return {
        sentence: [named(username), ` joins the group with a deposit of ${spelled(amount)}.`],
        method: "POST",
        path: `/api/groups/${group.id}/participants`,
        body: { username, amount: amount.toString() },
      };
    },
    done: ({ data, entry }) => {
      again();
      return [link(`#/groups/${group.id}/participants/${data.id}`, named(data.username)), " has joined: ", entryLink(group.id, entry)];
    },
  });
}

const toField = async (group) => ({ name: "to", label: "To", hint: "A username or an id of this group.", suggestions: await suggested(group) });

function moving(group, findSender, again, fields) {
  return act({
    title: "Transfer",
    verb: "Send",
    fields,
    prepare: async (given) => {
      const sender = await findSender(given);
      const recipient = await readParticipant(group, given, "to");
      const amount = readAmount(given);
      if (amount === 0n) throw new Invalid("amount", "Send at least 1 wei.");
      return {
        sentence: [`Send ${spelled(amount)} from `, who(sender), " to ", who(recipient), "."],
        method: "POST",
        path: `/api/groups/${group}/transfer`,
        body: { from: sender.id, to: recipient.id, amount: amount.toString() },
      };
    },
    done: ({ data, entry }, given) => {
      again();
      const { from_participant: sender, to_participant: recipient } = data;
      return [`Sent ${spelled(parse(given.amount))} from `, named(sender.username), " to ", named(recipient.username), ": ", entryLink(group, entry)];
    },
  });
}

export async function transfer(group, again) {
  const to = await toField(group.id);
  const from = { ...to, name: "from", label: "From" };
  return moving(group.id, (given) => readParticipant(group.id, given, "from"), again, [from, to, amountField()]);
}

export async function transferFrom(sender, again) {
  return moving(sender.group_id, () => sender, again, [await toField(sender.group_id), amountField()]);
}

function depositing(group, findRecipient, again, fields) {
  return act({
    title: "Deposit",
    verb: "Deposit",
    fields,
    prepare: async (given) => {
      const participant = await findRecipient(given);
      const amount = readAmount(given);
      if (amount === 0n) throw new Invalid("amount", "Deposit at least 1 wei.");
      return {
        sentence: [`Add a deposit of ${spelled(amount)} to the balance of `, who(participant), "."],
        method: "POST",
        path: `/api/groups/${group}/participants/${participant.id}/deposits`,
        body: { amount: amount.toString() },
      };
    },
    done: ({ entry }) => {
      again();
      return ["The deposit is made: ", entryLink(group, entry)];
    },
  });
}

export const deposit = (participant, again) => depositing(participant.group_id, () => participant, again, [amountField()]);

export async function depositTo(group, again) {
  const to = { ...(await toField(group.id)), label: "Participant" };
  return depositing(group.id, (given) => readParticipant(group.id, given, "to"), again, [to, amountField()]);
}

export function exit(participant, again) {
  const address = `/api/groups/${participant.group_id}/participants/${participant.id}`;
  return act({
    title: "Exit",
    verb: "Exit",
    danger: true,
    prepare: async () => {
      const { data } = await get(address);
      return {
        sentence: [who(participant), ` leaves the group with ${spelled(BigInt(data.amount))}. This cannot be undone.`],
        method: "DELETE",
        path: address,
      };
    },
    done: ({ data, entry }) => {
      again();
      return [named(participant.username), ` has left with ${spelled(BigInt(data.final_amount))}: `, entryLink(participant.group_id, entry)];
    },
  });
}

// The button that reverses a transfer.
export function reverse(entry, again) {
  return button("Reverse", () => act({
    title: "Reverse a transfer",
    verb: "Reverse",
    prepare: async () => ({
      sentence: `Send ${spelled(BigInt(entry.amount))} back from participant ${entry.to} to participant ${entry.from}.`,
      method: "POST",
      path: `/api/groups/${entry.group_id}/entries/${entry.id}/reversal`,
    }),
    done: ({ entry: made }) => {
      again();
      return ["The transfer is reversed: ", entryLink(entry.group_id, made)];
    },
  }));
}

// The button that settles an exit.
export function settle(entry, again) {
  return button("Settle", () => act({
    title: "Settle an exit",
    verb: "Settle",
    fields: [{ name: "reference", label: "Reference", hint: "Of the transaction on the main network that paid it." }],
    prepare: async (given) => {
      const reference = readName(given, "reference");
      return {
        sentence: [`Record that the exit with ${spelled(BigInt(entry.amount))} was paid by `, named(reference), ". This cannot be undone."],
        method: "POST",
        path: `/api/groups/${entry.group_id}/entries/${entry.id}/settlement`,
        body: { reference },
      };
    },
    done: () => {
      again();
      return "The exit is settled.";
    },
  }));
}

export function makeCheckpoint(group) {
  return act({
    title: "Make a checkpoint",
    verb: "Make it",
    prepare: async () => ({
      sentence: "Commit to what everybody in this group holds now. A checkpoint is never removed.",
      method: "POST",
      path: `/api/groups/${group.id}/checkpoints`,
    }),
    done: ({ data }) => {
      location.hash = `#/groups/${group.id}/checkpoints/${data.number}`;
      return `Checkpoint ${data.number} is made.`;
    },
  });
}
