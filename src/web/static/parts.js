/** Small parts that several views have. */

import { Component, html, useMemo, useState } from "./view.js";
import { brief, moment, pretty, visible } from "./words.js";

const SHOWN_CHARACTERS = 4000;
/** A long text is in pieces, of which the browser lays out only those that are seen: ten megabytes do not stop it. */
const PIECE_CHARACTERS = 20_000;

/** Text that somebody else wrote: a model, a tool, a user of the library. */
export function Text({ children, as: Tag = "span", ...rest }) {
  return html`<${Tag} class="foreign" dir="auto" ...${rest}>${visible([children ?? ""].flat().join(""))}</${Tag}>`;
}

/** A text of several lines, of which a long one is shown whole when somebody asks for it. */
export function LongText({ children, label }) {
  const text = [children ?? ""].flat().join("");
  const [isWhole, setWhole] = useState(false);
  const shown = useMemo(() => visible(isWhole ? text : text.slice(0, SHOWN_CHARACTERS)), [text, isWhole]);
  const pieces = useMemo(() => piecesOf(shown), [shown]);
  return html`<pre class="foreign" dir="auto" tabindex="0" aria-label=${label}>${pieces.length > 1
      ? pieces.map((piece, index) => html`<span key=${index} class="piece">${piece}</span>`)
      : shown}</pre>
    ${!isWhole && text.length > SHOWN_CHARACTERS &&
    html`<button class="quiet" onClick=${() => setWhole(true)}>Show all ${text.length.toLocaleString("en")} characters</button>`}`;
}

/** A button that loads what was cut. */
export function LoadAll({ bytes, onClick, children }) {
  return html`<button type="button" class="quiet" onClick=${onClick}>Load all ${bytes.toLocaleString("en")} bytes${children}</button>`;
}

/** Return a text in pieces of about one length, each of which ends with a line if it has several. */
function piecesOf(text) {
  const pieces = [];
  let at = 0;
  while (text.length - at > PIECE_CHARACTERS) {
    let end = at + PIECE_CHARACTERS;
    const line = text.lastIndexOf("\n", end);
    if (line > at) {
      pieces.push(text.slice(at, line));
      at = line + 1;
      continue;
    }
    // A piece does not end in the middle of a character.
    if (/[\ud800-\udbff]/.test(text[end - 1])) end -= 1;
    pieces.push(text.slice(at, end));
    at = end;
  }
  return [...pieces, text.slice(at)];
}

/** A value as JSON; a text as it is. */
export function Value({ of, label = "value" }) {
  const text = useMemo(() => (typeof of === "string" ? of : pretty(of)), [of]);
  return html`<${LongText} label=${label}>${text}<//>`;
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

/** Something that says why it cannot be shown, if it cannot, and takes nothing else with it. */
export class Guard extends Component {
  static getDerivedStateFromError(error) {
    return { error };
  }

  render({ children, what = "This" }, { error }) {
    return error ? html`<${Trouble} error=${{ message: `${what} cannot be shown: ${error.message}` }} />` : children;
  }
}

/** An error of a request: it stays until the request works again. */
export function Trouble({ error }) {
  if (!error) return null;
  return html`<p class="trouble" role="alert">
    <strong>${error.retryable ? "Waiting" : "Error"}:</strong> <${Text}>${error.message}<//>
  </p>`;
}
