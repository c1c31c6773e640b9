/** What every view of the page uses: Preact with htm, and the address of the view. */

import { Component, h, render } from "./vendor/preact.js";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
import htm from "./vendor/htm.js";

export const html = htm.bind(h);
export { Component, render, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState };

/** Return the place that the address names: its path as decoded parts, and its parameters. */
function placeIn(hash) {
  const [path, query] = hash.replace(/^#?\/?/, "").split("?", 2);
  const parts = path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { parts, parameters: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

/** Return the place that the address names at this moment: what was drawn may be that of the place before. */
export function placeNow() {
  return placeIn(location.hash);
}

/** Return the address of a view. Parameters that are undefined are left out. */
export function addressOf(parts, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined);
  const query = new URLSearchParams(given).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${query && `?${query}`}`;
}

/** Go to a view; with `quietly`, the way back does not lead to the present one. */
export function go(address, { quietly = false } = {}) {
  if (quietly) {
    history.replaceState(null, "", address);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = address;
  }
}

/** Return a set, empty at first, and a function that puts names into it or takes them out. */
export function useChosen() {
  const [chosen, setChosen] = useState(new Set());
  const choose = (names, isOn) => {
    const changed = new Set(chosen);
    for (const name of names) isOn ? changed.add(name) : changed.delete(name);
    setChosen(changed);
  };
  return [chosen, choose];
}

/** Return the place that the address names, now and when it changes. */
export function usePlace() {
  const [place, setPlace] = useState(() => placeIn(location.hash));
  useEffect(() => {
    const changed = () => setPlace(placeIn(location.hash));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return place;
}

/**
 * Return what `load` last returned, the error of the last try if it failed, and a function that loads again.
 *
 * It loads again after `seconds` while the page can be seen, sooner after an error that may pass. What was
 * loaded stays while the server is away.
 */
export function useLoaded(load, seconds, ...dependencies) {
  const [found, setFound] = useState({ value: undefined, error: undefined });
  const again = useRef(() => {});
  useEffect(() => {
    let timer;
    let isOver = false;
    let number = 0;
    const run = async () => {
      clearTimeout(timer);
      const mine = ++number;
      let wait = seconds;
      try {
        const value = await load();
        if (!isOver && mine === number) setFound({ value, error: undefined });
      } catch (error) {
        if (isOver || mine !== number) return;
        setFound((before) => ({ value: error.retryable ? before.value : undefined, error }));
        wait = error.retryable ? 1 : seconds;
      }
      if (!isOver && mine === number && wait && !document.hidden) timer = setTimeout(run, wait * 1000);
    };
    again.current = run;
    const shown = () => document.hidden || run();
    document.addEventListener("visibilitychange", shown);
    setFound({ value: undefined, error: undefined });
    run();
    return () => {
      isOver = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, dependencies);
  return { ...found, again: useCallback(() => again.current(), []) };
}
