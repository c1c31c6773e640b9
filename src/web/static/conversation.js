/** What was said: messages, calls with arguments and results, handoffs, in their order. */

import { keyAt, textsIn } from "./model.js";
import { Brief, LongText, Text, Value } from "./parts.js";
import { read } from "./server.js";
import { addressOf, html, useCallback, useLoaded, useMemo, useRef } from "./view.js";
import { Virtual } from "./virtual.js";
import { timeOfDay } from "./words.js";

/** A live text is shown to its end, and only so much of it: a model may write a book. */
const LIVE_CHARACTERS = 20_000;

export function Conversation({ id, model, picked, onPick, difference }) {
  const items = model.talk;
  const chosen = useMemo(() => {
    if (picked === undefined) return -1;
    const exact = items.findIndex((item) => item.position === picked || item.to === picked);
    const key = keyAt(model, picked);
    return exact >= 0 || key === undefined ? exact : items.findLastIndex((item) => item.key === key);
  }, [model, picked]);
  // Several items may have one position: the entries of a reply.
  const names = useMemo(() => {
    const seen = new Map();
    return items.map(({ position, sort }) => {
      const name = `${position} ${sort}`;
      seen.set(name, (seen.get(name) ?? 0) + 1);
      return `${name} ${seen.get(name)}`;
    });
  }, [model]);
  const pick = useRef(onPick);
  pick.current = onPick;
  // The list draws its rows again when these change, and at no other time.
  const row = useCallback((index) => {
    const item = items[index];
    return html`<div class="about">
        <button class="quiet select" aria-pressed=${index === chosen} onClick=${() => pick.current(item.position)}
          aria-label=${`Select position ${item.position}`}>${item.position}</button>
        ${item.agent && html`<strong><${Text}>${item.agent}<//></strong>`}
        <time datetime=${item.at}>${timeOfDay(item.at)}</time>
        ${item.isVoid && html`<span class="tag">void</span>`}
        ${difference !== undefined && (item.position === difference || item.to === difference) && html`<span class="tag differs">first difference</span>`}
      </div>
      <${Item} id=${id} of=${item} />`;
  }, [model, chosen, difference]);
  const within = useMemo(() => new Set(model.runs.filter((run) => run.depth).map((run) => run.key)), [model]);
  const classOf = (index) => {
    const { sort, isVoid, run } = items[index];
    return `item ${sort} ${isVoid ? "void" : ""} ${index === chosen ? "picked" : ""} ${within.has(run) ? "within" : ""}`;
  };
  return html`<section class="card" aria-labelledby="conversation">
    <h2 id="conversation">Conversation</h2>
    <${Virtual} length=${items.length} keyOf=${(index) => names[index]} row=${row} classOf=${classOf} estimate=${90}
      shown=${chosen} isFollowing=${picked === undefined} label="Conversation" name="talk" />
  </section>`;
}

function Item({ id, of: item }) {
  switch (item.sort) {
    case "input":
      return html`<p class="what">The workflow begins with</p><${Value} of=${item.value} label="input" />`;
    case "message":
      return html`<${Message} id=${id} of=${item} />`;
    case "live":
      return html`<div class="live" aria-live="off">${textsIn(item).map(({ attempt, text }, index, all) => {
        const end = text.length > LIVE_CHARACTERS ? `… ${text.slice(-LIVE_CHARACTERS)}` : text;
        return item.isOver || index < all.length - 1
          ? html`<p key=${attempt}><s aria-label=${`retracted, attempt ${attempt}`}><${Text}>${end}<//></s> <span class="tag">attempt ${attempt} was retracted</span></p>`
          : html`<p key=${attempt}><${Text}>${end}<//><span class="cursor" aria-hidden="true">▍</span></p>`;
      })}</div>`;
    case "call":
      return html`<${Call} of=${item} />`;
    case "executed":
      return html`<details><summary>The server ran <${Text} as="code">${item.tool}<//></summary><${Value} of=${item.value} label="use of a built-in tool" /></details>`;
    case "result":
      return html`<p class="what">The workflow ends with</p><${Value} of=${item.value} label="result" />`;
    case "failure":
      return html`<p class="what bad">The workflow failed: <${Brief} of=${`${item.failure.kind}: ${item.failure.message}`} length="400" /></p>`;
    case "other":
      return html`<${Value} of=${item.value} label="entry" />`;
  }
  return html`<p class="what"><${Text}>${item.text}<//></p>`;
}

function Call({ of: item }) {
  const state = item.failure ? "failed" : item.to ? "done" : "open";
  return html`<details class="call ${state}" open=${state !== "done"}>
      <summary><${Text} as="code">${item.tool}<//> <${Brief} of=${item.arguments} length="120" />
        <span class="tag">${state === "open" ? item.states.at(-1) : state}</span></summary>
      ${item.asked && html`<p class="what">The model asked for</p><${Value} of=${item.asked} label="arguments of the model" />`}
      <p class="what">Arguments</p><${Value} of=${item.arguments} label="arguments" />
      ${item.states.length > 1 && html`<p class="what"><${Text}>${item.states.join("; ")}<//></p>`}
    </details>
    ${item.child && html`<p><a href=${addressOf(["executions", item.child])}><${Text}>${item.child}<//></a></p>`}
    ${item.to && (item.failure
      ? html`<p class="outcome bad"><span aria-hidden="true">→</span> <${Brief} of=${`${item.failure.kind}: ${item.failure.message}`} length="400" /></p>`
      : html`<div class="outcome"><span aria-hidden="true">→</span> <${LongOrBrief} of=${item.result} /></div>`)}`;
}

function LongOrBrief({ of }) {
  const text = typeof of === "string" ? of : JSON.stringify(of) ?? "";
  return text.length <= 200 ? html`<${Brief} of=${of} />` : html`<details><summary><${Brief} of=${of} length="160" /></summary><${Value} of=${of} label="result" /></details>`;
}

/** A message; one with an image that was cut is loaded whole. */
function Message({ id, of: { position, content, cutAt } }) {
  const isCut = cutAt !== undefined && Array.isArray(content) && content.some((chunk) => chunk.type === "image_url");
  const { value } = useLoaded(async () => isCut && (await read("event", { id, position })).data.result.entries[cutAt].content, 0, id, position, isCut);
  return html`<${Content} of=${value || content} />`;
}

/** The content of a message: a text, or chunks. An image is shown only if its data are in the journal. */
function Content({ of }) {
  if (typeof of === "string") return html`<div class="said"><${Long} of=${of} /></div>`;
  return html`<div class="said">${(Array.isArray(of) ? of : []).map((chunk, index) => html`<${Chunk} key=${index} of=${chunk} />`)}</div>`;
}

function Long({ of }) {
  return of.length > 4000 ? html`<${LongText} label="message">${of}<//>` : html`<p><${Text}>${of}<//></p>`;
}

const IMAGE = /^data:image\/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]+$/;

