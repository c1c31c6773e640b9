/** What can be done with an execution: each form says first what would happen, and what would run again. */

import { Text, Trouble, Value } from "./parts.js";
import { act, addressOfRequest } from "./server.js";
import { addressOf, go, html, useEffect, useRef, useState } from "./view.js";
import { count, editable, pretty } from "./words.js";

/** The forms, by verb: when they are offered, what they say, and their fields. */
const FORMS = {
  signal: {
    title: "Send a signal",
    when: (status) => isOpen(status),
    says: () => "The handler of the signal runs once. The message is kept even if no worker is alive.",
    fields: [name("Signal"), args()],
  },
  update: {
    title: "Send an update",
    when: (status) => isOpen(status),
    says: () => "A worker runs the handler once; its answer is shown here.",
    fields: [name("Update"), args()],
  },
  query: {
    title: "Ask a query",
    reads: true,
    when: () => true,
    says: () => "The answer is read from the present state; nothing changes. It needs the code: outlast inspect MODULE.",
    fields: [name("Query"), args()],
  },
  pause: {
    title: "Pause",
    when: (status, offered) => offered.includes("pause") && isOpen(status) && status !== "paused",
    says: () => "It begins no step until somebody resumes it. What is under way may end, and is kept.",
    fields: [{ name: "reason", label: "Reason" }],
  },
  resume: {
    title: "Resume",
    when: (status) => status === "held" || status === "paused",
    says: (model) => `Workers take it again. No completed step runs again.${underWay(model)}`,
    fields: [],
  },
  cancel: {
    title: "Cancel",
    when: (status) => isOpen(status),
    says: () => "The execution is asked to end; its code can clean up first.",
    fields: [],
  },
  terminate: {
    title: "Terminate",
    when: (status) => isOpen(status),
    says: () => "The execution ends at once, without any clean-up. What a step does at this moment may still happen.",
    fields: [{ name: "reason", label: "Reason", value: "from the inspector" }],
    isGrave: true,
  },
  retry: {
    title: "Retry",
    when: (status) => ["failed", "cancelled", "terminated"].includes(status),
    says: (model) => {
      const failed = model.spans.filter((span) => span.state === "failed" && span.kind !== "wait" && !span.isVoid).at(-1);
      const anew = failed ? ` A failed step that ended it is tried anew: the last one is ${failed.name}.` : "";
      return `It is opened again under the same id, with today's code. No completed step runs again.${anew}${underWay(model)}`;
    },
    fields: [again()],
  },
};

function isOpen(status) {
  return ["running", "held", "paused"].includes(status);
}

function name(what) {
  return { name: "name", label: `${what} (the name of the handler)`, required: true };
}

function args() {
  return { name: "arguments", label: "Arguments: a JSON list, or an object by parameter name", value: "[]", rows: 4 };
}

function again() {
  return { name: "again", label: 'Repeat also steps with effect="once"', type: "checkbox", value: false };
}

function underWay(model) {
  const open = model.open.filter((span) => span.kind !== "wait");
  return open.length ? ` Under way now, and run again if the outcome is lost: ${open.map((span) => span.name).join(", ")}.` : "";
}

export function Actions({ id, status, model, readOnly, offered, onDone }) {
  const [verb, setVerb] = useState();
  const shown = Object.entries(FORMS).filter(([, form]) => form.when(status, offered) && (!readOnly || form.reads));
  return html`<div class="buttons" role="group" aria-label="Actions">
      ${shown.map(([one, form]) => html`<button key=${one} onClick=${() => setVerb(one)}>${form.title}…</button>`)}
      <a href=${addressOfRequest("export", { id })} download=${`${id}.jsonl`}>Export</a>
    </div>
    ${verb && html`<${Form} key=${verb} id=${id} verb=${verb} form=${FORMS[verb]} model=${model} onClose=${() => setVerb(undefined)} onDone=${onDone} />`}`;
}

/** Do one thing to each of several executions; what one of them refuses does not stop the others. */
export function Bulk({ chosen, readOnly, onDone }) {
  const [verb, setVerb] = useState();
  if (readOnly || !chosen.length) return null;
  const fits = Object.entries(BULK).map(([one, fit]) => [one, chosen.filter(fit).map(({ id }) => id)]);
  return html`<div class="buttons" role="group" aria-label="Actions on the chosen executions">
      <span>${count(chosen.length, "execution")} chosen:</span>
      ${fits.map(([one, ids]) => ids.length > 0 && html`<button key=${one} onClick=${() => setVerb(one)}>${FORMS[one].title} ${ids.length}…</button>`)}
    </div>
    ${verb && html`<${BulkForm} key=${verb} verb=${verb} ids=${Object.fromEntries(fits)[verb]} onClose=${() => setVerb(undefined)} onDone=${onDone} />`}`;
}

/** The verbs for several executions, and those that each fits. */
const BULK = {
  cancel: ({ status }) => isOpen(status),
  terminate: ({ status }) => isOpen(status),
  resume: ({ status }) => status === "held" || status === "paused",
  retry: ({ status }) => ["failed", "cancelled", "terminated"].includes(status),
};

