/**
 * An execution as its events show it, up to any position: a pure function, so that the page can go back in time.
 *
 * - A *span* is something that takes time: a model call, a tool call, a wait. It has a lane and its attempts.
 * - A *talk* is the conversation: messages, calls with their results, handoffs.
 * - A *crash* is a worker that was lost, with what was done and what was under way at that moment.
 *
 * What a retry has put out of force is void: it is shown, and does not count.
 */

const CODE = "workflow code";

const ENDS = {
  execution_completed: "completed",
  execution_failed: "failed",
  execution_cancelled: "cancelled",
  execution_terminated: "terminated",
};

/** The spans, by the kind of the event that begins them. */
const BEGINS = {
  turn_started: (data) => ({ key: data.key, kind: "model", name: `turn ${data.turn}`, lane: laneOf(data) }),
  summary_started: (data) => ({ key: data.key, kind: "model", name: "summary", lane: laneOf(data) }),
  tool_called: (data) => ({ key: callOf(data), kind: "tool", name: data.tool, lane: laneOf(data) }),
  approval_requested: (data) => ({ key: `${callOf(data)} approval`, kind: "wait", name: `approval of ${data.tool}`, lane: laneOf(data) }),
  activity_started: (data) => ({ key: data.key, kind: "tool", name: data.name, lane: CODE }),
  timer_started: (data) => ({ key: data.key, kind: "wait", name: "timer", lane: CODE }),
  update_accepted: (data) => ({ key: `update ${data.id}`, kind: "tool", name: `update ${data.name}`, lane: CODE }),
};

/** The key of the span that an event ends, and whether it failed. */
const FINISHES = {
  model_replied: (data) => [data.key, false],
  model_failed: (data) => [data.key, true],
  summary_made: (data) => [data.key, false],
  summary_failed: (data) => [data.key, true],
  tool_returned: (data) => [callOf(data), false],
  tool_failed: (data) => [callOf(data), true],
  approval_given: (data) => [`${callOf(data)} approval`, false],
  approval_denied: (data) => [`${callOf(data)} approval`, true],
  activity_completed: (data) => [data.key, false],
  activity_failed: (data) => [data.key, true],
  timer_fired: (data) => [data.key, false],
  update_completed: (data) => [`update ${data.id}`, false],
  update_failed: (data) => [`update ${data.id}`, true],
};

/** Moments: events that take no time, in words. */
const MOMENTS = {
  execution_completed: () => "completed",
  execution_failed: () => "failed",
  execution_cancelled: () => "cancelled",
  execution_terminated: (data) => `terminated: ${data.reason}`,
  execution_reopened: (data) => `opened again; what came after position ${data.valid} is void`,
  execution_forked: (data) => `fork of ${data.source} at position ${data.source_position}`,
  execution_recovered: () => "a worker was lost, and another one took over",
  execution_held: (data) => `held: ${data.reason}`,
  execution_paused: (data) => `paused${data.reason ? `: ${data.reason}` : ""}`,
  execution_resumed: () => "resumed",
  signal_received: (data) => `signal ${data.name}`,
  cancel_requested: () => "asked to end",
  patched: (data) => `patch ${data.patch}`,
  handed_off: (data) => `${data.from_agent} hands off to ${data.to_agent}`,
  reply_cut: (data) => `reply cut: ${data.reason}`,
  limit_reached: (data) => `limit reached: ${data.limit}`,
  answer_rejected: (data) => `answer rejected: ${data.reason}`,
  guardrail_rejected: (data) => `${data.guardrail} rejected the ${data.of}: ${data.reason}`,
  guardrail_replaced: (data) => `${data.guardrail} replaced the ${data.of}`,
};

function laneOf(data) {
  return `${data.run}\n${data.agent}`;
}

function callOf(data) {
  return `${data.run}/${data.turn}/${data.call_id}`;
}

