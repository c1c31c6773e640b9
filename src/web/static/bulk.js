/** Doing a verb to the executions that are chosen in the list. */

import { Dialog } from "./dialog.js";
import { Each, useEach } from "./each.js";
import { useReruns, underWayIn } from "./reruns.js";
import { act } from "./server.js";
import { Tagging } from "./tagging.js";
import { html, useState } from "./view.js";
import { endedEarly, isOpen, isStopped, VERBS } from "./verbs.js";
import { count } from "./words.js";

/** The verbs for several executions, and the statuses that each fits. */
const BULK = {
  pause: (status) => isOpen(status) && !isStopped(status),
  resume: isStopped,
  cancel: isOpen,
  terminate: isOpen,
  retry: endedEarly,
};

export function Bulk({ chosen, offered, onDone }) {
  const [doing, setDoing] = useState();
  if (!chosen.length && !doing) return null;
  const close = () => setDoing(undefined);
  const fits = Object.entries(BULK).map(([verb, fit]) => [verb, chosen.filter(({ status }) => fit(status))]);
  return html`<div class="buttons" role="group" aria-label="Actions on the chosen executions">
      <span>${count(chosen.length, "execution")} chosen:</span>
      ${fits.map(([verb, of]) => of.length > 0 && offered.includes(verb) && html`<button key=${verb} onClick=${() => setDoing({ verb, of })}>${VERBS[verb].title} ${of.length}…</button>`)}
      ${offered.includes("tag") && chosen.length > 0 && html`<button onClick=${() => setDoing({ verb: "tag", of: chosen })}>Tag ${chosen.length}…</button>`}
    </div>
    ${doing?.verb === "tag" && html`<${Tagging} of=${doing.of} onClose=${close} onDone=${onDone} />`}
    ${doing && doing.verb !== "tag" && html`<${BulkForm} verb=${doing.verb} of=${doing.of} onClose=${close} onDone=${onDone} />`}`;
}

function BulkForm({ verb, of, onClose, onDone }) {
  const { title, says, reason, isGrave } = VERBS[verb];
  const [given, setGiven] = useState(reason?.value ?? "");
  const [repeats, setRepeats] = useState(false);
  const { found, isKnown } = useReruns(verb === "retry" ? of.map(({ id }) => id) : []);
  const options = { ...(reason && { reason: given }), ...(verb === "retry" && { again: repeats }) };
  const { outcomes, isBusy, isOver, start, exit } = useEach(of, ({ id }) => act(verb, { id, ...options }), { title, what: "execution", onDone, onClose });
  const rows = of.map((one, index) => ({
    name: one.id,
    says: verb === "retry" ? (found.get(one.id) ?? "…") : underWayIn(verb, one),
    outcome: outcomes[index],
  }));
  return html`<${Dialog} title=${`${title} ${count(of.length, "execution")}?`} onClose=${onClose}>
    <p>${says}</p>
    <${Each} of=${rows} isOver=${isOver} />
    <form onSubmit=${start}>
      ${!isBusy && !isOver && reason && html`<label>Reason<input value=${given} onInput=${(event) => setGiven(event.target.value)} /></label>`}
      ${!isBusy && !isOver && verb === "retry" && html`<label class="check"><input type="checkbox" checked=${repeats} onChange=${(event) => setRepeats(event.target.checked)} /> Repeat also steps with effect="once"</label>`}
      <p class="buttons">
        ${!isOver && html`<button class=${isGrave ? "main grave" : "main"} disabled=${isBusy || !isKnown}>${title} ${of.length}</button>`}
        ${exit}
      </p>
    </form>
  <//>`;
}
