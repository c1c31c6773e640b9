/** The journal, record by record, in pages; it can be searched. */

import { Brief, Text, Trouble, Value } from "./parts.js";
import { read } from "./server.js";
import { html, useEffect, useLoaded, useState } from "./view.js";
import { count } from "./words.js";

export function Journal({ id, length, difference, onPick }) {
  const [search, setSearch] = useState("");
  const [pages, setPages] = useState([0]);
  const after = pages.at(-1);
  // A page that is full does not change; the last one grows with the execution.
  const [version, setVersion] = useState(length);
  const { value, error } = useLoaded(() => read("records", { id, after, search }), 0, id, after, search, version);
  const [kept, setKept] = useState();
  useEffect(() => {
    if (value) setKept(value);
    if (value && !value.more) setVersion(length);
  }, [value, length]);
  const shown = value ?? kept;
  return html`<section class="card" aria-labelledby="journal">
    <h2 id="journal">Journal${shown && html`<span class="soft"> ${count(shown.length, "record")}</span>`}</h2>
    <form role="search" class="filters" onSubmit=${(event) => event.preventDefault()}>
      <label>Search in the records
        <input type="search" value=${search} onInput=${(event) => {
          setSearch(event.target.value);
          setPages([0]);
        }} />
      </label>
    </form>
    <${Trouble} error=${error} />
    <ol class="records">
      ${shown?.records.map((one) => html`<${Row} key=${one.position} id=${id} of=${one} differs=${one.position === difference} onPick=${onPick} />`)}
    </ol>
    ${shown && !shown.records.length && html`<p>No record has this text.</p>`}
    <nav class="pages" aria-label="Pages of the journal">
      ${pages.length > 1 && html`<button onClick=${() => setPages(pages.slice(0, -1))}>Earlier</button>`}
      ${shown?.more && html`<button onClick=${() => setPages([...pages, shown.records.at(-1).position])}>Later</button>`}
    </nav>
  </section>`;
}

function Row({ id, of, differs, onPick }) {
  const [whole, setWhole] = useState();
  const [error, setError] = useState();
  const record = whole ?? of.record;
  const { type, ...rest } = record;
  const load = async () => {
    try {
      const found = await read("records", { id, after: of.position - 1, limit: 1 });
      setWhole(found.records[0].record);
    } catch (failed) {
      setError(failed);
    }
  };
  return html`<li id=${`record-${of.position}`}>
    <details>
      <summary><span class="number">${of.position}</span> <strong>${type}</strong>${differs && html` <span class="tag differs">first difference</span>`}
        <span class="soft"><${Brief} of=${rest.key ?? rest.name ?? rest} length="90" /></span></summary>
      <${Value} of=${record} label=${`record ${of.position}`} />
      <p class="buttons"><button class="quiet" onClick=${() => onPick(of.position)}>Show in the timeline</button>
      ${of.bytes && !whole && html`<button class="quiet" onClick=${load}>Load all ${of.bytes.toLocaleString("en")} bytes</button>`}</p>
      <${Trouble} error=${error} />
    </details>
  </li>`;
}
