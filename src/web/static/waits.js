/** What an execution waits for, in words. */

import { Brief } from "./parts.js";
import { html } from "./view.js";
import { age, moment, secondsBetween, timeOfDay } from "./words.js";

/** The kinds, and what a filter calls them. `worker` cannot be found: nobody stores it. */
export const KINDS = {
  __proto__: null, // A filter may be any text.
  held: "somebody to mend it",
  paused: "somebody to resume it",
  code: "code that fits its journal",
  approval: "a decision",
  answer: "an answer",
  attempt: "a step",
  retry: "another attempt",
  child: "a child",
  timer: "a timer",
  signal: "a message",
  condition: "a condition",
};

const TODAY_SECONDS = 20 * 3600;

function at(time) {
  return Math.abs(secondsBetween(Date.now(), time)) < TODAY_SECONDS ? timeOfDay(time).slice(0, 8) : moment(time);
}

/** Return what one wait is, as text. */
export function wordsOf({ kind, text, attempt, since, until }) {
  const lasting = since ? `, for ${age(secondsBetween(since, Date.now()))}` : "";
  switch (kind) {
    case "approval":
      return `approval of ${text}${lasting}`;
    case "attempt":
      return `step ${text}${lasting}`;
    case "retry":
      return `step ${text}, attempt ${attempt}${until ? ` at ${at(until)}` : ""}`;
    case "child":
      return `${text}${lasting}`;
    case "timer":
      return until ? `timer until ${at(until)}` : "timer";
    case "worker":
      return text;
    case "held":
    case "paused":
      return text.startsWith(kind) ? text : `${kind}${text && `: ${text}`}`;
    case "signal":
      return "a message";
    case "condition":
      return "a condition of its code";
  }
  return text || kind;
}

/** The most important thing that an execution waits for; why it ended, if it did so early. */
export function Waits({ of, worker }) {
  const [first, ...more] = of.waiting_for;
  if (of.ended_at) return of.error ? html`<span class="bad"><${Brief} of=${of.error} length="140" /></span>` : null;
  // What stands still says why in what it waits for; an error of what runs is why no worker can carry it on.
  const isStuck = of.status === "running" && of.error;
  const said = isStuck ? `cannot go on: ${of.error}` : first ? wordsOf(first) : (of.error ?? "");
  // The agent has a column of its own.
  const text = of.agent ? said.replace(` of agent ${of.agent}`, "") : said;
  const isUrgent = isStuck || (first && ["held", "worker", "approval", "answer"].includes(first.kind));
  return html`${text && html`<span class=${isUrgent ? "urgent" : ""}><${Brief} of=${text} length="140" /></span>`}
    ${more.length > 0 && html` <span class="soft" title=${more.map(wordsOf).join("\n")}>and ${more.length} more</span>`}
    ${worker && html`<span class="soft carrier">on <${Brief} of=${worker} length="60" /></span>`}`;
}

/** Return the names of the steps that are under way, as a list shows them. */
export function stepsUnderWay(of) {
  return of.waiting_for.filter(({ kind }) => kind === "attempt" || kind === "retry").map(({ text }) => text);
}
