/** The calls and the questions that wait for a person, over all executions. */

import { Approval, Decisions } from "./approvals.js";
import { Guard, Trouble } from "./parts.js";
import { PersonField } from "./person.js";
import { Question } from "./questions.js";
import { read } from "./server.js";
import { html, useChosen, useLoaded, useState } from "./view.js";
import { count, visible } from "./words.js";

function nameOf(one) {
  return `${one.id} ${one.key} ${one.fingerprint}`;
}

export function Inbox({ readOnly }) {
  const { value, error, again } = useLoaded(() => read("inbox"), 3);
  const [said, setSaid] = useState("");
  const [chosen, choose] = useChosen();
  const [verdict, setVerdict] = useState();
  const waiting = value?.approvals ?? [];
  const questions = value?.questions ?? [];
  const picked = waiting.filter((one) => chosen.has(nameOf(one)));
  const decided = (text) => {
    setSaid(text);
    again();
  };
  return html`<section aria-labelledby="inbox">
    <h1 id="inbox">Waiting for a person</h1>
    <${Trouble} error=${error} />
    <p role="status" class="said">${said}</p>
    ${!value && !error && html`<p>Loading…</p>`}
    ${value && !waiting.length && !questions.length && html`<div class="card empty"><p>Nothing waits for a person.</p>
      <p class="soft">A tool with <code>requires_approval=True</code> asks here before it is called, and <code>workflow.ask</code> asks questions.</p></div>`}
    ${value && !value.is_all && html`<p>There may be more: of those that run, and of those that are paused, only the newest ${value.looked_at} executions were looked at.</p>`}
    ${!readOnly && waiting.length + questions.length > 0 && html`<div class="person"><${PersonField} /></div>`}
    ${!readOnly && waiting.length > 1 && html`<div class="toolbar">
      <label class="check"><input type="checkbox" checked=${picked.length === waiting.length} onChange=${(event) => choose(waiting.map(nameOf), event.target.checked)} /> Choose all</label>
      ${picked.length > 0 && html`<div class="buttons" role="group" aria-label="Decide about the chosen calls">
        <span>${count(picked.length, "call")} chosen:</span>
        <button onClick=${() => setVerdict("allow")}>Allow ${picked.length}…</button>
        <button onClick=${() => setVerdict("deny")}>Deny ${picked.length}…</button>
      </div>`}
    </div>`}
    <div class="cards">${questions.map((one) => html`<${Guard} key=${nameOf(one)} what=${`The question of ${one.id}`}><${Question} of=${one} readOnly=${readOnly} onDone=${decided} isLinked=${true} /><//>`)}</div>
    ${verdict && html`<${Decisions} verdict=${verdict} of=${picked} onClose=${() => setVerdict(undefined)} onDone=${decided} />`}
    <div class="cards">${waiting.map((one) => html`<${Guard} key=${nameOf(one)} what=${`The call of ${one.tool} in ${one.id}`}><${Approval} of=${one} readOnly=${readOnly} onDone=${decided} isLinked=${true}>
      ${!readOnly && waiting.length > 1 && html`<input type="checkbox" aria-label=${visible(`Choose the call of ${one.tool} in ${one.id}`)} checked=${chosen.has(nameOf(one))} onChange=${(event) => choose([nameOf(one)], event.target.checked)} />`}
    <//><//>`)}</div>
  </section>`;
}
