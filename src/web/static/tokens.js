/** The tokens of an execution, and what they cost: of each turn, of each run, and of all. */

import { costIn } from "./money.js";
import { Text } from "./parts.js";
import { COUNTS } from "./runs.js";
import { html, useState } from "./view.js";

const TURNS_SHOWN = 50;

export function Tokens({ runs, usage, onPick }) {
  if (!runs.length) return null;
  const hasCost = [usage.valid, usage.void].some(costIn);
  return html`<section class="card" aria-labelledby="tokens">
    <h2 id="tokens">Tokens</h2>
    <div class="scroll"><table class="sums">
      <thead><tr><th scope="col">Run and turn</th><th scope="col" class="number">In</th><th scope="col" class="number">Out</th><th scope="col" class="number">Total</th>${hasCost && html`<th scope="col" class="number">Cost</th>`}</tr></thead>
      <tbody>
        ${runs.map((run) => html`<${Run} key=${run.key} of=${run} hasCost=${hasCost} onPick=${onPick} />`)}
        <tr class="sum"><th scope="row">Execution</th><${Cells} of=${usage.valid} hasCost=${hasCost} /></tr>
        ${usage.void.total_tokens > 0 && html`<tr><th scope="row">Void, after a retry</th><${Cells} of=${usage.void} hasCost=${hasCost} /></tr>`}
      </tbody>
    </table></div>
  </section>`;
}

function Run({ of: run, hasCost, onPick }) {
  const [isOpen, setOpen] = useState(false);
  const turns = [...run.turns.values()];
  const shown = isOpen ? turns : [];
  return html`<tr>
      <th scope="row" style=${{ paddingLeft: `${0.6 + run.depth}rem` }}>
        <button class="quiet small" aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}><span aria-hidden="true">${isOpen ? "▾" : "▸"}</span> <${Text}>${run.name}<//></button>
      </th><${Cells} of=${run.usage} hasCost=${hasCost} />
    </tr>
    ${shown.length > TURNS_SHOWN && html`<tr><td colspan=${hasCost ? 5 : 4} class="soft">The last ${TURNS_SHOWN} of ${shown.length} turns</td></tr>`}
    ${shown.slice(-TURNS_SHOWN).map((one) => html`<tr key=${`${run.key} ${one.turn}`}>
      <td style=${{ paddingLeft: `${1.8 + run.depth}rem` }}><button class="quiet small" onClick=${() => onPick(one.position)}>turn ${one.turn}</button> <${Text}>${one.agent}<//></td>
      <${Cells} of=${one.usage} hasCost=${hasCost} /></tr>`)}`;
}

function Cells({ of: usage, hasCost }) {
  return [
    ...COUNTS.map((name) => html`<td class="number">${usage[name].toLocaleString("en")}</td>`),
    hasCost && html`<td class="number">${costIn(usage)}</td>`,
  ];
}
