/** One execution: how it stands, what happened, what was said, and what can be done. */

import { Actions, Fork } from "./actions.js";
import { Approval } from "./approvals.js";
import { Conversation } from "./conversation.js";
import { Journal } from "./journal.js";
import { Machine, movesOf } from "./machine.js";
import { firstDifference, modelReader, stepIn, withMore } from "./model.js";
import { costIn } from "./money.js";
import { Brief, Guard, LoadAll, Moment, Status, Text, Trouble, Value } from "./parts.js";
import { Question } from "./questions.js";
import { follow, read } from "./server.js";
import { Timeline } from "./timeline.js";
import { Tokens } from "./tokens.js";
import { addressOf, go, html, useEffect, useLoaded, useMemo, useRef, useState } from "./view.js";
import { brief, count, duration, secondsBetween, timeOfDay } from "./words.js";

/** Return the events of an execution as they come, and how the connection stands. */
function useEvents(id, isKnown, isOpen) {
  const [events, setEvents] = useState([]);
  const [state, setState] = useState({ name: "connecting" });
  const connection = useRef(null);
  useEffect(() => {
    if (!isKnown) return undefined;
    let all = [];
    let drawing = 0;
    setEvents(all);
    // Many batches may come at once: they are drawn together.
    const draw = () => {
      drawing = 0;
      setEvents(all);
    };
    connection.current = follow(
      id,
      (more) => {
        all = withMore(all, more);
        drawing ||= requestAnimationFrame(draw);
      },
      (name, error) => setState({ name, error }),
    );
    return () => {
      connection.current.close();
      cancelAnimationFrame(drawing);
    };
  }, [id, isKnown]);
  // Somebody may have opened it again after its end.
  useEffect(() => {
    if (isOpen && state.name === "ended") connection.current?.again();
  }, [isOpen, state.name]);
  return { events, state };
}

