/** All executions, the workers that are alive, and the calls that wait for a person. */

import { Bulk } from "./actions.js";
import { Approval } from "./approvals.js";
import { Brief, Moment, Status, Text, Trouble } from "./parts.js";
import { read } from "./server.js";
import { addressOf, go, html, useLoaded, useState } from "./view.js";
import { count, duration, secondsBetween, visible } from "./words.js";

const STATUSES = ["running", "paused", "completed", "failed", "cancelled", "terminated"];

export function Fleet({ parameters, readOnly }) {
  const { status, workflow, cursor } = parameters;
  const { value, error, again } = useLoaded(
    () => read("fleet", { status, workflow, cursor }),
    cursor ? 0 : 2,
    status,
    workflow,
    cursor,
  );
  const [chosen, setChosen] = useState(new Set());
  const listed = value?.executions ?? [];
  const filter = (changed) => go(addressOf([], { status, workflow, ...changed }));
  return html`<section aria-labelledby="executions">
    <h1 id="executions">Executions</h1>
    <${Trouble} error=${error} />
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <label>Status
        <select value=${status ?? ""} onChange=${(event) => filter({ status: event.target.value })}>
          <option value="">any</option>
          ${STATUSES.map((one) => html`<option value=${one} selected=${one === status}>${one}</option>`)}
        </select>
      </label>
      <label>Workflow
        <input type="search" value=${workflow ?? ""} placeholder="any"
          onChange=${(event) => filter({ workflow: event.target.value.trim() })} />
      </label>
    </form>
    <${Bulk} chosen=${listed.filter((one) => chosen.has(one.id))} readOnly=${readOnly} onDone=${again} />
    ${value && html`<${Executions} of=${listed} chosen=${chosen} onChoose=${readOnly ? undefined : setChosen} />`}
    ${!value && !error && html`<p>Loading…</p>`}
    <nav class="pages" aria-label="Pages">
      ${cursor && html`<a href=${addressOf([], { status, workflow })}>Newest</a>`}
      ${value?.cursor && html`<a href=${addressOf([], { status, workflow, cursor: value.cursor })}>Older</a>`}
    </nav>
  </section>`;
}

function Executions({ of, chosen, onChoose }) {
  const isAll = of.length > 0 && of.every((one) => chosen.has(one.id));
  const choose = (ids, isOn) => {
    const changed = new Set(chosen);
    for (const id of ids) isOn ? changed.add(id) : changed.delete(id);
    onChoose(changed);
  };
  if (!of.length) return html`<p>There are no executions here yet. A worker and <code>outlast start</code> make them.</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-labelledby="executions">
    <table class="executions">
      <thead><tr>
        ${onChoose && html`<th><input type="checkbox" aria-label="Choose all of this page" checked=${isAll} onChange=${(event) => choose(of.map((one) => one.id), event.target.checked)} /></th>`}
        <th>Status</th><th>Execution</th><th>Workflow</th><th>Started</th><th>Took</th><th>Error</th></tr></thead>
      <tbody>
        ${of.map(
          (one) => html`<tr key=${one.id}>
            ${onChoose && html`<td><input type="checkbox" aria-label=${visible(`Choose ${one.id}`)} checked=${chosen.has(one.id)} onChange=${(event) => choose([one.id], event.target.checked)} /></td>`}
            <td><${Status} of=${one.status} /></td>
            <td><a href=${addressOf(["executions", one.id])}><${Text}>${one.id}<//></a></td>
            <td><${Text}>${one.workflow}<//></td>
            <td><${Moment} at=${one.created_at} /></td>
            <td class="number">${one.ended_at ? duration(secondsBetween(one.created_at, one.ended_at)) : html`<${Age} since=${one.created_at} />`}</td>
            <td><${Brief} of=${one.error ?? ""} length="120" /></td>
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function Age({ since }) {
  return html`<span title="It goes on.">${duration(Math.max(0, secondsBetween(since, Date.now())))} …</span>`;
}

export function Workers() {
  const { value, error } = useLoaded(() => read("workers"), 2);
  return html`<section aria-labelledby="workers">
    <h1 id="workers">Workers</h1>
    <${Trouble} error=${error} />
    ${value?.note && html`<p>${value.note}</p>`}
    ${value && !value.note && !value.workers.length && html`<p>No worker is alive. <code>outlast worker MODULE</code> starts one.</p>`}
    ${value?.workers.map(
      (worker) => html`<article class="card" key=${worker.identity}>
        <h2><${Text}>${worker.identity}<//></h2>
        <p>Task queue <${Text}>${worker.task_queue}<//>, since <${Moment} at=${worker.started_at} />.
          Runs <${Text}>${worker.workflows.join(", ")}<//>.</p>
        <p>Carries ${count(worker.executions.length, "execution")} now${worker.executions.length ? ":" : "."}</p>
        <ul>${worker.executions.map((id) => html`<li key=${id}><a href=${addressOf(["executions", id])}><${Text}>${id}<//></a></li>`)}</ul>
      </article>`,
    )}
  </section>`;
}

export function Inbox({ readOnly }) {
  const { value, error, again } = useLoaded(() => read("inbox"), 3);
  const [said, setSaid] = useState("");
  const decided = (text) => {
    setSaid(text);
    again();
  };
  return html`<section aria-labelledby="inbox">
    <h1 id="inbox">Waiting for a person</h1>
    <${Trouble} error=${error} />
    <p role="status">${said}</p>
    ${value && !value.approvals.length && html`<p>No call waits for a decision.</p>`}
    ${value && !value.is_all && html`<p>Only the newest ${value.looked_at} running executions were looked at.</p>`}
    ${value?.approvals.map(
      (one) => html`<${Approval} key=${one.id + " " + one.key} of=${one} readOnly=${readOnly} onDone=${decided} isLinked=${true} />`,
    )}
  </section>`;
}
