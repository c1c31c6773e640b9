/** Calls that wait for a person: one with its arguments to edit, or several that get the same decision. */

import { Arguments } from "./forms.js";
import { Dialog } from "./dialog.js";
import { Each, useEach } from "./each.js";
import { Brief, LoadAll, LongText, Text, Trouble } from "./parts.js";
import { PersonField, usePerson } from "./person.js";
import { act, read } from "./server.js";
import { addressOf, html, useState } from "./view.js";
import { count, visible } from "./words.js";

/** What is longer than this is shown, and not edited: a field for it would stop the browser. */
const EDITED_CHARACTERS = 1_000_000;

/** One call; of large arguments, only a part is there until somebody asks for the rest. */
export function Approval({ of: given, readOnly, onDone, isLinked = false, children }) {
  const [of, setOf] = useState(given);
  const [edited, setEdited] = useState({ text: null });
  const [reason, setReason] = useState("");
  const [by] = usePerson();
  const [error, setError] = useState();
  const [isBusy, setBusy] = useState(false);
  const decide = async (verb) => {
    setBusy(true);
    setError(undefined);
    try {
      const changed = verb === "allow" && edited.text !== null && { arguments: edited.text };
      const decision = { id: of.id, call: of.key, fingerprint: of.fingerprint, reason: reason || null, by: by || null, ...changed };
      onDone((await act(verb, decision)).done);
    } catch (failed) {
      setError(failed);
    }
    setBusy(false);
  };
  const name = visible(`${of.agent} asks to call ${of.tool}${isLinked ? ` in ${of.id}` : ""}`);
  return html`<form class="card approval" aria-label=${name} onSubmit=${(event) => event.preventDefault()}>
    <div class="headline">${children}<h2><${Text}>${of.agent}<//> asks to call <${Text} as="code">${of.tool}<//></h2></div>
    ${isLinked && html`<p>in <a href=${addressOf(["executions", of.id])}><${Text}>${of.id}<//></a></p>`}
    ${of.bytes || of.arguments.length > EDITED_CHARACTERS
      ? html`<${LongText} label="arguments">${of.arguments}<//>
        ${of.bytes && html`<${LoadAll} bytes=${of.bytes} onClick=${() => read("approval", { id: of.id, call: of.key }).then(setOf, setError)} />`}`
      : html`<${Arguments} text=${of.arguments} schema=${of.parameters} readOnly=${readOnly} onInput=${(text, fault) => setEdited({ text, fault })} />`}
    ${edited.fault && html`<p class="trouble" role="alert">${edited.fault}</p>`}
    ${!readOnly &&
    html`<label>Reason (the model sees it if you deny)
        <input value=${reason} onInput=${(event) => setReason(event.target.value)} />
      </label>
      ${!isLinked && html`<${PersonField} />`}
      <p class="soft">If you allow it, the call is made once. If you deny it, the model goes on without it.</p>
      <p class="buttons">
        <button type="button" class="main" disabled=${isBusy || Boolean(edited.fault)} onClick=${() => decide("allow")}>
          ${edited.text === null ? "Allow" : "Allow with these arguments"}</button>
        <button type="button" disabled=${isBusy} onClick=${() => decide("deny")}>Deny</button>
      </p>`}
    <${Trouble} error=${error} />
  </form>`;
}

/** Ask whether several calls shall get one decision, and make it. */
export function Decisions({ verdict, of: calls, onClose, onDone }) {
  const [fixed] = useState(calls);
  const [reason, setReason] = useState("");
  const [by] = usePerson();
  const verb = verdict === "allow" ? "Allow" : "Deny";
  const { outcomes, isOver, isBusy, start, exit } = useEach(
    fixed,
    (one) => act(verdict, { id: one.id, call: one.key, fingerprint: one.fingerprint, reason: reason || null, by: by || null }),
    { title: verb, what: "call", onDone, onClose },
  );
  const rows = fixed.map((one, index) => ({
    name: one.id,
    says: html`<${Text} as="code">${one.tool}<//> <span class="soft"><${Brief} of=${one.arguments} length="160" /></span>`,
    outcome: outcomes[index],
  }));
  return html`<${Dialog} title=${`${verb} ${count(fixed.length, "call")}?`} onClose=${onClose}>
    <p>${verdict === "allow" ? "Each call is made once, with the arguments that the model wrote." : "No call is made. Each model gets the reason as the result."}</p>
    <${Each} of=${rows} isOver=${isOver} />
    <form onSubmit=${start}>
      ${!isBusy && !isOver && html`<label>Reason${verdict === "deny" ? " (the models see it)" : ""}<input value=${reason} onInput=${(event) => setReason(event.target.value)} /></label><${PersonField} />`}
      <p class="buttons">
        ${!isOver && html`<button class=${verdict === "deny" ? "main grave" : "main"} disabled=${isBusy}>${verb} ${fixed.length}</button>`}
        ${exit}
      </p>
    </form>
  <//>`;
}
