// Builds elements of the page: text only ever as text, so nothing that a server or camera says is markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element of the page by its id; the page is broken where it is missing. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}`);
  return found;
}

/**
 * A new element. `attributes`: `class`, `text`, `on` ({event: handler}), `data` ({name: value}),
 * true/false for attributes without a value, anything else as it is; `children`: nodes or texts.
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  give(made, attributes);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** The same for SVG; attributes as numbers or texts. */
export function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  give(made, attributes);
  made.append(...children);
  return made;
}

function give(made, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name === "on") {
      for (const [event, handler] of Object.entries(value)) made.addEventListener(event, handler);
    } else if (name === "data") Object.assign(made.dataset, value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
}

/** Shows one of the page's own symbols (`<symbol id="i-…">` of index.html). */
export function icon(name) {
  const use = drawn("use", { href: `#i-${name}` });
  return drawn("svg", { class: "icon", "aria-hidden": "true", focusable: "false" }, use);
}

/** Sets the text only where it is another one: a live region or a selection stays undisturbed. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** How much of a bar is filled, in [0, 1]; through the object model, which a strict CSP allows. */
export function setShare(node, share) {
  const held = Number.isFinite(share) ? Math.max(0, Math.min(1, share)) : 0;
  node.style.setProperty("--share", held.toFixed(4));
}