/** Return the call whose result came too late for its run: it does not wait any more. */
function unsent(open, data) {
  return [...open.values()].find((span) => span.run === data.run && span.data.call_id === data.call_id && span.kind === "wait")?.key.replace(/ approval$/, "");
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

export function modelOf(events) {
  const model = {
    workflow: "",
    input: undefined,
    spans: [],
    moments: [],
    crashes: [],
    talk: [],
    usage: { valid: nothing(), void: nothing(), byAgent: {} },
    turns: 0,
    status: "running",
    failure: undefined,
    result: undefined,
    lanes: [],
    begun: events[0]?.at,
    last: events.at(-1)?.at,
    position: events.at(-1)?.position ?? 0,
  };
  const open = new Map();
  const calls = new Map();
  const live = new Map();
  const replies = [];
  let before;
  for (const event of events) {
    const { kind, data, at, position } = event;
    if (kind === "text_delta") {
      liveText(model, live, event);
      continue;
    }
    if (BEGINS[kind]) {
      const span = { ...BEGINS[kind](data), from: position, begun: at, to: undefined, ended: undefined, state: "open", attempts: [], data, run: data.run, event };
      open.set(span.key, span);
      model.spans.push(span);
    }
    if (FINISHES[kind]) {
      const [key, hasFailed] = FINISHES[kind](data);
      const span = open.get(key);
      if (span) {
        open.delete(key);
        Object.assign(span, { to: position, ended: at, state: hasFailed ? "failed" : "done", end: event });
      }
    }
    if (MOMENTS[kind]) model.moments.push({ position, at, kind, text: MOMENTS[kind](data), event });
    if (ENDS[kind]) model.status = ENDS[kind];
    switch (kind) {
      case "execution_started":
        model.workflow = data.workflow;
        model.input = data.arguments ?? {};
        model.talk.push({ position, at, sort: "input", value: model.input });
        break;
      case "attempt_failed": {
        const span = open.get(data.call_id ? callOf(data) : data.key) ?? open.get(data.key);
        span?.attempts.push({ at, attempt: data.attempt, failure: data.failure });
        break;
      }
      case "model_replied":
      case "summary_made":
        replies.push({ position, agent: data.agent, usage: data.result.usage ?? {} });
        if (kind === "model_replied") reply(model, live, event);
        break;
      case "approval_requested":
      case "tool_called": {
        let call = calls.get(callOf(data));
        if (!call) {
          call = { position, at, sort: "call", agent: data.agent, tool: data.tool, arguments: data.arguments_text ?? data.arguments ?? {}, states: [] };
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
        call?.states.push(`${kind === "approval_given" ? `allowed${edited}` : "denied"}${because}`);
        if (call && data.edited_arguments) call.asked = call.arguments;
        break;
      }
      case "tool_returned":
      case "tool_failed": {
        const call = calls.get(callOf(data));
        if (call) Object.assign(call, { to: position, result: data.result, failure: data.failure });
        break;
      }
      case "activity_started": {
        const call = { position, at, sort: "call", tool: data.name, arguments: data.arguments ?? {}, states: ["called"] };
        calls.set(data.key, call);
        model.talk.push(call);
        break;
      }
      case "activity_completed":
      case "activity_failed": {
        const call = calls.get(data.key);
        if (call) Object.assign(call, { to: position, result: data.result, failure: data.failure });
        break;
      }
      case "result_unsent":
        open.delete(`${unsent(open, data)} approval`);
        break;
      case "handed_off":
        model.talk.push({ position, at, sort: "handoff", agent: data.from_agent, text: MOMENTS.handed_off(data) });
        break;
      case "signal_received":
      case "reply_cut":
      case "limit_reached":
      case "answer_rejected":
      case "guardrail_rejected":
      case "guardrail_replaced":
      case "execution_forked":
      case "execution_held":
        model.talk.push({ position, at, sort: "notice", text: MOMENTS[kind](data) });
        break;
      case "execution_recovered":
        model.crashes.push({
          position,
          at,
          before,
          kept: model.spans.filter((span) => span.ended && !span.isVoid && span.kind !== "wait"),
          open: model.spans.filter((span) => !span.ended && !span.isVoid && span.kind !== "wait"),
        });
        model.talk.push({ position, at, sort: "crash", text: "A worker was lost. Another one took over." });
        break;
      case "execution_reopened":
        reopen(model, open, calls, data.valid);
        model.status = "running";
        model.failure = undefined;
        live.clear();
        model.talk.push({ position, at, sort: "notice", text: MOMENTS[kind](data) });
        break;
      case "execution_completed":
        model.result = data.result;
        model.talk.push({ position, at, sort: "result", value: data.result });
        break;
      case "execution_failed":
        model.failure = data.failure;
        model.talk.push({ position, at, sort: "failure", failure: data.failure });
        break;
    }
    before = { at, position };
  }
  sum(model, replies);
  model.lanes = lanesOf(model);
  model.open = [...open.values()];
  const hasEnded = model.status !== "running";
  model.pending = hasEnded ? [] : model.open.filter((span) => span.event.kind === "approval_requested").map((span) => span.event);
  return model;
}

/** Put what came after a position out of force; what was under way there is open again. */
function reopen(model, open, calls, valid) {
  open.clear();
  for (const span of model.spans) {
    if (span.isVoid) continue;
    if (span.from > valid) span.isVoid = true;
    else if (span.to === undefined || span.to > valid) {
      if (span.to > valid) Object.assign(span, { before: span.end, to: undefined, ended: undefined, state: "open", end: undefined });
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
  }
  model.voids = [...(model.voids ?? []), { from: valid, to: model.moments.at(-1)?.position }];
}

function isVoid(model, position) {
  return (model.voids ?? []).some((one) => position > one.from && position < one.to);
}

function liveText(model, live, { data, position, at }) {
  let item = live.get(data.key);
  if (!item) {
    item = { position, at, sort: "live", agent: data.agent, attempts: new Map() };
    live.set(data.key, item);
    model.talk.push(item);
  }
  if (!item.attempts.has(data.attempt)) item.attempts.set(data.attempt, new Map());
  item.attempts.get(data.attempt).set(data.sequence, data.text);
}

/** Return the texts of the attempts at a reply, in order; each but the last one is retracted. */
export function textsIn(item) {
  return [...item.attempts.entries()]
    .sort(([one], [other]) => one - other)
    .map(([attempt, pieces]) => ({
      attempt,
      text: [...pieces.entries()].sort(([one], [other]) => one - other).map(([, text]) => text).join(""),
    }));
}

function reply(model, live, { data, position, at }) {
  const item = live.get(data.key);
  live.delete(data.key);
  if (item) {
    // The reply has the whole text of the last attempt; only what was retracted is shown beside it.
    const last = Math.max(...item.attempts.keys());
    item.attempts.delete(last);
    if (item.attempts.size) item.isOver = true;
    else model.talk.splice(model.talk.lastIndexOf(item), 1);
  }
  for (const entry of data.result.entries ?? []) {
    const about = { position, at, agent: data.agent };
    if (entry.type === "message.output") model.talk.push({ ...about, sort: "message", content: entry.content });
    else if (entry.type === "tool.execution") model.talk.push({ ...about, sort: "executed", tool: entry.name, value: { arguments: entry.arguments, info: entry.info } });
    else if (entry.type === "agent.handoff") model.talk.push({ ...about, sort: "handoff", text: `${entry.previous_agent_name} hands off to ${entry.next_agent_name}` });
    else if (entry.type !== "function.call") model.talk.push({ ...about, sort: "other", value: entry });
  }
}

function nothing() {
  return { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };
}

function add(sums, usage) {
  for (const name of Object.keys(sums)) sums[name] += Number(usage[name] ?? 0);
}

function sum(model, replies) {
  for (const { position, agent, usage } of replies) {
    if (isVoid(model, position)) {
      add(model.usage.void, usage);
      continue;
    }
    model.turns += 1;
    add(model.usage.valid, usage);
    model.usage.byAgent[agent] ??= nothing();
    add(model.usage.byAgent[agent], usage);
  }
}

function lanesOf(model) {
  const runs = [...new Set(model.spans.map((span) => span.run).filter(Boolean))];
  const lanes = [...new Set(model.spans.map((span) => span.lane))];
  return lanes.map((id) => {
    if (id === CODE) return { id, name: CODE };
    const [run, agent] = id.split("\n");
    return { id, name: runs.length > 1 ? `${agent}, run ${runs.indexOf(run) + 1}` : agent };
  });
}
