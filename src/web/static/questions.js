/** Questions that workflow code asks people, each with a field that fits the type of the answer. */

import { Text, Trouble } from "./parts.js";
import { PersonField, usePerson } from "./person.js";
import { act } from "./server.js";
import { addressOf, html, useState } from "./view.js";
import { pretty, visible } from "./words.js";

/** Return how an answer is given: as a text, as one of some texts, as yes or no, or as JSON. */
function sortOf(schema) {
  if (Array.isArray(schema.enum) && schema.enum.every((one) => typeof one === "string")) return { choices: schema.enum.map((one) => [JSON.stringify(one), one]) };
  if (schema.type === "boolean") return { choices: [["true", "yes"], ["false", "no"]] };
  return { isText: schema.type === "string" };
}

export function Question({ of, readOnly, onDone, isLinked = false }) {
  const { choices, isText } = sortOf(of.schema);
  const [given, setGiven] = useState(choices ? choices[0][0] : "");
  const [by] = usePerson();
  const [error, setError] = useState();
  const [isBusy, setBusy] = useState(false);
  const answer = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      onDone((await act("answer", { id: of.id, key: of.key, answer: isText ? JSON.stringify(given) : given, by: by || null })).done);
    } catch (failed) {
      setError(failed);
    }
    setBusy(false);
  };
  const input = (event) => setGiven(event.target.value);
  return html`<form class="card approval" aria-label=${visible(of.question)} onSubmit=${answer}>
    <h2><${Text}>${of.question}<//></h2>
    <p>asked ${isLinked && html`by <a href=${addressOf(["executions", of.id])}><${Text}>${of.id}<//></a>`}${of.to && html` of <${Text}>${of.to}<//>`}</p>
    ${!readOnly && html`${choices
        ? html`<label>Answer<select value=${given} onChange=${input}>${choices.map(([value, text]) => html`<option key=${value} value=${value} selected=${value === given}>${visible(text)}</option>`)}</select></label>`
        : isText
          ? html`<label>Answer<textarea rows="2" value=${given} onInput=${input}></textarea></label>`
          : html`<label>Answer, as JSON<textarea class="code" rows="4" spellcheck=${false} value=${given} onInput=${input}></textarea></label>
              <details><summary>What fits</summary><pre tabindex="0" aria-label="schema of the answer">${visible(pretty(of.schema))}</pre></details>`}
      ${!isLinked && html`<${PersonField} />`}
      <p class="soft">The code gets the answer once, and goes on with it.</p>
      <p class="buttons"><button class="main" disabled=${isBusy}>${isBusy ? "Waiting…" : "Answer"}</button></p>`}
    <${Trouble} error=${error} />
  </form>`;
}
