/** Who decides: the name that a decision is kept with. The browser remembers it. */

import { html, useEffect, useState } from "./view.js";

const PLACE = "outlast-person";

let proposed = "";
const watchers = new Set();

function remembered() {
  try {
    return localStorage.getItem(PLACE);
  } catch {
    return null; // The browser keeps nothing for this page.
  }
}

function nameNow() {
  return remembered() ?? proposed;
}

function announce() {
  for (const watcher of watchers) watcher(nameNow());
}

/** Propose a name to somebody who has given none. */
export function propose(name) {
  proposed = name;
  announce();
}

/** Return the name of the person at the page, and a function that changes it for all forms. */
export function usePerson() {
  const [name, setName] = useState(nameNow);
  useEffect(() => {
    watchers.add(setName);
    setName(nameNow());
    return () => watchers.delete(setName);
  }, []);
  const change = (changed) => {
    proposed = changed;
    try {
      localStorage.setItem(PLACE, changed);
    } catch {
      // It lasts as long as the page, then.
    }
    announce();
  };
  return [name, change];
}

export function PersonField() {
  const [name, setName] = usePerson();
  return html`<label>Decided by (kept with the decision)
    <input autocomplete="name" maxlength="200" value=${name} onInput=${(event) => setName(event.target.value)} />
  </label>`;
}