export function Execution({ id, parameters, readOnly, offered, machine }) {
  const { value: about, error, again } = useLoaded(() => read("execution", { id }), 5, id);
  const isOpen = about !== undefined && about.ended_at === null;
  const { events, state } = useEvents(id, about !== undefined, isOpen);
  const { value: alive } = useLoaded(() => (isOpen ? read("workers") : { workers: [] }), 5, id, isOpen);
  const carriers = (alive?.workers ?? []).filter((worker) => worker.executions.includes(id));
  const last = events.at(-1)?.position ?? 0;
  const asked = Math.trunc(Number(parameters.at ?? NaN));
  const at = Number.isNaN(asked) ? last : Math.min(Math.max(asked, 1), last);
  const isPast = at < last;
  const then = useMemo(
    () => (isPast ? events.filter((event) => event.position <= at && event.kind !== "text_delta") : events),
    [events, at, isPast],
  );
  const readModel = useRef(null);
  readModel.current ??= modelReader();
  const model = useMemo(() => readModel.current(then), [then]);
  const moves = useMemo(() => movesOf(events), [events]);
  const difference = useMemo(() => firstDifference(then), [then]);
  const picked = Number(parameters.pick) || undefined;
  const [said, setSaid] = useState("");
  const [forking, setForking] = useState();
  const show = (changed, quietly = true) => go(addressOf(["executions", id], { ...parameters, ...changed }), { quietly });
  const pick = (position) => show({ pick: position });
  const done = (text) => {
    setSaid(text);
    again();
  };
  // What the events say is newer than what was loaded; many may come at once.
  const waiting = useRef(0);
  useEffect(() => {
    if (about) waiting.current ||= setTimeout(() => {
      waiting.current = 0;
      again();
    }, 300);
  }, [last]);
  if (!about) return html`<h1><${Text}>${id}<//></h1><${Trouble} error=${error} />${!error && html`<p>Loading…</p>`}`;
  const view = parameters.view === "journal" ? "journal" : "run";
  const event = picked === undefined ? undefined : then.findLast((one) => one.position === picked && one.kind !== "text_delta");
  return html`<article>
    <${Head} about=${about} model=${model} state=${state} isPast=${isPast} carriers=${carriers} difference=${difference} onPick=${pick} />
    <${Trouble} error=${state.name === "away" ? state.error : error} />
    <${Actions} of=${about} model=${model} readOnly=${readOnly} offered=${offered} onDone=${done} />
    <p role="status" class="said">${said}</p>
    <${Fate} about=${about} model=${model} isPast=${isPast} />
    ${!isPast && model.pending.map((one) => html`<${Guard} key=${one.position} what=${`The call of ${one.data.tool}`}><${Approval} of=${callIn(id, one)} readOnly=${readOnly} onDone=${done} /><//>`)}
    ${!isPast && model.questions.map((one) => html`<${Guard} key=${one.position} what="The question"><${Question} of=${{ id, ...one.data, schema: one.data.answer_schema ?? {} }} readOnly=${readOnly} onDone=${done} /><//>`)}
    ${model.crashes.map((crash) => html`<${Crash} key=${crash.position} of=${crash} onPick=${pick} />`)}
    <${Travel} at=${at} last=${last} then=${then} onMove=${(position) => show({ at: position === last ? undefined : position })} />
    <div class="tabs" role="group" aria-label="Views of the execution">
      <button aria-pressed=${view === "run"} onClick=${() => show({ view: undefined }, false)}>Run</button>
      <button aria-pressed=${view === "journal"} onClick=${() => show({ view: "journal" }, false)}>Journal</button>
    </div>
    ${view === "journal"
      ? html`<${Journal} id=${id} length=${last} picked=${picked} difference=${difference}
          onPick=${(position, isElsewhere) => show({ view: isElsewhere ? undefined : "journal", pick: position }, !isElsewhere)} />`
      : html`<${Timeline} model=${model} events=${then} picked=${picked} onPick=${pick} difference=${difference} />
        <div class="columns">
          <${Conversation} id=${id} model=${model} picked=${picked} onPick=${pick} difference=${difference} />
          <div>
            <${Details} id=${id} event=${event} model=${model} picked=${picked} readOnly=${readOnly} onFork=${setForking} />
            <${Machine} machine=${machine} moves=${moves} at=${at} runs=${model.runs} selected=${event?.data.run} onPick=${pick} />
            <${Tokens} runs=${model.runs} usage=${model.usage} onPick=${pick} />
          </div>
        </div>`}
    ${forking && html`<${Fork} id=${id} event=${forking} model=${model} onClose=${() => setForking(undefined)} />`}
  </article>`;
}

/** Return the call that waits for a person since an event. */
function callIn(id, { call, data, bytes }) {
  return { ...data, id, bytes, key: call, arguments: JSON.stringify(data.arguments ?? {}) };
}

function Head({ about, model, state, isPast, carriers, difference, onPick }) {
  const { valid, void: lost } = model.usage;
  const fork = model.moments.find((moment) => moment.kind === "execution_forked")?.event.data;
  return html`<header class="head">
    <h1><${Text}>${about.id}<//></h1>
    <dl>
      <div><dt>Status</dt><dd><${Status} of=${isPast ? model.status : about.status} />${state.name === "live" && html` <span class="tag live-mark">live</span>`}${isPast && html` <span class="tag differs">showing the past</span>`}</dd></div>
      <div><dt>Workflow</dt><dd><${Text}>${about.workflow}<//></dd></div>
      <div><dt>Started</dt><dd><${Moment} at=${about.created_at} /></dd></div>
      ${isPast
        ? html`<div><dt>After</dt><dd>${duration(secondsBetween(model.begun, model.last))}</dd></div>`
        : about.ended_at && html`<div><dt>Took</dt><dd>${duration(secondsBetween(about.created_at, about.ended_at))}</dd></div>`}
      ${carriers.map((worker) => html`<div key=${worker.identity}><dt>Carried by</dt><dd><${Text}>${worker.identity}<//></dd></div>`)}
      <div><dt>Turns</dt><dd>${model.turns}</dd></div>
      <div><dt>Tokens</dt><dd><span class="tokens">${valid.total_tokens.toLocaleString("en")}</span>
        <span class="soft"> (${valid.prompt_tokens.toLocaleString("en")} in, ${valid.completion_tokens.toLocaleString("en")} out${lost.total_tokens ? `; ${lost.total_tokens.toLocaleString("en")} more are void` : ""})</span></dd></div>
      ${costIn(valid) && html`<div><dt>Cost</dt><dd><span class="cost">${costIn(valid)}</span>
        ${costIn(lost) && html`<span class="soft"> (${costIn(lost)} more are void)</span>`}</dd></div>`}
      ${about.parent && html`<div><dt>Child of</dt><dd><a href=${addressOf(["executions", about.parent])}><${Text}>${about.parent}<//></a></dd></div>`}
      ${fork && html`<div><dt>Fork of</dt><dd><a href=${addressOf(["executions", fork.source])}><${Text}>${fork.source}<//></a> at position ${fork.source_position}
        <button class="quiet small" onClick=${() => onPick(difference)}>First difference: position ${difference}</button></dd></div>`}
      ${Object.entries(about.tags ?? {}).map(([name, value]) => html`<div key=${name}><dt><${Text}>${name}<//></dt><dd><${Text}>${value}<//></dd></div>`)}
    </dl>
  </header>`;
}

/** Why it does not go on, or how it ended. */
function Fate({ about, model, isPast }) {
  if (isPast) return model.failure ? html`<${Failure} of=${model.failure} />` : null;
  if (about.failure) return html`<${Failure} of=${about.failure} />`;
  if (about.error) return html`<section class="card bad-edge"><h2>${about.ended_at ? "It ended early" : "It cannot go on"}</h2><${Text} as="p">${about.error}<//></section>`;
  const waits = (about.waiting_for ?? []).map((one) => one.text || one.kind);
  return waits.length ? html`<p>Waits for: <${Text}>${waits.join("; ")}<//></p>` : null;
}

