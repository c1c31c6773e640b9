/** A call that waits for a person, with its arguments to edit. */

import { Text, Trouble } from "./parts.js";
import { act } from "./server.js";
import { addressOf, html, useState } from "./view.js";
import { editable } from "./words.js";

export function Approval({ of, readOnly, onDone, isLinked = false }) {
  const asked = editable(of.arguments);
  const [edited, setEdited] = useState(asked);
  const [reason, setReason] = useState("");
  const [error, setError] = useState();
  const [isBusy, setBusy] = useState(false);
  const decide = async (verb) => {
    setBusy(true);
    setError(undefined);
    try {
      const changed = verb === "allow" && edited.trim() !== asked.trim();
      const given = { id: of.id, call: of.key, reason: reason || null, ...(changed && { arguments: edited }) };
      onDone((await act(verb, given)).done);
    } catch (failed) {
      setError(failed);
    }
    setBusy(false);
  };
  const name = `approval-${of.key}`;
  return html`<form class="card approval" aria-labelledby=${name} onSubmit=${(event) => event.preventDefault()}>
    <h2 id=${name}><${Text}>${of.agent}<//> asks to call <${Text} as="code">${of.tool}<//></h2>
    ${isLinked && html`<p>in <a href=${addressOf(["executions", of.id])}><${Text}>${of.id}<//></a></p>`}
    <label>Arguments
      <textarea class="code" rows=${Math.min(16, edited.split("\n").length + 1)} spellcheck=${false} dir="ltr"
        readonly=${readOnly} value=${edited} onInput=${(event) => setEdited(event.target.value)}></textarea>
    </label>
    ${!readOnly &&
    html`<label>Reason (the model sees it if you deny)
        <input value=${reason} onInput=${(event) => setReason(event.target.value)} />
      </label>
      <p class="buttons">
        <button type="button" class="main" disabled=${isBusy} onClick=${() => decide("allow")}>
          ${edited.trim() === asked.trim() ? "Allow" : "Allow with these arguments"}</button>
        <button type="button" disabled=${isBusy} onClick=${() => decide("deny")}>Deny</button>
      </p>`}
    <${Trouble} error=${error} />
  </form>`;
}
