/** The filters of the list: fields of a form, and parameters of the address, so that a list can be bookmarked. */

import { Text } from "./parts.js";
import { addressOf, go, html, placeNow, useEffect, useState } from "./view.js";
import { KINDS } from "./waits.js";
import { count, localTime, visible } from "./words.js";

const STATUSES = ["running", "paused", "completed", "failed", "cancelled", "terminated"];

/** Times since the start, by their name in the address. */
const WITHIN = {
  "1h": ["the last hour", 3600],
  "24h": ["the last 24 hours", 86400],
  "7d": ["the last 7 days", 7 * 86400],
  "30d": ["the last 30 days", 30 * 86400],
};

const NAMES = ["status", "waiting_for", "workflow", "id_prefix", "within", "after", "before"];
const TAG = "tag.";

/** Return the filters that an address has. */
export function filtersIn(parameters) {
  const isFilter = ([name, value]) => name.startsWith(TAG) || (NAMES.includes(name) && value !== "");
  return Object.fromEntries(Object.entries(parameters).filter(isFilter));
}

/** Return the parameters of the request that filters mean. */
export function queryOf({ within, after, before, ...others }) {
  const seconds = WITHIN[within]?.[1];
  return {
    ...others,
    created_after: seconds ? new Date(Date.now() - 1000 * seconds).toISOString() : after,
    created_before: before,
  };
}

/** Return the filters with one more tag. */
export function withTag(filters, name, value) {
  return { ...filters, [TAG + name]: value };
}

/** Return a time of the address as a field shows it: where the reader is. */
function local(time) {
  return Number.isNaN(Date.parse(time)) ? "" : localTime(time).slice(0, 16);
}

export function Filters({ filters, workflows }) {
  const [tag, setTag] = useState("");
  const [fault, setFault] = useState();
  const [isAsked, setAsked] = useState(false);
  const isBetween = isAsked || Boolean(filters.after || filters.before);
  const active = Object.keys(filters).length;
  useEffect(() => setFault(undefined), [JSON.stringify(filters)]);
  const [isOpen] = useState(active > 0 || matchMedia("(min-width: 60rem)").matches);
  // Two fields may be changed before the first change is drawn.
  const change = (changed) => go(addressOf([], filtersIn({ ...placeNow().parameters, ...changed })));
  const pick = (name) => (event) => change({ [name]: event.target.value.trim() });
  const pickTime = (name) => (event) => change({ within: "", [name]: event.target.value && new Date(event.target.value).toISOString() });
  const pickWithin = ({ target: { value } }) => {
    setAsked(value === "between");
    change({ within: value === "between" ? "" : value, after: "", before: "" });
  };
  const addTag = () => {
    const [name, ...rest] = tag.trim().split("=");
    if (!tag.trim()) return;
    setFault(name && rest.length ? undefined : "Write a tag as NAME=VALUE.");
    if (!name || !rest.length) return;
    setTag("");
    change(withTag({}, name, rest.join("=")));
  };
  const within = isBetween ? "between" : (filters.within ?? "");
  return html`<div><details class="card filters" open=${isOpen}>
    <summary>Filters${active > 0 && html` <span class="soft">${count(active, "filter")}</span>`}</summary>
    <form role="search" aria-label="Filters" onSubmit=${(event) => event.preventDefault()}>
      <label>Status<${Choice} value=${filters.status} onChange=${pick("status")} of=${STATUSES.map((one) => [one, one])} /></label>
      <label>Waits for<${Choice} value=${filters.waiting_for} onChange=${pick("waiting_for")} of=${Object.entries(KINDS).map(([kind, text]) => [kind, `${text} (${kind})`])} /></label>
      <label>Workflow<input type="search" list="workflows" value=${filters.workflow ?? ""} placeholder="any" onChange=${pick("workflow")} /></label>
      <datalist id="workflows">${workflows.map((one) => html`<option key=${one} value=${one}></option>`)}</datalist>
      <label>Id begins with<input type="search" value=${filters.id_prefix ?? ""} placeholder="any" onChange=${pick("id_prefix")} /></label>
      <label>Tag<input value=${tag} placeholder="NAME=VALUE" onInput=${(event) => setTag(event.target.value)} onChange=${addTag} /></label>
      <label>Started<${Choice} value=${within} onChange=${pickWithin} of=${[...Object.entries(WITHIN).map(([name, [text]]) => [name, text]), ["between", "between…"]]} /></label>
      ${isBetween && html`<label>From<input type="datetime-local" value=${local(filters.after)} onChange=${pickTime("after")} /></label>
        <label>Until<input type="datetime-local" value=${local(filters.before)} onChange=${pickTime("before")} /></label>`}
    </form>
    ${fault && html`<p class="trouble" role="alert">${fault}</p>`}
  </details>
  ${active > 0 && html`<p class="chips">
    ${Object.entries(filters).map(([name, value]) => html`<a key=${name} class="chip" href=${addressOf([], without(filters, name))} aria-label=${visible(`Remove the filter ${wordsOf(name, value)}`)}><${Text}>${wordsOf(name, value)}<//> <span aria-hidden="true">✕</span></a>`)}
    <a href=${addressOf([])} onClick=${() => setAsked(false)}>Remove all filters</a>
  </p>`}</div>`;
}

/** Return a filter in words. */
function wordsOf(name, value) {
  switch (name) {
    case "status":
      return value;
    case "waiting_for":
      return `waits for ${KINDS[value] ?? value}`;
    case "workflow":
      return `workflow ${value}`;
    case "id_prefix":
      return `id begins with ${value}`;
    case "within":
      return `started in ${WITHIN[value]?.[0] ?? value}`;
    case "after":
      return `started from ${local(value).replace("T", " ")}`;
    case "before":
      return `started until ${local(value).replace("T", " ")}`;
  }
  return `${name.slice(TAG.length)}=${value}`;
}

function without(filters, name) {
  return Object.fromEntries(Object.entries(filters).filter(([one]) => one !== name));
}

function Choice({ value = "", of, onChange }) {
  const isKnown = of.some(([one]) => one === value);
  return html`<select value=${value} onChange=${onChange}>
    <option value="">any</option>
    ${value && !isKnown && html`<option value=${value} selected>${visible(value)}</option>`}
    ${of.map(([one, text]) => html`<option key=${one} value=${one} selected=${one === value}>${text}</option>`)}
  </select>`;
}
