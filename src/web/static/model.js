/**
 * An execution as its events show it, up to any position: a pure function, so that the page can go back in time.
 *
 * - A *span* is something that takes time: a model call, a tool call, a wait. It has a lane and its attempts.
 * - A *talk* is the conversation: messages, calls with their results, handoffs.
 * - A *crash* is a worker that was lost, with what was done and what was under way at that moment.
 *
 * What a retry has put out of force is void: it is shown, and does not count.
 */

import { add, nothing, runsOf } from "./runs.js";
import { brief } from "./words.js";

const CODE = "workflow code";
const LEFT = "left";

const ENDS = {
  execution_completed: "completed",
  execution_failed: "failed",
  execution_cancelled: "cancelled",
  execution_terminated: "terminated",
};

/** What else changes the status. */
const TURNS = {
  execution_held: "held",
  execution_paused: "paused",
  execution_resumed: "running",
  execution_reopened: "running",
  cancel_requested: "running",
};

/** The spans, by the kind of the event that begins them. */
const BEGINS = {
  turn_started: (data) => ({ key: data.key, kind: "model", name: `turn ${data.turn}`, lane: laneOf(data) }),
  summary_started: (data) => ({ key: data.key, kind: "model", name: "summary", lane: laneOf(data) }),
  tool_called: (data) => ({ key: callOf(data), kind: "tool", name: data.tool, lane: laneOf(data) }),
  approval_requested: (data) => ({ key: approvalOf(data), kind: "wait", isApproval: true, name: `approval of ${data.tool}`, lane: laneOf(data) }),
  activity_started: (data) => ({ key: data.key, kind: "tool", name: data.name, lane: CODE }),
  child_started: (data) => ({ key: data.key, kind: "tool", name: data.workflow, lane: CODE }),
  question_asked: (data) => ({ key: questionOf(data), kind: "wait", isApproval: true, name: `question: ${data.question}`, lane: CODE }),
  timer_started: (data) => ({ key: data.key, kind: "wait", name: "timer", lane: CODE }),
  update_accepted: (data) => ({ key: updateOf(data), kind: "tool", name: `update ${data.name}`, lane: CODE }),
};

/** The key of the span that an event ends. */
const FINISHES = {
  model_replied: keyOf,
  model_failed: keyOf,
  summary_made: keyOf,
  summary_failed: keyOf,
  tool_returned: callOf,
  tool_failed: callOf,
  approval_given: approvalOf,
  approval_denied: approvalOf,
  activity_completed: keyOf,
  activity_failed: keyOf,
  child_completed: keyOf,
  child_failed: keyOf,
  timer_fired: keyOf,
  question_answered: questionOf,
  question_withdrawn: questionOf,
  update_completed: updateOf,
  update_failed: updateOf,
};

/** Moments: events that take no time, in words. */
const MOMENTS = {
  execution_completed: () => "completed",
  execution_failed: () => "failed",
  execution_cancelled: () => "cancelled",
  execution_terminated: (data) => `terminated: ${data.reason}`,
  execution_reopened: (data) => `opened again; what came after position ${data.valid} is void`,
  execution_forked: (data) => `fork of ${data.source} at position ${data.source_position}`,
  execution_recovered: (data) => `${data.worker ?? "a worker"} was lost, and ${data.successor ?? "another one"} took over`,
  execution_held: (data) => `held: ${data.reason}`,
  execution_paused: (data) => `paused${data.reason ? `: ${data.reason}` : ""}`,
  execution_resumed: () => "resumed",
  question_asked: (data) => `question${data.to ? ` to ${data.to}` : ""}: ${data.question}`,
  question_answered: (data) => `question answered${by(data)}: ${brief(data.answer)}`,
  question_withdrawn: () => "question withdrawn",
  message_said: (data) => `message${by(data)} to ${data.agent}: ${data.text}`,
  run_interrupted: (data) => `run interrupted${by(data)}${data.reason ? `: ${data.reason}` : ""}`,
  tagged: ({ tags = {}, removed = [] }) => `tagged ${[...Object.entries(tags).map((one) => one.join("=")), ...removed.map((one) => `${one} removed`)].join(", ")}`,
  signal_received: (data) => `signal ${data.name}`,
  cancel_requested: () => "asked to end",
  patched: (data) => `patch ${data.patch}`,
  handed_off: (data) => `${data.from_agent} hands off to ${data.to_agent}${data.filtered ? ", which sees a part" : ""}`,
  reply_cut: (data) => `reply cut: ${data.reason}`,
  limit_reached: (data) => `limit reached: ${data.limit}${data.question ? "; a person is asked to raise it" : ""}`,
  answer_rejected: (data) => `answer rejected: ${data.reason}`,
  guardrail_rejected: (data) => `${data.guardrail} rejected the ${part(data)}: ${data.reason}`,
  guardrail_replaced: (data) => `${data.guardrail} replaced the ${part(data)}`,
};

