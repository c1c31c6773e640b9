/** What can be done with an execution: each form says first what would happen, and what would run again. */

import { Dialog } from "./dialog.js";
import { stepIn } from "./model.js";
import { LoadAll, Text, Trouble, Value } from "./parts.js";
import { useReruns } from "./reruns.js";
import { act, addressOfRequest, read } from "./server.js";
import { Tagging } from "./tagging.js";
import { endedEarly, isOpen, isStopped, VERBS } from "./verbs.js";
import { addressOf, go, html, useMemo, useState } from "./view.js";
import { count, editable, pretty } from "./words.js";

/** The forms, by verb: when they are offered, what they say, and their fields. */
const FORMS = {
  signal: {
    title: "Send a signal",
    when: isOpen,
    says: () => "The handler of the signal runs once. The message is kept even if no worker is alive.",
    fields: [name("Signal"), args()],
  },
  update: {
    title: "Send an update",
    when: isOpen,
    says: () => "A worker runs the handler once; its answer is shown here.",
    fields: [name("Update"), args(), { name: "update_id", label: "Id (empty: a new one)" }],
  },
  query: {
    title: "Ask a query",
    reads: true,
    when: () => true,
    says: () => "The answer is read from the present state; nothing changes. It needs the code: outlast inspect MODULE.",
    fields: [name("Query"), args()],
  },
  pause: { ...verb("pause"), when: (status) => isOpen(status) && !isStopped(status) },
  resume: { ...verb("resume"), when: isStopped, says: (model) => `${VERBS.resume.says}${underWay(model)}` },
  cancel: { ...verb("cancel"), when: isOpen },
  terminate: { ...verb("terminate"), when: isOpen },
  retry: { ...verb("retry"), when: endedEarly, fields: [again()], asksWhat: true },
};

function verb(of) {
  const { title, says, reason, isGrave } = VERBS[of];
  return { title, says: () => says, isGrave, fields: reason ? [{ name: "reason", label: "Reason", value: reason.value }] : [] };
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

export function Actions({ of, model, readOnly, offered, onDone }) {
  const { id, status } = of;
  const [doing, setDoing] = useState();
  const close = () => setDoing(undefined);
  const shown = Object.entries(FORMS).filter(([one, form]) => offered.includes(one) && form.when(status) && (!readOnly || form.reads));
  return html`<div class="buttons" role="group" aria-label="Actions">
      ${shown.map(([one, form]) => html`<button key=${one} onClick=${() => setDoing(one)}>${form.title}…</button>`)}
      ${!readOnly && offered.includes("tag") && html`<button onClick=${() => setDoing("tag")}>Tag…</button>`}
      <a href=${addressOfRequest("export", { id })} download=${`${id}.jsonl`}>Export</a>
    </div>
    ${doing === "tag" && html`<${Tagging} of=${[of]} onClose=${close} onDone=${onDone} />`}
    ${doing in FORMS && html`<${Form} key=${doing} id=${id} verb=${doing} form=${FORMS[doing]} model=${model} onClose=${close} onDone=${onDone} />`}`;
}

function Form({ id, verb, form, model, onClose, onDone }) {
  const [given, setGiven] = useState(() => Object.fromEntries(form.fields.map((field) => [field.name, field.value ?? ""])));
  const [outcome, setOutcome] = useState({});
  const [isBusy, setBusy] = useState(false);
  const { found, isKnown } = useReruns(form.asksWhat ? [id] : []);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    setOutcome({});
    try {
      const done = await act(verb, { id, ...given });
      setOutcome({ done });
      onDone(done.done);
      if (verb === "update") setGiven({ ...given, update_id: done.update_id ?? "" });
      else if (!("result" in done)) onClose();
    } catch (error) {
      setOutcome({ error });
    }
    setBusy(false);
  };
  return html`<${Dialog} title=${form.title} onClose=${onClose}>
    <p>${form.says(model)}</p>
    ${form.asksWhat && html`<p class="reruns"><${Text}>${found.get(id) ?? "…"}<//></p>`}
    <form onSubmit=${send}>
      ${form.fields.map((field) => html`<${Field} key=${field.name} of=${field} value=${given[field.name]} onInput=${(value) => setGiven({ ...given, [field.name]: value })} />`)}
      <p class="buttons">
        <button class=${form.isGrave ? "main grave" : "main"} disabled=${isBusy || !isKnown}>${isBusy ? "Waiting…" : form.title}</button>
        <button type="button" onClick=${onClose}>Close</button>
      </p>
    </form>
    <${Trouble} error=${outcome.error} />
    ${outcome.done && html`<div role="status"><p>${outcome.done.done}</p>${"result" in outcome.done && html`<${Value} of=${outcome.done.result} label="answer" />`}</div>`}
  <//>`;
}

function Field({ of: field, value, onInput }) {
  if (field.type === "checkbox")
    return html`<label class="check"><input type="checkbox" checked=${value} onChange=${(event) => onInput(event.target.checked)} /> ${field.label}</label>`;
  if (field.rows)
    return html`<label>${field.label}<textarea class="code" rows=${field.rows} spellcheck=${false} value=${value} onInput=${(event) => onInput(event.target.value)}></textarea></label>`;
  return html`<label>${field.label}<input value=${value} required=${field.required} onInput=${(event) => onInput(event.target.value)} /></label>`;
}

/** Fork after an event, with another result of the step that ends there if somebody edits it. */
export function Fork({ id, event, model, onClose }) {
  // What was cut is not edited: the rest of it would be lost.
  const [whole, setWhole] = useState(event);
  const step = stepIn(whole);
  const isCut = Boolean(whole.bytes && step && step.result !== null);
  const original = useMemo(() => (step && step.result !== null && !isCut ? editable(pretty(step.result)) : ""), [whole]);
  const [position, setPosition] = useState(String(event.position));
  const at = Number(position);
  const [changed, setEdited] = useState();
  const edited = changed ?? original;
  const [newId, setNewId] = useState("");
  const [repeats, setRepeats] = useState(false);
  const [error, setError] = useState();
  const [isBusy, setBusy] = useState(false);
  const under = model.spans.filter((span) => span.kind !== "wait" && !span.isVoid && span.from <= at && !((span.to ?? span.left) <= at));
  const kept = model.spans.filter((span) => span.kind !== "wait" && !span.isVoid && span.to <= at);
  const isEdited = edited.trim() !== original.trim();
  const load = () => read("event", { id, position: event.position }).then(setWhole, setError);
  const send = async (submitted) => {
    submitted.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      const edits = step && isEdited ? { [step.key]: edited } : {};
      const made = await act("fork", { id, at, fork_id: newId || null, edits, again: repeats });
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
      <label>Fork after position<input type="number" min="1" max=${model.position} required value=${position} onInput=${(event) => setPosition(event.target.value)} /></label>
      ${isCut && html`<p>What the step returned is large and stays as it is. <${LoadAll} bytes=${whole.bytes} onClick=${load}> to edit it<//></p>`}
      ${step && !isCut && html`<label>${step.key === "input" ? "Arguments of the workflow" : step.result === null ? "A result instead of the failure, as JSON (empty: none)" : "Result of the step, as JSON"}
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