function BulkForm({ verb, ids, onClose, onDone }) {
  const form = FORMS[verb];
  const [progress, setProgress] = useState();
  const run = async (event) => {
    event.preventDefault();
    const refusals = [];
    for (const [number, id] of ids.entries()) {
      setProgress({ number, refusals });
      try {
        await act(verb, verb === "terminate" ? { id, reason: "from the inspector" } : { id });
      } catch (error) {
        refusals.push({ id, error });
      }
    }
    setProgress({ number: ids.length, refusals, isOver: true });
    onDone();
  };
  return html`<${Dialog} title=${`${form.title} ${count(ids.length, "execution")}`} onClose=${onClose}>
    <p>${form.says({ open: [], spans: [] })}</p>
    <details><summary>${count(ids.length, "execution")}</summary><ul>${ids.map((id) => html`<li key=${id}><${Text}>${id}<//></li>`)}</ul></details>
    <p role="status">${progress && `${progress.number} of ${ids.length} done, ${count(progress.refusals.length, "refusal")}.`}</p>
    ${progress?.refusals.map(({ id, error }) => html`<${Trouble} key=${id} error=${{ message: `${id}: ${error.message}` }} />`)}
    <form class="buttons" onSubmit=${run}>
      ${!progress && html`<button class=${form.isGrave ? "main grave" : "main"}>${form.title}</button>`}
      <button type="button" disabled=${progress && !progress.isOver} onClick=${onClose}>Close</button>
    </form>
  <//>`;
}

/** A dialog that the keyboard stays in, until it is closed. */
export function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    const shown = dialog.current;
    shown.showModal();
    return () => shown.close();
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onCancel=${(event) => {
    event.preventDefault();
    onClose();
  }}>
    <h2 id="dialog-title">${title}</h2>
    ${children}
  </dialog>`;
}

function Form({ id, verb, form, model, onClose, onDone }) {
  const [given, setGiven] = useState(() => Object.fromEntries(form.fields.map((field) => [field.name, field.value ?? ""])));
  const [outcome, setOutcome] = useState({});
  const [isBusy, setBusy] = useState(false);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    setOutcome({});
    try {
      const done = await act(verb, { id, ...given });
      setOutcome({ done });
      onDone(done.done);
      if (!("result" in done)) onClose();
    } catch (error) {
      setOutcome({ error });
    }
    setBusy(false);
  };
  return html`<${Dialog} title=${form.title} onClose=${onClose}>
    <p>${form.says(model)}</p>
    <form onSubmit=${send}>
      ${form.fields.map((field) => html`<${Field} key=${field.name} of=${field} value=${given[field.name]} onInput=${(value) => setGiven({ ...given, [field.name]: value })} />`)}
      <p class="buttons">
        <button class=${form.isGrave ? "main grave" : "main"} disabled=${isBusy}>${isBusy ? "Waiting…" : form.title}</button>
        <button type="button" onClick=${onClose}>Close</button>
      </p>
    </form>
    <${Trouble} error=${outcome.error} />
    ${outcome.done && "result" in outcome.done && html`<div role="status"><p>${outcome.done.done}</p><${Value} of=${outcome.done.result} label="answer" /></div>`}
  <//>`;
}

function Field({ of: field, value, onInput }) {
  if (field.type === "checkbox")
    return html`<label class="check"><input type="checkbox" checked=${value} onChange=${(event) => onInput(event.target.checked)} /> ${field.label}</label>`;
  if (field.rows)
    return html`<label>${field.label}<textarea class="code" rows=${field.rows} spellcheck=${false} value=${value} onInput=${(event) => onInput(event.target.value)}></textarea></label>`;
  return html`<label>${field.label}<input value=${value} required=${field.required} onInput=${(event) => onInput(event.target.value)} /></label>`;
}

/** Fork at a position, with another result of the step that ends there if somebody edits it. */
export function Fork({ id, at, step, model, onClose }) {
  const original = step && step.result !== null ? editable(pretty(step.result)) : "";
  const [position, setPosition] = useState(String(at));
  const [edited, setEdited] = useState(original);
  const [newId, setNewId] = useState("");
  const [repeats, setRepeats] = useState(false);
  const [error, setError] = useState();
  const [isBusy, setBusy] = useState(false);
  const under = model.spans.filter((span) => span.kind !== "wait" && !span.isVoid && span.from <= at && (span.to === undefined || span.to > at));
  const kept = model.spans.filter((span) => span.kind !== "wait" && !span.isVoid && span.to <= at);
  const isEdited = edited.trim() !== original.trim();
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      const edits = step && isEdited ? { [step.key]: edited } : {};
      const made = await act("fork", { id, at: Number(position), fork_id: newId || null, edits, again: repeats });
      onClose();
      go(addressOf(["executions", made.id]));
    } catch (failed) {
      setError(failed);
      setBusy(false);
    }
  };
  return html`<${Dialog} title="Fork" onClose=${onClose}>
    <p>A new execution begins with the first records of this one, which does not change.
      ${" "}${count(kept.length, "step")} up to position ${at} ${kept.length === 1 ? "is" : "are"} not run again.
      ${under.length > 0 && html` Under way there, and run again: <${Text}>${under.map((span) => span.name).join(", ")}<//>.`}</p>
    <form onSubmit=${send}>
      <label>Fork after position<input type="number" min="1" required value=${position} onInput=${(event) => setPosition(event.target.value)} /></label>
      ${step && html`<label>${step.key === "input" ? "Arguments of the workflow" : step.result === null ? "A result instead of the failure, as JSON (empty: none)" : "Result of the step, as JSON"}
        <textarea class="code" rows=${Math.min(14, edited.split("\n").length + 1)} spellcheck=${false} value=${edited} onInput=${(event) => setEdited(event.target.value)}></textarea></label>`}
      <label>Id of the fork (empty: a new one)<input value=${newId} onInput=${(event) => setNewId(event.target.value)} /></label>
      <label class="check"><input type="checkbox" checked=${repeats} onChange=${(event) => setRepeats(event.target.checked)} /> Repeat also steps with effect="once"</label>
      <p class="buttons">
        <button class="main" disabled=${isBusy}>Fork</button>
        <button type="button" onClick=${onClose}>Close</button>
      </p>
    </form>
    <${Trouble} error=${error} />
  <//>`;
}