function by(data) {
  return data.by ? ` by ${data.by}` : "";
}

function part(data) {
  return data.tool ? `${data.of} of ${data.tool}` : data.of;
}

function laneOf(data) {
  return `${data.run}\n${data.agent}`;
}

function keyOf(data) {
  return data.key;
}

function callOf(data) {
  return `${data.run}/${data.turn}/${data.call_id}`;
}

function approvalOf(data) {
  return `${callOf(data)} approval`;
}

function questionOf(data) {
  return `question ${data.key}`;
}

function updateOf(data) {
  return `update ${data.id}`;
}

/** Return the approval of the call whose result came too late for its run: it does not wait any more. */
function unsent(open, data) {
  return [...open.values()].find((span) => span.run === data.run && span.data.call_id === data.call_id && span.kind === "wait");
}

/** End a span that nobody waits for any more. */
function leave(span, open, calls, { at, position }) {
  if (!span) return;
  calls.get(callKeyOf(span))?.states.push(LEFT);
  open.delete(span.key);
  Object.assign(span, { left: position, ended: at, state: LEFT });
}

/**
 * Return the key of what was selected: that of the step, or of the call with its approval, which begins or
 * ends at a position. The timeline and the conversation show the same thing as selected if it has this key.
 */
export function keyAt(model, position) {
  const span = model.spans.findLast((one) => one.from === position || one.to === position);
  return span && callKeyOf(span);
}

/** Return the key of a span, without what tells the approval of a call from the call. */
export function callKeyOf(span) {
  return span.key.replace(/ approval$/, "");
}

/** Return the step whose result an event holds, as a fork edits it; undefined if it holds none. */
export function stepIn(event) {
  const { kind, data } = event;
  const hasResult = ["model_replied", "summary_made", "tool_returned", "activity_completed"].includes(kind);
  const hasFailed = ["model_failed", "tool_failed", "activity_failed"].includes(kind);
  if (kind === "execution_started") return { key: "input", result: data.arguments };
  return data.key && (hasResult || hasFailed) ? { key: data.key, result: hasResult ? data.result : null } : undefined;
}

/** Return the position where a fork differs from its original first; undefined if it is not a fork. */
export function firstDifference(events) {
  const fork = events.findLast((event) => event.kind === "execution_forked");
  if (!fork) return undefined;
  const edited = new Set(fork.data.edited ?? []);
  const differs = events.find((event) => event.position < fork.position && edited.has(stepIn(event)?.key));
  return (differs ?? fork).position;
}

/** Return the events that are new, and all of them: a reader that was cut off gets some again. */
export function withMore(events, more) {
  const seen = new Set(events.slice(-2000).map(identityOf));
  const last = events.length ? events[events.length - 1].position : 0;
  const fresh = more.filter((event) => event.position > last || !seen.has(identityOf(event)));
  return fresh.length ? [...events, ...fresh] : events;
}

function identityOf({ kind, position, data }) {
  return kind === "text_delta" || kind === "attempt_failed"
    ? `${kind} ${data.key} ${data.attempt} ${data.sequence} ${position}`
    : `${position}`;
}

/**
 * What the events of an execution say, taken one after the other. More events can be taken at any time, so that
 * a page which follows a long execution does not read all of it again for each of them.
 */
class Fold {
  constructor() {
    this.model = {
      workflow: "",
      input: undefined,
      spans: [],
      moments: [],
      crashes: [],
      talk: [],
      replies: [],
      voids: [],
      status: "running",
      failure: undefined,
      result: undefined,
      begun: undefined,
      last: undefined,
      position: 0,
    };
    this.open = new Map();
    this.calls = new Map();
    this.live = new Map();
    this.before = undefined;
    this.count = 0;
    this.newest = undefined;
  }

  /** Return whether `events` begin with those that were taken. */
  isBefore(events) {
    return this.count <= events.length && (!this.count || events[this.count - 1] === this.newest);
  }

  take(events) {
    for (; this.count < events.length; this.count++) {
      const event = events[this.count];
      this.model.begun ??= event.at;
      this.model.last = event.at;
      this.model.position = event.position;
      takeEvent(this, event);
      if (event.kind !== "text_delta") this.before = { at: event.at, position: event.position };
      this.newest = event;
    }
    return this;
  }

  /** Return the model of what was taken; it does not change when more is taken, but for what is in its lists. */
  present() {
    const model = { ...this.model };
    sum(model);
    model.runs = runsOf(model);
    model.lanes = lanesOf(model);
    model.open = [...this.open.values()];
    const asked = (kind) => model.open.filter(({ event }) => event.kind === kind).map(({ event }) => event);
    model.pending = asked("approval_requested");
    model.questions = asked("question_asked");
    return model;
  }
}