function Chunk({ of: chunk }) {
  const url = typeof chunk.image_url === "string" ? chunk.image_url : chunk.image_url?.url;
  if (chunk.type === "text") return html`<${Long} of=${String(chunk.text ?? "")} />`;
  if (chunk.type === "thinking") return html`<details class="thinking"><summary>Thinking</summary><p><${Text}>${(chunk.thinking ?? []).map((one) => one.text ?? "").join("")}<//></p></details>`;
  if (chunk.type === "image_url" && IMAGE.test(url ?? "")) return html`<img src=${url} alt="An image of the conversation" />`;
  if (chunk.type === "tool_reference") return html`<p class="reference">Source: <${Text}>${chunk.title ?? ""}<//> <${Text} as="code">${chunk.url ?? ""}<//></p>`;
  if (chunk.type === "document_url") return html`<p class="reference">Document: <${Text}>${chunk.document_name ?? ""}<//> <${Text} as="code">${chunk.document_url ?? ""}<//></p>`;
  if (chunk.type === "tool_file") return html`<p class="reference">File: <${Text}>${chunk.file_name ?? chunk.file_id ?? ""}<//> <span class="soft">made by <${Text}>${chunk.tool ?? ""}<//></span></p>`;
  return html`<${Value} of=${chunk} label="part of a message" />`;
}
