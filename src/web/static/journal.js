/** The journal, record by record: a list of any length, loaded where somebody looks. It can be searched. */

import { Brief, LoadAll, Trouble, Value } from "./parts.js";
import { read } from "./server.js";
import { html, useCallback, useEffect, useRef, useState } from "./view.js";
import { Virtual } from "./virtual.js";
import { count } from "./words.js";

const PAGE = 100;
/** A page is loaded when somebody has looked at its place for so long, not while they scroll past it. */
const REST_MILLISECONDS = 60;

/**
 * Return the records by position, their number, and a function that loads those of some rows. There may be
 * records after the last event: not every record is one.
 */
function useRecords(id, length) {
  const [records, setRecords] = useState(() => new Map());
  const [known, setKnown] = useState(0);
  const [error, setError] = useState();
  const asked = useRef(new Set());
  const timer = useRef(0);
  const load = (first, last) => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      for (let page = Math.floor(first / PAGE); page * PAGE < last; page++) {
        // The last page grows with the execution.
        const name = `${page} ${Math.min(length, (page + 1) * PAGE)}`;
        if (asked.current.has(name)) continue;
        asked.current.add(name);
        read("records", { id, after: page * PAGE, limit: PAGE }).then(
          (found) => {
            setError(undefined);
            setKnown(found.length);
            setRecords((before) => new Map([...before, ...found.records.map((one) => [one.position, one])]));
          },
          (failed) => {
            asked.current.delete(name);
            setError(failed);
          },
        );
      }
    }, REST_MILLISECONDS);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  return { records, length: Math.max(known, length), error, load };
}

/** Return the records that have a text, as far as they were looked for, and a function that looks further. */
function useSearch(id, search, length) {
  const [found, setFound] = useState({ records: [], more: false });
  const [error, setError] = useState();
  const number = useRef(0);
  const look = async (before) => {
    const mine = ++number.current;
    try {
      const answer = await read("records", { id, search, after: before.at(-1)?.position ?? 0 });
      if (mine === number.current) {
        setFound({ records: [...before, ...answer.records], more: answer.more });
        setError(undefined);
      }
    } catch (failed) {
      if (mine === number.current) setError(failed);
    }
  };
  useEffect(() => {
    number.current += 1;
    if (search) look([]);
    else setFound({ records: [], more: false });
  }, [id, search, search ? length : 0]);
  return { ...found, error, lookFurther: () => look(found.records) };
}

export function Journal({ id, length, picked, difference, onPick }) {
  const [search, setSearch] = useState("");
  const all = useRecords(id, length);
  const hits = useSearch(id, search, length);
  const positionOf = (index) => (search ? hits.records[index].position : index + 1);
  const recordOf = (index) => (search ? hits.records[index] : all.records.get(index + 1));
  const rows = search ? hits.records.length : all.length;
  const looked = (first, last) => {
    if (!search) all.load(first, last);
    else if (hits.more && last >= rows) hits.lookFurther();
  };
  const range = useRef([0, 0]);
  const pick = useRef(onPick);
  pick.current = onPick;
  const row = useCallback(
    (index) => html`<${Row} id=${id} position=${positionOf(index)} of=${recordOf(index)} differs=${positionOf(index) === difference} onPick=${(...given) => pick.current(...given)} />`,
    [id, all.records, hits.records, search, picked, difference],
  );
  useEffect(() => looked(...range.current), [length, search]);
  const shown = picked === undefined ? undefined : search ? hits.records.findIndex((one) => one.position === picked) : picked - 1;
  return html`<section class="card" aria-labelledby="journal">
    <h2 id="journal">Journal <span class="soft">${count(all.length, "record")}${search && `, ${hits.more ? "the first " : ""}${rows.toLocaleString("en")} with this text`}</span></h2>
    <form role="search" class="filters" onSubmit=${(event) => event.preventDefault()}>
      <label>Search in the records
        <input type="search" value=${search} onInput=${(event) => setSearch(event.target.value)} />
      </label>
      <label>Go to position
        <input type="number" min="1" max=${all.length} value=${picked ?? ""} onChange=${(event) => event.target.value && onPick(Number(event.target.value), false)} />
      </label>
    </form>
    <${Trouble} error=${search ? hits.error : all.error} />
    <${Virtual} key=${search ? "hits" : "all"} length=${rows} keyOf=${positionOf} estimate=${35} shown=${shown} name="records" label="Records"
      classOf=${(index) => (positionOf(index) === picked ? "picked" : "")}
      onRange=${(first, last) => {
        range.current = [first, last];
        looked(first, last);
      }}
      row=${row} />
    ${search && !rows && html`<p>No record has this text.</p>`}
  </section>`;
}

function Row({ id, position, of, differs, onPick }) {
  const [whole, setWhole] = useState();
  const [error, setError] = useState();
  const [isOpen, setOpen] = useState(false);
  if (!of) return html`<span class="number">${position}</span> <span class="soft">…</span>`;
  const record = whole ?? of.record;
  const { type, ...rest } = record;
  const load = async () => {
    try {
      const found = await read("records", { id, after: position - 1, limit: 1 });
      setWhole(found.records[0].record);
    } catch (failed) {
      setError(failed);
    }
  };
  return html`<details onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary><span class="number">${position}</span> <strong>${type}</strong>${differs && html` <span class="tag differs">first difference</span>`}
      <span class="soft"><${Brief} of=${rest.key ?? rest.name ?? rest} length="90" /></span></summary>
    ${isOpen && html`<${Value} of=${record} label=${`record ${position}`} />
      <p class="buttons"><button class="quiet" onClick=${() => onPick(position, true)}>Show in the timeline</button>
      ${of.bytes && !whole && html`<${LoadAll} bytes=${of.bytes} onClick=${load} />`}</p>
      <${Trouble} error=${error} />`}
  </details>`;
}