function Failure({ of: failure }) {
  return html`<section class="card bad-edge" aria-label="Failure">
    <h2>It failed: <${Brief} of=${`${failure.kind}: ${failure.message}`} length="500" /></h2>
    <${Frames} of=${failure} />
    ${causesOf(failure).map((cause, index) => html`<div key=${index}><h3>Because of <${Brief} of=${`${cause.kind}: ${cause.message}`} length="500" /></h3><${Frames} of=${cause} /></div>`)}
  </section>`;
}

function causesOf(failure) {
  const causes = [];
  for (let cause = failure.cause; cause; cause = cause.cause) causes.push(cause);
  return [...causes, ...(failure.group ?? [])];
}

function Frames({ of: failure }) {
  if (!failure.frames?.length) return null;
  return html`<ol class="frames">${failure.frames.map(
    (frame, index) => html`<li key=${index}><${Text} as="code">${frame.file}:${frame.line}<//> in <${Text} as="code">${frame.function}<//>
      ${frame.text && html`<${Text} as="pre">${frame.text}<//>`}</li>`,
  )}</ol>`;
}

/** A worker that was lost: who, the gap, who took over, and what was not done again. */
function Crash({ of: crash, onPick }) {
  const names = (spans) => spans.map((span) => span.name).join(", ");
  const gap = crash.before ? duration(secondsBetween(crash.before.at, crash.at)) : "";
  return html`<section class="card crash-note" aria-label="A crash">
    <h2><span aria-hidden="true">☠</span> A worker was lost${crash.before ? ` after position ${crash.before.position}` : ""}</h2>
    <dl class="facts">
      <div><dt>Lost</dt><dd><${Worker} of=${crash.lost} /></dd></div>
      <div><dt>Gap</dt><dd>${gap ? `nothing happened for ${gap}` : "none"}</dd></div>
      <div><dt>Took over</dt><dd><${Worker} of=${crash.successor} /> at <time datetime=${crash.at}>${timeOfDay(crash.at)}</time></dd></div>
      <div><dt>Not repeated</dt><dd>${count(crash.kept.length, "completed step")}${crash.kept.length ? html`: <${Text}>${brief(names(crash.kept), 200)}<//>` : ""}</dd></div>
      <div><dt>Attempted again</dt><dd>${crash.open.length ? html`<${Text}>${names(crash.open)}<//>, under way then` : "nothing was under way"}</dd></div>
    </dl>
    ${crash.lastWords && html`<details><summary>Last words of the worker</summary><${Value} of=${crash.lastWords} label="last words" /></details>`}
    <button class="quiet" onClick=${() => onPick(crash.position)}>Show in the timeline</button>
  </section>`;
}

function Worker({ of: identity }) {
  return identity ? html`<${Text} as="code">${identity}<//>` : html`<span class="soft">a worker that the journal does not name</span>`;
}

