/** What happened when: a lane for each agent of each run, and a band where a worker was lost. */

import { callKeyOf, keyAt } from "./model.js";
import { Text } from "./parts.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./view.js";
import { count, duration, secondsBetween, timeOfDay, visible } from "./words.js";

const ROW_HEIGHT = 26;
const BAR_WIDTH_MIN = 10;
/** Bars this far outside of what is seen are there already when somebody scrolls. */
const MARGIN = 1200;

/** Return a function from a position and its time to a place on the axis, and the length of the axis. */
function scaleOf(events, isTrue, width) {
  const times = events.map((event) => (event.time ??= Date.parse(event.at)));
  const places = new Map();
  let x = 0;
  const first = times[0] ?? 0;
  const whole = Math.max(1, Math.max(...times.slice(-1)) - first);
  events.forEach((event, index) => {
    const gap = index ? Math.max(0, times[index] - times[index - 1]) : 0;
    if (isTrue) x = Math.max(x, ((times[index] - first) / whole) * (width - 40));
    // A wait of days takes as much room as it needs to be seen, not to be measured.
    else x += index ? 5 + 20 * Math.log10(1 + gap / 10) : 0;
    if (!places.has(event.position)) places.set(event.position, x);
  });
  // A short run fills the width.
  const stretch = isTrue || !x ? 1 : Math.min(12, Math.max(1, (width - 80) / x));
  return { at: (position) => stretch * (places.get(position) ?? x), length: stretch * x };
}

/** Return the spans of a lane in rows, so that those at one time are below each other. */
function rowsOf(spans, scale, end) {
  const free = [];
  return spans.map((span) => {
    const from = scale.at(span.from);
    const to = Math.max((span.to ?? span.left) === undefined ? end : scale.at(span.to ?? span.left), from + BAR_WIDTH_MIN);
    let row = free.findIndex((until) => until <= from);
    if (row < 0) row = free.length;
    free[row] = to + 1;
    return { span, from, to, row };
  });
}

function layout(model, events, isTrue, width) {
  const scale = scaleOf(events, isTrue, width);
  const end = scale.length + 30;
  let top = 0;
  const bars = [];
  const lanes = model.lanes.map((lane) => {
    const placed = rowsOf(model.spans.filter((span) => span.lane === lane.id), scale, end);
    const rows = Math.max(1, ...placed.map((one) => one.row + 1));
    bars.push(...placed.map((one) => ({ ...one, top: top + one.row * ROW_HEIGHT })));
    const mine = { ...lane, top, height: rows * ROW_HEIGHT };
    top += mine.height + 6;
    return mine;
  });
  bars.sort((one, other) => one.span.from - other.span.from);
  const marks = model.moments
    .filter(({ kind }) => !/handed_off|question/.test(kind))
    .map((moment) => ({ moment, position: moment.position, from: scale.at(moment.position) }));
  const stops = [...bars.map(({ span, from }) => ({ position: span.from, from })), ...marks].sort((one, other) => one.position - other.position);
  return { scale, bars, marks, stops, lanes, height: Math.max(top, ROW_HEIGHT), width: end + 40 };
}

function nameOf(span) {
  const took = span.ended ? duration(secondsBetween(span.begun, span.ended)) : "under way";
  const attempts = span.attempts.length ? `, attempt ${span.attempts.length + 1}` : "";
  return `${span.name}: ${span.isVoid ? "void" : span.state === "open" ? "under way" : span.state}, ${took}${attempts}`;
}

