// Build elements. Text is always a text node, never markup.

const SVG = "http://www.w3.org/2000/svg";

// Make an HTML element: `on` has its listeners, and children are nodes, strings, numbers, or lists of them.
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

// Make an SVG element.
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, { on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  element.append(...nodes(children));
  return element;
}

// The nodes of children, without null and false.
export function nodes(...children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}

// A name that a client chose, isolated from the direction of the text around it.
export const named = (text) => h("bdi", { class: "name" }, text);

export const link = (href, ...children) => h("a", { href }, ...children);

export const button = (text, click, kind = "") => h("button", { type: "button", class: kind, on: { click } }, text);

const SHOWN = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export function moment(text) {
  return h("time", { datetime: text, title: text }, SHOWN.format(new Date(text)));
}

// A value that is copied with a button.
export function copyable(text, what) {
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(text);
      announce(`${what} copied`);
    } catch {
      getSelection().selectAllChildren(value);
      announce(`${what} is selected: copy it with the keyboard`);
    }
  }, "quiet small");
  copy.setAttribute("aria-label", `Copy ${what.toLowerCase()}`);
  const value = h("code", {}, text);
  return h("span", { class: "copyable" }, value, " ", copy);
}

// Show a message above the content; screen readers read it.
export function announce(...children) {
  document.getElementById("news").replaceChildren(...nodes(children));
}

// A table with a caption for screen readers. A column is [title, class]; rows are lists of cells.
export function table(caption, columns, rows) {
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map(([title, kind]) => h("th", { scope: "col", class: kind }, title)))),
      h("tbody", {}, rows.map(({ cells, kind }) => h("tr", { class: kind },
        cells.map((cell, place) => h("td", { class: columns[place][1] }, cell))))),
    ),
  );
}

export function facts(pairs) {
  return h("dl", {}, pairs.filter(Boolean).map(([term, ...values]) => h("div", {}, h("dt", {}, term), h("dd", {}, values))));
}

// The way back: each [address, name] above this page.
export function trail(...steps) {
  return h("nav", { class: "trail", "aria-label": "Above this page" },
    [["#/", "Groups"], ...steps].map(([address, name], place) => [place > 0 && " / ", link(address, name)]));
}

// What to do where there is nothing to show.
export const empty = (...children) => h("div", { class: "empty" }, ...children);

// Replace the content of an element; the link or button that has the focus keeps it.
export function refresh(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const same = (other) => (focused.getAttribute("href") ?? focused.textContent) === (other.getAttribute("href") ?? other.textContent);
  element.replaceChildren(...nodes(children));
  if (focused) [...element.querySelectorAll("a, button")].find(same)?.focus({ preventScroll: true });
}