function Travel({ at, last, then, onMove }) {
  const event = then.at(-1);
  return html`<div class="card travel">
    <label for="travel">Position <output for="travel">${at}</output> of ${last}${event ? html`<span class="soft">, ${timeOfDay(event.at)}, ${event.kind.replaceAll("_", " ")}</span>` : ""}</label>
    <div class="bar">
      <input id="travel" type="range" min="1" max=${Math.max(last, 1)} value=${at} onInput=${(event) => onMove(Number(event.target.value))} />
      <button class="quiet" disabled=${at === last} onClick=${() => onMove(last)}>Now</button>
    </div>
  </div>`;
}

function Details({ id, event, model, picked, readOnly, onFork }) {
  const [whole, setWhole] = useState({});
  useEffect(() => setWhole({}), [event?.position]);
  if (!event) return html`<section class="card" aria-labelledby="details"><h2 id="details">Details</h2><p class="soft">Select something in the timeline or in the conversation.</p></section>`;
  const span = model.spans.findLast((one) => one.from === picked || one.to === picked);
  const load = async () => {
    try {
      setWhole({ event: await read("event", { id, position: event.position }) });
    } catch (error) {
      setWhole({ error });
    }
  };
  const end = span?.end && span.end.position !== event.position ? span.end : undefined;
  const shown = whole.event ?? event;
  return html`<section class="card" aria-labelledby="details">
    <h2 id="details">Position ${event.position}: ${event.kind.replaceAll("_", " ")}</h2>
    <p class="soft"><time datetime=${event.at}>${timeOfDay(event.at)}</time>${span && html` · <${Text}>${span.name}<//>${span.ended ? ` · ${duration(secondsBetween(span.begun, span.ended))}` : " · under way"}`}</p>
    ${!readOnly && html`<p class="buttons"><button onClick=${() => onFork(shown)}>Fork from here…</button>
      ${end && stepIn(end) && html`<button onClick=${() => onFork(end)}>Fork with another result…</button>`}</p>`}
    ${span?.attempts.length > 0 && html`<h3>Attempts that failed</h3><ol class="attempts">${span.attempts.map((one) => html`<li key=${one.attempt}>
      Attempt ${one.attempt}, <time datetime=${one.at}>${timeOfDay(one.at)}</time>: <${Brief} of=${`${one.failure.kind}: ${one.failure.message}`} length="300" /></li>`)}</ol>`}
    ${event.data.failure && html`<${Failure} of=${event.data.failure} />`}
    <${Value} of=${shown.data} label="data of the event" />
    ${event.bytes && !whole.event && html`<${LoadAll} bytes=${event.bytes} onClick=${load} />`}
    <${Trouble} error=${whole.error} />
    ${end && html`<h3>Ended at position ${end.position}: ${end.kind.replaceAll("_", " ")}</h3>
      ${end.data.failure ? html`<${Failure} of=${end.data.failure} />` : html`<${Value} of=${end.data.result ?? end.data} label="result" />`}`}
  </section>`;
}