export function Timeline({ model, events, picked, onPick, difference }) {
  const [isTrue, setTrue] = useState(false);
  const [seen, setSeen] = useState({ left: 0, width: 1200 });
  const box = useRef(null);
  const drawn = useMemo(() => layout(model, events, isTrue, seen.width), [model, events, isTrue, seen.width]);
  useEffect(() => {
    const track = box.current;
    const look = () => {
      const { scrollLeft, clientWidth } = track;
      setSeen((before) =>
        Math.abs(before.left - scrollLeft) < MARGIN / 2 && before.width === clientWidth ? before : { left: scrollLeft, width: clientWidth },
      );
    };
    const watcher = new ResizeObserver(look);
    watcher.observe(track);
    track.addEventListener("scroll", look, { passive: true });
    return () => {
      watcher.disconnect();
      track.removeEventListener("scroll", look);
    };
  }, []);
  const isFocused = useRef(false);
  useLayoutEffect(() => {
    const bar = box.current.querySelector('[aria-pressed="true"]');
    if (bar && isFocused.current) bar.focus();
  }, [picked]);
  const key = useMemo(() => (picked === undefined ? undefined : keyAt(model, picked)), [model, picked]);
  const isPicked = (span) => picked !== undefined && (span.from === picked || span.to === picked);
  // A call and its approval are two spans of one thing.
  const isRelated = (span) => key !== undefined && callKeyOf(span) === key;
  const at = drawn.bars.findIndex(({ span }) => isPicked(span));
  const move = (event) => {
    const { stops } = drawn;
    const focused = drawn.bars[at]?.span.from ?? picked ?? 0;
    const here = Math.max(stops.findIndex(({ position }) => position >= focused), 0);
    const steps = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: stops.length - 1 };
    const next = stops[steps[event.key]];
    if (!next) return;
    event.preventDefault();
    isFocused.current = true;
    box.current.scrollLeft = Math.max(0, next.from - seen.width / 2);
    onPick(next.position);
  };
  const isNear = ({ from, to }, index) =>
    (to > seen.left - MARGIN && from < seen.left + seen.width + MARGIN) || index === Math.max(at, 0);
  const near = drawn.bars.map((bar, index) => ({ bar, index })).filter(({ bar, index }) => isNear(bar, index));
  return html`<section class="card timeline" aria-labelledby="timeline">
    <div class="bar">
      <h2 id="timeline">Timeline</h2>
      <button class="quiet" aria-pressed=${isTrue} onClick=${() => setTrue(!isTrue)}>True to time</button>
      <span class="soft">${count(model.spans.length, "step or wait", "steps and waits")}. Arrow keys go from one to the next.</span>
    </div>
    <div class="lanes">
      <div class="names" style=${{ height: `${drawn.height + 22}px` }}>
        ${drawn.lanes.map((lane) => html`<div style=${{ top: `${lane.top}px` }} class=${lane.depth ? "nested" : ""} title=${visible(lane.name)}><${Text}>${lane.name}<//></div>`)}
      </div>
      <div class="track" ref=${box} role="group" aria-label="Steps and waits in their order" onKeyDown=${move} onFocusIn=${() => (isFocused.current = true)} onFocusOut=${() => (isFocused.current = false)}>
        <div style=${{ width: `${drawn.width}px`, height: `${drawn.height + 22}px` }}>
          ${model.crashes.map((crash) => html`<${CrashBand} key=${crash.position} crash=${crash} drawn=${drawn} onPick=${onPick} />`)}
          ${difference && html`<div class="difference" style=${{ left: `${drawn.scale.at(difference)}px`, height: `${drawn.height}px` }} title="The first difference from the original"></div>`}
          ${near.map(
            ({ bar, index }) =>
              html`<button key=${`${bar.span.from} ${bar.span.key}`} class="span ${bar.span.kind} ${bar.span.isVoid ? "void" : bar.span.state} ${bar.span.isApproval ? "approval-wait" : ""} ${isRelated(bar.span) ? "related" : ""}"
                style=${{ left: `${bar.from}px`, top: `${bar.top}px`, width: `${bar.to - bar.from}px` }}
                aria-pressed=${isPicked(bar.span)} aria-label=${visible(nameOf(bar.span))} title=${visible(nameOf(bar.span))}
                tabindex=${index === Math.max(at, 0) ? 0 : -1} onClick=${() => onPick(bar.span.from)}>
                ${bar.to - bar.from > 40 && html`<span aria-hidden="true">${visible(bar.span.name)}</span>`}
                ${ticksOf(bar, drawn.scale).map((left) => html`<i key=${left} class="tick" style=${{ left: `${left}px` }} aria-hidden="true"></i>`)}
              </button>`,
          )}
          ${drawn.lanes.length === 0 && html`<p class="soft empty">Nothing was begun yet.</p>`}
          ${drawn.marks
            .filter((mark) => mark.position === picked || isNear({ ...mark, to: mark.from }))
            .map(({ moment, from }) => html`<button key=${moment.position} class="moment ${moment.isVoid ? "void" : ""} ${moment.kind}" tabindex=${moment.position === picked ? 0 : -1}
              style=${{ left: `${from}px`, top: `${drawn.height}px` }} aria-pressed=${moment.position === picked}
              aria-label=${visible(moment.text)} title=${`${timeOfDay(moment.at)} ${visible(moment.text)}`} onClick=${() => onPick(moment.position)}></button>`)}
        </div>
      </div>
    </div>
    <${Legend} model=${model} />
  </section>`;
}

/** Return where the failed attempts at a step ended, on its bar; those at one place stand beside each other. */
function ticksOf({ span, from, to }, scale) {
  let last = 0;
  return span.attempts.map(({ position }) => {
    last = Math.max(last + 5, Math.min(scale.at(position) - from, to - from - 5));
    return last;
  });
}

/** What the colours and marks mean, as far as they are there. */
function Legend({ model }) {
  const has = (test) => model.spans.some(test);
  const marks = [
    ["model", "model", has((span) => span.kind === "model")],
    ["tool", "tool or activity", has((span) => span.kind === "tool")],
    ["wait", "timer", has((span) => span.kind === "wait" && !span.isApproval)],
    ["wait approval-wait", "waits for a person", has((span) => span.isApproval)],
    ["failed", "failed", has((span) => span.state === "failed")],
    ["open", "under way", has((span) => span.state === "open" && !span.isVoid)],
    ["left", "left: nobody waits for it any more", has((span) => span.state === "left" && !span.isVoid)],
    ["void", "void after a retry", has((span) => span.isVoid)],
    ["attempt", "a failed attempt, then a retry", has((span) => span.attempts.length)],
    ["crash", "a worker was lost", model.crashes.length],
  ].filter(([, , isThere]) => isThere);
  return html`<ul class="legend" aria-label="Legend">${marks.map(([name, text]) => html`<li key=${name}><i class=${`mark ${name}`} aria-hidden="true"></i>${text}</li>`)}</ul>`;
}

function CrashBand({ crash, drawn, onPick }) {
  const to = drawn.scale.at(crash.position);
  const from = crash.before ? drawn.scale.at(crash.before.position) : to - 20;
  const gap = crash.before ? duration(secondsBetween(crash.before.at, crash.at)) : "";
  const who = visible(`${crash.lost ?? "A worker"} was lost; a gap of ${gap}; ${crash.successor ?? "another one"} took over`);
  return html`<button class="crash-band" tabindex="-1" style=${{ left: `${from}px`, width: `${Math.max(to - from, 12)}px`, height: `${drawn.height + 18}px` }}
    aria-label=${who} title=${who} onClick=${() => onPick(crash.position)}>
    <span aria-hidden="true">☠ ${gap}</span></button>`;
}
