/** Changing the tags of one execution, or of several. */

import { Dialog } from "./dialog.js";
import { Each, useEach } from "./each.js";
import { Text, Trouble } from "./parts.js";
import { act } from "./server.js";
import { html, useChosen, useState } from "./view.js";
import { count, visible } from "./words.js";

/** Return the tags that lines of NAME=VALUE mean; raise if one is not that. */
function tagsIn(text) {
  const lines = text.split("\n").filter((one) => one.trim());
  return Object.fromEntries(lines.map((line) => {
    const at = line.indexOf("=");
    if (at < 1) throw new Error(`${line.trim()} is not NAME=VALUE.`);
    return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
  }));
}

/** Return the tags that some of the executions have, each with the number of those. */
function present(executions) {
  const counts = new Map();
  for (const { tags } of executions)
    for (const [name, value] of Object.entries(tags)) {
      const known = counts.get(name) ?? { values: new Set(), number: 0 };
      known.values.add(value);
      known.number += 1;
      counts.set(name, known);
    }
  return [...counts].sort();
}

export function Tagging({ of: executions, onClose, onDone }) {
  const [fixed] = useState(executions);
  const [text, setText] = useState("");
  const [removed, remove] = useChosen();
  const [fault, setFault] = useState();
  const changes = () => ({ ...Object.fromEntries([...removed].map((name) => [name, null])), ...tagsIn(text) });
  const { outcomes, isBusy, isOver, start, exit } = useEach(fixed, ({ id }) => act("tag", { id, tags: changes() }), { title: "Tag", what: "execution", onDone, onClose });
  const submit = (event) => {
    event.preventDefault();
    try {
      const isAny = Object.keys(changes()).length > 0;
      setFault(isAny ? undefined : { message: "Add a tag, or choose one to remove." });
      if (isAny) start(event);
    } catch (error) {
      setFault(error);
    }
  };
  const known = present(fixed);
  return html`<${Dialog} title=${`Tag ${fixed.length === 1 ? visible(fixed[0].id) : count(fixed.length, "execution")}`} onClose=${onClose}>
    <p>Executions are found by their tags. Nothing runs because of a tag.</p>
    ${(fixed.length > 1 || isOver) && html`<${Each} of=${fixed.map((one, index) => ({ name: one.id, outcome: outcomes[index] }))} isOver=${isOver} />`}
    <form onSubmit=${submit}>
      ${!isBusy && !isOver && html`${known.length > 0 && html`<fieldset><legend>Remove</legend>
          ${known.map(([name, { values, number }]) => html`<label key=${name} class="check"><input type="checkbox" checked=${removed.has(name)} onChange=${(event) => remove([name], event.target.checked)} />
            <span><${Text}>${name}=${[...values].slice(0, 3).join(", ")}${values.size > 3 ? ", …" : ""}<//>${fixed.length > 1 ? html`<span class="soft"> on ${number} of ${fixed.length}</span>` : ""}</span></label>`)}
        </fieldset>`}
        <label>Add or replace, one on a line: NAME=VALUE
          <textarea rows="3" spellcheck=${false} value=${text} onInput=${(event) => setText(event.target.value)}></textarea></label>`}
      <p class="buttons">
        ${!isOver && html`<button class="main" disabled=${isBusy}>Change the tags${fixed.length > 1 ? ` of ${fixed.length}` : ""}</button>`}
        ${exit}
      </p>
    </form>
    <${Trouble} error=${fault} />
  <//>`;
}
