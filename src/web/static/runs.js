/** The runs of an execution as a tree, each with its turns, and the tokens and the money that they took. */

import { amountOf } from "./money.js";

/** The counts of a usage that the page sums up. */
export const COUNTS = ["prompt_tokens", "completion_tokens", "total_tokens"];

export function nothing() {
  return { ...Object.fromEntries(COUNTS.map((name) => [name, 0])), cost: undefined, unpriced: 0 };
}

export function add(sums, usage) {
  for (const name of COUNTS) sums[name] += Number(usage[name] ?? 0);
  const cost = amountOf(usage.cost);
  if (cost !== undefined) sums.cost = (sums.cost ?? 0n) + cost;
  sums.unpriced += Object.keys(usage.unpriced ?? {}).length;
}

/** Return the key of the run that a run is a part of, such as the one whose answer it checks. */
function around(key) {
  return key.slice(0, Math.max(0, key.lastIndexOf("/")));
}

/**
 * Return the runs, each after the one that it is a part of. `usage` is what a run has cost in all, with the
 * summaries of its conversation and the runs within it: the same as `result.usage` of that run.
 */
export function runsOf(model) {
  const runs = new Map();
  const runOf = (key) => {
    if (!runs.has(key)) {
      const parent = around(key) ? runOf(around(key)) : undefined;
      runs.set(key, { key, depth: parent ? parent.depth + 1 : 0, within: [], agents: [], turns: new Map(), usage: nothing(), void: nothing() });
      parent?.within.push(runs.get(key));
    }
    return runs.get(key);
  };
  for (const { run, data } of model.spans) {
    if (run && !runOf(run).agents.includes(data.agent)) runOf(run).agents.push(data.agent);
  }
  for (const { run, turn, agent, usage, position, isVoid } of model.replies) {
    for (let key = run; key; key = around(key)) add(isVoid ? runOf(key).void : runOf(key).usage, usage);
    if (isVoid) continue;
    const { turns } = runOf(run);
    if (!turns.has(turn)) turns.set(turn, { turn, agent, position, usage: nothing() });
    add(turns.get(turn).usage, usage);
  }
  const inOrder = (run) => [run, ...run.within.flatMap(inOrder)];
  const ordered = [...runs.values()].filter((run) => !run.depth).flatMap(inOrder);
  ordered.forEach((run, index) => {
    run.name = `${run.agents.join(" → ")}${ordered.length > 1 ? `, run ${index + 1}` : ""}`;
  });
  return ordered;
}
