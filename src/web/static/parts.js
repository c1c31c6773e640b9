/** Small parts that several views have. */

import { html, useState } from "./view.js";
import { brief, moment, pretty, visible } from "./words.js";

const SHOWN_CHARACTERS = 4000;

/** Text that somebody else wrote: a model, a tool, a user of the library. */
export function Text({ children, as: Tag = "span", ...rest }) {
  return html`<${Tag} class="foreign" dir="auto" ...${rest}>${visible([children ?? ""].flat().join(""))}</${Tag}>`;
}

/** A text of several lines, of which a long one is shown whole when somebody asks for it. */
export function LongText({ children, label }) {
  const text = [children ?? ""].flat().join("");
  const [isWhole, setWhole] = useState(false);
  const shown = isWhole ? text : text.slice(0, SHOWN_CHARACTERS);
  return html`<pre class="foreign" dir="auto" tabindex="0" aria-label=${label}>${visible(shown)}</pre>
    ${shown.length < text.length &&
    html`<button class="quiet" onClick=${() => setWhole(true)}>Show all ${text.length.toLocaleString("en")} characters</button>`}`;
}

/** A value as JSON; a text as it is. */
export function Value({ of, label = "value" }) {
  return html`<${LongText} label=${label}>${typeof of === "string" ? of : pretty(of)}<//>`;
}

export function Brief({ of, length }) {
  return html`<${Text}>${brief(of, length)}<//>`;
}

const MARKS = {
  running: "▶",
  completed: "✓",
  failed: "✗",
  cancelled: "⊘",
  terminated: "■",
  held: "‖",
  paused: "‖",
};

export function Status({ of }) {
  return html`<span class="status ${of}"><span aria-hidden="true">${MARKS[of] ?? "·"}</span> ${of}</span>`;
}

export function Moment({ at }) {
  return html`<time datetime=${at}>${moment(at)}</time>`;
}

/** An error of a request: it stays until the request works again. */
export function Trouble({ error }) {
  if (!error) return null;
  return html`<p class="trouble" role="alert">
    <strong>${error.retryable ? "Waiting" : "Error"}:</strong> <${Text}>${error.message}<//>
  </p>`;
}
