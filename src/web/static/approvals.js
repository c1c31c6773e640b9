/** A call that waits for a person, with its arguments to edit. */

import { Arguments } from "./forms.js";
import { Text, Trouble } from "./parts.js";
import { act } from "./server.js";
import { addressOf, html, useState } from "./view.js";

export function Approval({ of, readOnly, onDone, isLinked = false }) {
  const [edited, setEdited] = useState({ text: null });
  const [reason, setReason] = useState("");
  const [error, setError] = useState();
  const [isBusy, setBusy] = useState(false);
  const decide = async (verb) => {
    setBusy(true);
    setError(undefined);
    try {
      const changed = verb === "allow" && edited.text !== null && { arguments: edited.text };
      const given = { id: of.id, call: of.key, reason: reason || null, ...changed };
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
    <${Arguments} text=${of.arguments} schema=${of.parameters} readOnly=${readOnly} onInput=${(text, fault) => setEdited({ text, fault })} />
    ${edited.fault && html`<p class="trouble" role="alert">${edited.fault}</p>`}
    ${!readOnly &&
    html`<label>Reason (the model sees it if you deny)
        <input value=${reason} onInput=${(event) => setReason(event.target.value)} />
      </label>
      <p class="buttons">
        <button type="button" class="main" disabled=${isBusy || Boolean(edited.fault)} onClick=${() => decide("allow")}>
          ${edited.text === null ? "Allow" : "Allow with these arguments"}</button>
        <button type="button" disabled=${isBusy} onClick=${() => decide("deny")}>Deny</button>
      </p>`}
    <${Trouble} error=${error} />
  </form>`;
}
