/** Doing one thing to each of several: what one of them refuses does not stop the others. */

import { Text } from "./parts.js";
import { html, useRef, useState } from "./view.js";
import { count } from "./words.js";

/**
 * Return the outcomes so far, in order (`{done}` or `{error}`), a function that starts, and a button that stops or closes.
 *
 * It goes from the first to the last, one after the other, so that somebody who sees a mistake can stop it. In
 * the end `onDone` gets a sentence, and then comes `onClose`, unless there is something to read.
 */
export function useEach(all, doTo, { title, what, onDone, onClose }) {
  const [outcomes, setOutcomes] = useState([]);
  const [state, setState] = useState("ready");
  const isStopped = useRef(false);
  const start = async (event) => {
    event.preventDefault();
    setState("busy");
    const found = [];
    for (const one of all) {
      if (isStopped.current) break;
      try {
        found.push({ done: (await doTo(one)).done });
      } catch (error) {
        found.push({ error });
      }
      setOutcomes([...found]);
    }
    setState("over");
    const done = found.filter((outcome) => !outcome.error).length;
    onDone(`${title}: done for ${done} of ${count(all.length, what)}.`);
    if (done === all.length) onClose();
  };
  const isBusy = state === "busy";
  const leave = () => (isBusy ? (isStopped.current = true) : onClose());
  const exit = html`<button type="button" onClick=${leave}>${isBusy ? "Stop" : "Close"}</button>`;
  return { outcomes, isBusy, isOver: state === "over", start, exit };
}

/** The list of what something is done to: the name of each, what would happen, and what came of it. */
export function Each({ of: rows, isOver }) {
  const outcomes = rows.flatMap(({ outcome }) => outcome ?? []);
  const refusals = outcomes.filter(({ error }) => error).length;
  return html`<ul class="each" tabindex="0" aria-label="What it is done to">
      ${rows.map(({ name, says, outcome }, index) => html`<li key=${index}>
        <span class="name"><${Text}>${name}<//></span>
        ${says && html`<span class="says">${says}</span>`}
        ${outcome && html`<span class=${outcome.error ? "bad" : "good"}>${outcome.error ? html`✗ <${Text}>${outcome.error.message}<//>` : html`✓ ${outcome.done}`}</span>`}
      </li>`)}
    </ul>
    <p role="status">${outcomes.length > 0 && `${outcomes.length} of ${rows.length} done, ${count(refusals, "refusal")}${isOver && outcomes.length < rows.length ? ", stopped" : ""}.`}</p>`;
}
