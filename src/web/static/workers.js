/** The workers that are alive, and the executions that each carries. */

import { Text, Trouble } from "./parts.js";
import { read } from "./server.js";
import { addressOf, html, useLoaded } from "./view.js";
import { age, count, moment, secondsBetween } from "./words.js";

export function Workers() {
  const { value, error } = useLoaded(() => read("workers"), 2);
  return html`<section aria-labelledby="workers">
    <h1 id="workers">Workers</h1>
    <${Trouble} error=${error} />
    ${value?.note && html`<p>${value.note}</p>`}
    ${value && !value.note && !value.workers.length && html`<div class="card empty"><p>No worker is alive: nothing goes on.</p><p class="soft"><code>outlast worker MODULE</code> starts one.</p></div>`}
    ${!value && !error && html`<p>Loading…</p>`}
    <div class="cards">${value?.workers.map((worker) => html`<${Worker} key=${worker.identity} of=${worker} />`)}</div>
  </section>`;
}

function Worker({ of }) {
  const { executions } = of;
  return html`<article class="card worker">
    <h2><${Text}>${of.identity}<//></h2>
    <dl>
      <div><dt>Alive for</dt><dd><time datetime=${of.started_at} title=${`since ${moment(of.started_at)}`}>${age(secondsBetween(of.started_at, Date.now()))}</time></dd></div>
      <div><dt>Task queue</dt><dd><${Text}>${of.task_queue}<//></dd></div>
      <div><dt>Workflows</dt><dd><${Text}>${of.workflows.join(", ")}<//></dd></div>
    </dl>
    <h3>Carries ${count(executions.length, "execution")} now</h3>
    ${executions.length > 0
      ? html`<ul>${executions.map((id) => html`<li key=${id}><a href=${addressOf(["executions", id])}><${Text}>${id}<//></a></li>`)}</ul>`
      : html`<p class="soft">It waits for work. What waits for a message or a timer needs no worker.</p>`}
  </article>`;
}
