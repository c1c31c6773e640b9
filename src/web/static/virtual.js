/** A list of any length: only the rows near the part that is seen are in the page. */

import { Guard } from "./parts.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./view.js";

/** Rows this far outside of what is seen are there already when somebody scrolls. */
const MARGIN = 1200;
/** A list as short as this is in the page as a whole. */
const FEW = 120;

/** The heights of the rows: those that were measured, and an estimate of the others. */
class Heights {
  constructor(estimate) {
    this.estimate = estimate;
    this.known = new Map();
    this.offsets = new Float64Array(1);
    this.isStale = true;
  }

  set(key, height) {
    if (height && this.known.get(key) !== height) {
      this.known.set(key, height);
      this.isStale = true;
    }
  }

  /** Return where each row begins, and where the last one ends. */
  of(length, keyOf) {
    if (this.isStale || this.offsets.length !== length + 1) {
      this.offsets = new Float64Array(length + 1);
      for (let index = 0; index < length; index++)
        this.offsets[index + 1] = this.offsets[index] + (this.known.get(String(keyOf(index))) ?? this.estimate);
      this.isStale = false;
    }
    return this.offsets;
  }
}

/** Return the row at a height, by where rows begin. */
function rowAt(offsets, height) {
  let low = 0;
  let high = offsets.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (offsets[middle] <= height) low = middle;
    else high = middle - 1;
  }
  return Math.max(0, low);
}

/**
 * A list that scrolls by itself. `row(index)` returns the content of a row, `classOf(index)` its class, and
 * `keyOf(index)` what stays the same when rows come before it. The row `shown` is scrolled to when it changes;
 * with `isFollowing`, a list that is at its end stays there while it grows. `onRange` gets the first row that is
 * in the page and the one after the last, when they change.
 */
export function Virtual({ length, keyOf, row, classOf, estimate, shown, isFollowing = false, onRange, label, name }) {
  const box = useRef(null);
  const heights = useRef(null);
  heights.current ??= new Heights(estimate);
  const watcher = useRef(null);
  const watched = useRef(new WeakSet());
  // A row that was drawn by the same function is the same: scrolling draws only those that are new.
  const drawn = useRef({ row: undefined, rows: new Map() });
  if (drawn.current.row !== row) drawn.current = { row, rows: new Map() };
  const isAtEnd = useRef(true);
  const [range, setRange] = useState({ first: 0, last: FEW });
  const isWhole = length <= FEW;
  const first = isWhole ? 0 : Math.min(range.first, Math.max(0, length - 1));
  const last = isWhole ? length : Math.min(range.last, length);
  const offsets = heights.current.of(length, keyOf);

  const look = () => {
    if (!box.current) return;
    const { scrollTop: top, clientHeight } = box.current;
    const sums = heights.current.of(length, keyOf);
    const needed = { first: rowAt(sums, top - MARGIN / 2), last: rowAt(sums, top + clientHeight + MARGIN / 2) + 1 };
    setRange((before) =>
      before.first <= needed.first && before.last >= needed.last
        ? before
        : { first: rowAt(sums, top - MARGIN), last: rowAt(sums, top + clientHeight + MARGIN) + 1 },
    );
  };
  const looking = useRef(look);
  looking.current = look;

  useEffect(() => {
    const list = box.current;
    let frame = 0;
    const scrolled = () => {
      isAtEnd.current = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        looking.current();
      });
    };
    const size = new ResizeObserver(() => looking.current());
    size.observe(list);
    list.addEventListener("scroll", scrolled, { passive: true });
    watcher.current = new ResizeObserver((entries) => {
      for (const { target, borderBoxSize } of entries) heights.current.set(target.dataset.key, borderBoxSize[0].blockSize);
    });
    return () => {
      cancelAnimationFrame(frame);
      size.disconnect();
      watcher.current.disconnect();
      list.removeEventListener("scroll", scrolled);
    };
  }, []);
  useEffect(() => {
    for (const one of box.current.querySelectorAll("li[data-key]")) {
      if (watched.current.has(one)) continue;
      watched.current.add(one);
      watcher.current.observe(one);
    }
  });
  useLayoutEffect(() => {
    if (isFollowing && isAtEnd.current) box.current.scrollTop = box.current.scrollHeight;
  });
  useEffect(() => looking.current(), [length]);
  useEffect(() => onRange?.(first, last), [first, last]);
  useEffect(() => {
    if (shown === undefined || shown < 0) return;
    const list = box.current;
    const reveal = () => {
      const found = list.querySelector(`li[aria-posinset="${shown + 1}"]`);
      if (!found) return;
      // Only this list scrolls, not the page.
      const top = found.offsetTop;
      if (top < list.scrollTop) list.scrollTop = top - 20;
      else if (top + found.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = Math.min(top - 20, top + found.offsetHeight - list.clientHeight + 20);
    };
    if (!isWhole && (shown < first || shown >= last)) {
      list.scrollTop = heights.current.of(length, keyOf)[shown] - list.clientHeight / 3;
      looking.current();
      requestAnimationFrame(() => requestAnimationFrame(reveal));
    } else reveal();
  }, [shown]);

  const rows = [];
  const known = drawn.current.rows;
  for (let index = first; index < last; index++) {
    if (!known.has(index))
      known.set(index, html`<li key=${keyOf(index)} data-key=${keyOf(index)} class=${classOf?.(index)} aria-setsize=${length} aria-posinset=${index + 1}><${Guard}>${row(index)}<//></li>`);
    rows.push(known.get(index));
  }
  return html`<div class=${`virtual ${name}`} ref=${box} tabindex="0" role="region" aria-label=${label}>
    <ol style=${{ paddingTop: `${offsets[first]}px`, paddingBottom: `${Math.max(0, offsets[length] - offsets[last])}px` }}>${rows}</ol>
  </div>`;
}
