/** The list of executions, by page and by filter. */

import { Bulk } from "./bulk.js";
import { Filters, filtersIn, queryOf, withTag } from "./filters.js";
import { Guard, Status, Text, Trouble } from "./parts.js";
import { read } from "./server.js";
import { addressOf, html, useChosen, useLoaded, useRef, useState } from "./view.js";
import { Waits } from "./waits.js";
import { age, count, duration, moment, secondsBetween, visible } from "./words.js";

export function Fleet({ parameters, readOnly, offered }) {
  const filters = filtersIn(parameters);
  const { cursor } = parameters;
  const { value, error, again } = useLoaded(() => read("fleet", { ...queryOf(filters), cursor }), cursor ? 0 : 2, JSON.stringify([filters, cursor]));
  const { value: alive } = useLoaded(() => read("workers"), 3);
  const [chosen, choose] = useChosen();
  const [said, setSaid] = useState("");
  // The list before stays until the next one is there.
  const before = useRef();
  if (value) before.current = value;
  const shown = error && !error.retryable ? undefined : (value ?? before.current);
  const listed = shown?.executions ?? [];
  const isFiltered = Object.keys(filters).length > 0;
  const workflows = [...new Set([...(alive?.workers ?? []).flatMap((worker) => worker.workflows), ...listed.map((one) => one.workflow)])].sort();
  const done = (text) => {
    setSaid(text);
    again();
  };
  return html`<section aria-labelledby="executions">
    <div class="headline"><h1 id="executions">Executions</h1><${Alive} of=${alive} /></div>
    <${Filters} filters=${filters} workflows=${workflows} />
    <${Trouble} error=${error} />
    <p role="status" class="said">${said}</p>
    ${!readOnly && listed.length > 0 && html`<div class="toolbar">
      <label class="check"><input type="checkbox" checked=${listed.every((one) => chosen.has(one.id))} onChange=${(event) => choose(listed.map((one) => one.id), event.target.checked)} /> Choose all of this page</label>
      <${Bulk} chosen=${listed.filter((one) => chosen.has(one.id))} offered=${offered} onDone=${done} />
    </div>`}
    ${shown && (listed.length ? html`<${Executions} of=${listed} alive=${alive} filters=${filters} isOld=${!value} chosen=${chosen} onChoose=${readOnly ? undefined : choose} />` : html`<${Nothing} isFiltered=${isFiltered} cursor=${cursor} />`)}
    ${!shown && !error && html`<p>Loading…</p>`}
    <nav class="pages" aria-label="Pages">
      ${cursor !== undefined && html`<a href=${addressOf([], filters)}>Newest</a>`}
      ${shown?.cursor && html`<a href=${addressOf([], { ...filters, cursor: shown.cursor })} onClick=${() => scrollTo(0, 0)}>Older</a>`}
      ${listed.length > 0 && html`<span class="soft">${count(listed.length, "execution")} on this page${cursor === undefined ? ", the newest first" : ""}</span>`}
    </nav>
  </section>`;
}

/** The workers that are alive, in a sentence; the backend may not know them. */
function Alive({ of }) {
  if (!of || of.note) return null;
  const carried = new Set(of.workers.flatMap((worker) => worker.executions)).size;
  if (!of.workers.length) return html`<p class="urgent">No worker is alive: nothing goes on. <code>outlast worker MODULE</code> starts one.</p>`;
  return html`<p class="soft"><a href=${addressOf(["workers"])}>${count(of.workers.length, "worker")}</a> ${of.workers.length === 1 ? "is" : "are"} alive${carried ? ` and at work on ${count(carried, "execution")}` : ""}.</p>`;
}

function Nothing({ isFiltered, cursor }) {
  if (isFiltered || cursor !== undefined)
    return html`<div class="card empty"><p>No execution fits.</p><p><a href=${addressOf([])}>Show all executions</a></p></div>`;
  return html`<div class="card empty"><p>There are no executions here yet.</p>
    <p class="soft">A worker runs them: <code>outlast worker MODULE</code>. And <code>outlast start MODULE:WORKFLOW</code> starts one.</p></div>`;
}

function Executions({ of, alive, filters, isOld, chosen, onChoose }) {
  const carriers = new Map((alive?.workers ?? []).flatMap((worker) => worker.executions.map((id) => [id, worker.identity])));
  const heads = ["Status", "Execution", "Waits for, or error", "Workflow", "Agent", "Turns", "Tokens", "Cost", "Age", "Tags"];
  // The roles stay when a narrow window shows the rows as cards.
  return html`<div class="scroll" tabindex="0" role="region" aria-labelledby="executions">
    <table class="rows" role="table" aria-busy=${isOld}>
      <thead role="rowgroup"><tr role="row">
        ${onChoose && html`<th role="columnheader"><span class="unseen">Choose</span></th>`}
        ${heads.map((head) => html`<th key=${head} role="columnheader" class=${["Turns", "Tokens", "Cost", "Age"].includes(head) ? "number" : ""}>${head}</th>`)}
      </tr></thead>
      <tbody role="rowgroup">
        ${of.map((one) => html`<${Guard} key=${one.id} what=${one.id}><${Row} of=${one} worker=${carriers.get(one.id)} filters=${filters} isChosen=${chosen.has(one.id)} onChoose=${onChoose} /><//>`)}
      </tbody>
    </table>
  </div>`;
}

function Row({ of, worker, filters, isChosen, onChoose }) {
  return html`<tr role="row" class=${isChosen ? "chosen" : ""}>
    ${onChoose && html`<td role="cell" class="choose"><input type="checkbox" aria-label=${visible(`Choose ${of.id}`)} checked=${isChosen} onChange=${(event) => onChoose([of.id], event.target.checked)} /></td>`}
    <td role="cell" class="state"><${Status} of=${of.status} /></td>
    <td role="cell" class="id"><a href=${addressOf(["executions", of.id])}><${Text}>${of.id}<//></a>
      ${of.parent && html`<span class="soft carrier">child of <${Text}>${of.parent}<//></span>`}
      ${of.forked_from && html`<span class="soft carrier">fork of <${Text}>${of.forked_from}<//></span>`}</td>
    <td role="cell" class="waits"><${Waits} of=${of} worker=${worker} /></td>
    <td role="cell" class="workflow"><${Text}>${of.workflow}<//></td>
    <td role="cell" class="agent">${of.agent && html`<${Text}>${of.agent}<//>`}</td>
    <td role="cell" class="number" data-unit="turns">${figure(of.turns)}</td>
    <td role="cell" class="number" data-unit="tokens">${figure(of.tokens)}</td>
    <td role="cell" class="number" data-unit="cost">${of.cost}</td>
    <td role="cell" class="number age"><${Age} of=${of} /></td>
    <td role="cell" class="tags">${Object.entries(of.tags).map(([name, value]) => html`<a key=${name} class="chip" href=${addressOf([], withTag(filters, name, value))} title="Only executions with this tag"><${Text}>${name}=${value}<//></a>`)}</td>
  </tr>`;
}

/** A figure of an execution: empty if the backend does not count it, or if there is nothing to count. */
function figure(number) {
  return number ? number.toLocaleString("en") : "";
}

function Age({ of }) {
  const now = age(secondsBetween(of.created_at, Date.now()));
  return html`<time datetime=${of.created_at} title=${`started ${moment(of.created_at)}`}>${now}</time>
    ${of.ended_at && html`<span class="soft carrier">took ${duration(secondsBetween(of.created_at, of.ended_at))}</span>`}`;
}