/** Return the model of an execution by its events. */
export function modelOf(events) {
  return new Fold().take(events).present();
}

/** Return a function that returns the model of growing lists of events, and reads only what is new in each. */
export function modelReader() {
  let fold = new Fold();
  return (events) => {
    if (!fold.isBefore(events)) fold = new Fold();
    return fold.take(events).present();
  };
}

function takeEvent({ model, open, calls, live, before }, event) {
  const { kind, data, at, position } = event;
  if (kind === "text_delta") {
    liveText(model, live, event);
    return;
  }
  if (BEGINS[kind]) {
    const span = { ...BEGINS[kind](data), from: position, begun: at, to: undefined, ended: undefined, state: "open", attempts: [], data, run: data.run, event };
    open.set(span.key, span);
    model.spans.push(span);
  }
  if (FINISHES[kind]) {
    const key = FINISHES[kind](data);
    const span = open.get(key);
    if (span) {
      open.delete(key);
      Object.assign(span, { to: position, ended: at, state: /failed|denied/.test(kind) ? "failed" : "done", end: event });
    }
    const call = calls.get(key);
    if (call) Object.assign(call, { to: position, result: data.result, failure: data.failure });
  }
  if (MOMENTS[kind]) model.moments.push({ position, at, kind, text: MOMENTS[kind](data), event });
  model.status = ENDS[kind] ?? TURNS[kind] ?? model.status;
  if (ENDS[kind]) {
    for (const span of open.values()) leave(span, open, calls, event);
  }
  const noted = () => model.talk.push({ position, at, sort: "notice", text: MOMENTS[kind](data) });
  switch (kind) {
    case "execution_started":
      model.workflow = data.workflow;
      model.input = data.arguments ?? {};
      model.talk.push({ position, at, sort: "input", value: model.input });
      break;
    case "attempt_failed": {
      const span = open.get(data.call_id ? callOf(data) : data.key) ?? open.get(data.key);
      span?.attempts.push({ at, position, attempt: data.attempt, failure: data.failure });
      break;
    }
    case "model_replied":
    case "summary_made":
      model.replies.push({ position, run: data.run, turn: data.turn, agent: data.agent, usage: data.result.usage ?? {}, isTurn: kind === "model_replied" });
      if (kind === "model_replied") reply(model, live, event);
      break;
    case "approval_requested":
    case "tool_called": {
      let call = calls.get(callOf(data));
      if (!call) {
        call = { position, at, sort: "call", key: callOf(data), run: data.run, agent: data.agent, tool: data.tool, arguments: data.arguments_text ?? data.arguments ?? {}, states: [] };
        calls.set(callOf(data), call);
        model.talk.push(call);
      } else if (kind === "tool_called") {
        call.arguments = data.arguments_text ?? data.arguments ?? {};
      }
      call.states.push(kind === "tool_called" ? "called" : "waits for a person");
      break;
    }
    case "approval_given":
    case "approval_denied": {
      const call = calls.get(callOf(data));
      const because = data.reason ? `: ${data.reason}` : "";
      const edited = data.edited_arguments ? " with other arguments" : "";
      call?.states.push(`${kind === "approval_given" ? `allowed${edited}` : "denied"}${by(data)}${because}`);
      if (call && data.edited_arguments) call.asked = call.arguments;
      break;
    }
    case "activity_started": {
      const call = { position, at, sort: "call", key: data.key, tool: data.name, arguments: data.arguments ?? {}, states: ["called"] };
      calls.set(data.key, call);
      model.talk.push(call);
      break;
    }
    case "child_started": {
      const call = { position, at, sort: "call", key: data.key, tool: data.workflow, arguments: { child: data.child }, child: data.child, states: ["started"] };
      calls.set(data.key, call);
      model.talk.push(call);
      break;
    }
    case "result_unsent":
      leave(unsent(open, data), open, calls, event);
      break;
    case "handed_off":
      model.talk.push({ position, at, sort: "handoff", agent: data.from_agent, text: MOMENTS.handed_off(data) });
      break;
    case "execution_recovered":
      model.crashes.push({
        position,
        at,
        before,
        kept: model.spans.filter((span) => span.to && !span.isVoid && span.kind !== "wait"),
        open: model.spans.filter((span) => !span.ended && !span.isVoid && span.kind !== "wait"),
        lost: data.worker,
        successor: data.successor,
        lastWords: data.last_words,
      });
      model.talk.push({ position, at, sort: "crash", text: `${data.worker ?? "A worker"} was lost. ${data.successor ?? "Another one"} took over.` });
      break;
    case "execution_reopened":
      reopen(model, open, calls, data.valid);
      model.failure = undefined;
      live.clear();
      noted();
      break;
    case "execution_completed":
      model.result = data.result;
      model.talk.push({ position, at, sort: "result", value: data.result });
      break;
    case "execution_failed":
      model.failure = data.failure;
      model.talk.push({ position, at, sort: "failure", failure: data.failure });
      break;
    default:
      if (MOMENTS[kind]) noted();
  }
}

