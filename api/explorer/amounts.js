// Amounts are BigInt, in wei, and are shown in the unit that was chosen, exactly.

import { h } from "./dom.js";

export const UNITS = { wei: 0, gwei: 9, ether: 18 };
const STORED = "ledger unit";
export const LIMIT = 1n << 256n;

let unit = "wei";
try {
  const stored = localStorage.getItem(STORED);
  if (stored in UNITS) unit = stored;
} catch {
  // A browser may refuse storage: the unit is then chosen again in each tab.
}

export const currentUnit = () => unit;

// Change the unit of all amounts on the page.
export function chooseUnit(chosen) {
  unit = chosen;
  try {
    localStorage.setItem(STORED, chosen);
  } catch {
    // See above.
  }
  for (const element of document.querySelectorAll("[data-wei]")) {
    const { wei, sign, unit: withUnit } = element.dataset;
    element.textContent = text(BigInt(wei), sign, withUnit);
  }
}

const text = (wei, sign = "", withUnit) => `${sign}${format(wei)}${withUnit ? ` ${unit}` : ""}`;

// The digits of an amount, in groups of three between which a line may end; all decimals that are not zero.
export function format(wei, chosen = unit) {
  const decimals = UNITS[chosen];
  const digits = wei.toString().padStart(decimals + 1, "0");
  const whole = digits.slice(0, digits.length - decimals).replace(/\B(?=(\d{3})+$)/g, "\u2009");
  const rest = decimals ? digits.slice(-decimals).replace(/0+$/, "") : "";
  return rest ? `${whole}.${rest}` : whole;
}

// An amount as an element that follows the unit.
export function amount(wei, { sign = "", withUnit = false } = {}) {
  const given = { class: "amount", "data-wei": wei, "data-sign": sign, "data-unit": withUnit && "1" };
  return h("span", given, text(BigInt(wei), sign, withUnit));
}

// Name an amount in the chosen unit and in wei, for a confirmation.
export function spelled(wei) {
  return unit === "wei" ? `${format(wei)} wei` : `${format(wei)} ${unit} (${format(wei, "wei")} wei)`;
}

// Read what a person typed, in the chosen unit. Throws an Error whose message is for that person.
export function parse(typed) {
  const compact = typed.replace(/\s/g, "");
  const decimals = UNITS[unit];
  const match = /^(\d+)(?:\.(\d+))?$/.exec(compact);
  if (!match) throw new Error(`Write digits${decimals ? ", with a point before decimals" : " alone"}: 5, for example.`);
  const rest = (match[2] ?? "").replace(/0+$/, "");
  if (rest.length > decimals) throw new Error(decimals ? `${unit} has ${decimals} decimals.` : "wei has no decimals.");
  const wei = BigInt(match[1] + rest.padEnd(decimals, "0"));
  if (wei >= LIMIT) throw new Error("An amount is below 2^256.");
  return wei;
}
