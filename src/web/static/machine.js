/** The agent machine, drawn from the table that the server sends, with the phase of one run lit. */

import { Text } from "./parts.js";
import { html, useEffect, useMemo, useState } from "./view.js";
import { count, visible } from "./words.js";

const BOX_WIDTH = 132;
const BOX_HEIGHT = 34;
const COLUMN = 156;
const ROW = 92;
const LOOP_WIDTH = 22;

/** Return the phases with their places, and the arrows between them, each with the moves that take it. */
function drawnFrom({ start, phases, transitions }) {
  const ends = phases.filter((phase) => !transitions.some((one) => one.before === phase));
  const rows = rowsFrom(start, transitions, ends);
  const width = Math.max(...rows.map((row) => row.length)) * COLUMN;
  const boxes = new Map(
    rows.flatMap((row, y) =>
      row.map((phase, x) => [phase, { phase, row: y, x: width / 2 + (x - (row.length - 1) / 2) * COLUMN, y: y * ROW + BOX_HEIGHT / 2 + 2 }]),
    ),
  );
  const arrows = new Map();
  for (const one of transitions) {
    const key = `${one.before} ${one.after}`;
    if (!arrows.has(key)) arrows.set(key, { from: one.before, to: one.after, path: pathOf(boxes.get(one.before), boxes.get(one.after)) });
  }
  return { boxes: [...boxes.values()], arrows: [...arrows.values()], width, height: (rows.length - 1) * ROW + BOX_HEIGHT + 4, ends };
}

/** Return the phases in rows: how many moves they are away from the start; the ends come last. */
function rowsFrom(start, transitions, ends) {
  const rows = [[start]];
  const placed = new Set([start, ...ends]);
  while (rows.at(-1).length) {
    const next = new Set(transitions.filter((one) => rows.at(-1).includes(one.before) && !placed.has(one.after)).map((one) => one.after));
    for (const phase of next) placed.add(phase);
    rows.push([...next]);
  }
  return [...rows.slice(0, -1), ends];
}

function pathOf(from, to) {
  if (from === to) {
    const right = from.x + BOX_WIDTH / 2;
    return `M${right} ${from.y - 8} C${right + LOOP_WIDTH} ${from.y - 14} ${right + LOOP_WIDTH} ${from.y + 14} ${right + 2} ${from.y + 8}`;
  }
  const rows = Math.abs(to.row - from.row);
  const side = Math.sign(to.x - from.x);
  const isDown = to.row >= from.row;
  // The way there and the way back do not lie on each other.
  const shift = rows > 1 && !side ? 0 : isDown ? -12 : 12;
  const [startX, endX] = [from.x + shift + 22 * side, to.x + shift - 22 * side];
  const [startY, endY] = isDown ? [from.y + BOX_HEIGHT / 2, to.y - BOX_HEIGHT / 2 - 2] : [from.y - BOX_HEIGHT / 2, to.y + BOX_HEIGHT / 2 + 2];
  // An arrow over several rows goes round the boxes between, or through the gap between two of them.
  const [leave, arrive] = rows < 2 ? [0, 0] : side ? [0.9 * side, 0.28 * side] : rows % 2 ? [-1.35, -1.35] : [0, 0];
  const bend = (endY - startY) / 2;
  return `M${startX} ${startY} C${startX + leave * COLUMN} ${startY + bend} ${endX + arrive * COLUMN} ${endY - bend} ${endX} ${endY}`;
}

function words(phase) {
  return phase.replaceAll("_", " ");
}

/** Return the moves of all runs. One that was read again, when more was known, replaces the earlier one. */
export function movesOf(events) {
  const moves = new Map();
  for (const event of events) for (const move of event.moves ?? []) moves.set(`${move.run} ${move.position}`, move);
  return moves;
}

/** Return the last move of each run up to a position. */
function movesAt(moves, at) {
  const last = new Map();
  for (const move of moves.values()) {
    if (move.position > at) continue;
    const known = last.get(move.run);
    if (!known || known.position <= move.position) last.set(move.run, move);
  }
  return last;
}

export function Machine({ machine, moves, at, runs, selected, onPick }) {
  const [chosen, setChosen] = useState("");
  useEffect(() => {
    if (selected) setChosen(selected);
  }, [selected]);
  const drawn = useMemo(() => machine && drawnFrom(machine), [machine]);
  const last = useMemo(() => movesAt(moves, at), [moves, at]);
  if (!drawn || !moves.size) return null;
  const newest = [...last.values()].sort((one, other) => one.position - other.position).at(-1)?.run;
  const run = last.has(chosen) ? chosen : newest;
  const move = last.get(run);
  const phase = move?.after ?? machine.start;
  const accepted = machine.transitions.filter((one) => one.before === phase);
  const names = new Map(runs.map((one) => [one.key, one.name]));
  return html`<section class="card machine" aria-labelledby="machine">
    <h2 id="machine">Agent machine</h2>
    ${last.size > 1 && html`<label>Run<select value=${run} onChange=${(event) => setChosen(event.target.value)}>
      ${[...last.keys()].map((one) => html`<option key=${one} value=${one} selected=${one === run}>${visible(names.get(one) ?? one)}: ${words(last.get(one).after)}</option>`)}
    </select></label>`}
    <p>${!move ? html`<span class="soft">No run has begun by then.</span>` : html`<strong class="phase-name">${words(phase)}</strong>${" "}
      <span class="soft">since position <button class="quiet small" onClick=${() => onPick(move.position)}>${move.position}</button>${move.event && html`, by <code>${move.event}</code>`}${move.outcome && ` (${move.outcome})`}</span>`}</p>
    <svg viewBox=${`0 0 ${drawn.width} ${drawn.height}`} role="img" aria-label=${`The phases of a run; lit: ${words(phase)}`}>
      <defs>
        <marker id="arrowhead" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path d="M0 0 L8 4 L0 8 z" fill="context-stroke" /></marker>
      </defs>
      ${drawn.arrows.map((arrow) => html`<path key=${`${arrow.from} ${arrow.to}`} d=${arrow.path} marker-end="url(#arrowhead)"
        class=${`arrow ${arrow.from === phase ? "possible" : ""} ${move?.before === arrow.from && phase === arrow.to ? "taken" : ""}`} />`)}
      ${drawn.boxes.map((box) => html`<g key=${box.phase} class=${`phase ${box.phase === phase ? "lit" : ""} ${drawn.ends.includes(box.phase) ? "end" : ""}`}>
        <rect x=${box.x - BOX_WIDTH / 2} y=${box.y - BOX_HEIGHT / 2} width=${BOX_WIDTH} height=${BOX_HEIGHT} rx="8" />
        <text x=${box.x} y=${box.y} text-anchor="middle" dominant-baseline="central">${words(box.phase)}</text>
      </g>`)}
    </svg>
    ${accepted.length > 0
      ? html`<details><summary>What can happen here: ${count(accepted.length, "move")}</summary>
          <ul class="moves">${accepted.map((one) => html`<li key=${`${one.event} ${one.outcome}`}><code>${one.event}</code> <span class="soft">(${one.outcome})</span> → ${words(one.after)}</li>`)}</ul></details>`
      : html`<p class="soft">The run is over: nothing can happen to it any more.</p>`}
  </section>`;
}