/** Put what came after a position out of force; what was under way there is open again. */
function reopen(model, open, calls, valid) {
  open.clear();
  for (const span of model.spans) {
    if (span.isVoid) continue;
    if (span.from > valid) span.isVoid = true;
    else if (!((span.to ?? span.left) <= valid)) {
      Object.assign(span, { to: undefined, left: undefined, ended: undefined, state: "open", end: undefined });
      open.set(span.key, span);
    }
  }
  for (const moment of model.moments) {
    if (moment.position > valid && moment.kind !== "execution_reopened" && moment.kind !== "execution_recovered") moment.isVoid = true;
  }
  for (const item of model.talk) if (item.position > valid && item.sort !== "notice") item.isVoid = true;
  for (const [key, call] of calls) {
    if (call.position > valid) calls.delete(key);
    else if (call.to > valid) Object.assign(call, { to: undefined, result: undefined, failure: undefined });
    else if (call.states.at(-1) === LEFT) call.states.pop();
  }
  model.voids.push({ from: valid, to: model.moments.at(-1)?.position });
}

function isVoid(model, position) {
  return model.voids.some((one) => position > one.from && position < one.to);
}

function liveText(model, live, { data, position, at }) {
  let item = live.get(data.key);
  if (!item) {
    item = { position, at, sort: "live", key: data.key, run: data.run, agent: data.agent, attempts: new Map() };
    live.set(data.key, item);
    model.talk.push(item);
  }
  if (!item.attempts.has(data.attempt)) item.attempts.set(data.attempt, { text: "", sequence: 0 });
  const written = item.attempts.get(data.attempt);
  // A reader that was cut off gets the text again, from its first piece.
  if (data.sequence > written.sequence) {
    written.text += data.text;
    written.sequence = data.sequence;
  }
}

/** Return the texts of the attempts at a reply, in order; each but the last one is retracted. */
export function textsIn(item) {
  return [...item.attempts.entries()].sort(([one], [other]) => one - other).map(([attempt, { text }]) => ({ attempt, text }));
}

function reply(model, live, { data, position, at, bytes }) {
  const item = live.get(data.key);
  live.delete(data.key);
  if (item) {
    // The reply has the whole text of the last attempt; only what was retracted is shown beside it.
    const last = Math.max(...item.attempts.keys());
    item.attempts.delete(last);
    if (item.attempts.size) item.isOver = true;
    else model.talk.splice(model.talk.lastIndexOf(item), 1);
  }
  for (const [index, entry] of (data.result.entries ?? []).entries()) {
    const about = { position, at, key: data.key, run: data.run, agent: data.agent };
    if (entry.type === "message.output") model.talk.push({ ...about, sort: "message", content: entry.content, cutAt: bytes && index });
    else if (entry.type === "tool.execution") model.talk.push({ ...about, sort: "executed", tool: entry.name, value: { arguments: entry.arguments, info: entry.info } });
    else if (entry.type === "agent.handoff") model.talk.push({ ...about, sort: "handoff", text: `${entry.previous_agent_name} hands off to ${entry.next_agent_name}` });
    else if (entry.type !== "function.call") model.talk.push({ ...about, sort: "other", value: entry });
  }
}

function sum(model) {
  model.usage = { valid: nothing(), void: nothing() };
  model.turns = 0;
  for (const reply of model.replies) {
    reply.isVoid = isVoid(model, reply.position);
    add(reply.isVoid ? model.usage.void : model.usage.valid, reply.usage);
    if (!reply.isVoid && reply.isTurn) model.turns += 1;
  }
}

/** Return the lanes: those of a run stand together, and below the run that it is a part of. */
function lanesOf(model) {
  const order = new Map(model.runs.map((run, index) => [run.key, index]));
  const rank = (id) => order.get(id.split("\n")[0]) ?? -1;
  const lanes = [...new Set(model.spans.map((span) => span.lane))].sort((one, other) => rank(one) - rank(other));
  return lanes.map((id) => {
    const [key, agent] = id.split("\n");
    const run = model.runs[order.get(key)];
    if (!run) return { id, name: CODE, depth: 0 };
    return { id, name: model.runs.length > 1 ? `${agent}, run ${order.get(key) + 1}` : agent, depth: run.depth };
  });
}
