/** Editing the arguments of a call: a field for each parameter of the schema, or the whole as JSON. */

import { Text } from "./parts.js";
import { html, useMemo, useState } from "./view.js";
import { editable, pretty, visible } from "./words.js";

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/;

/** Return the value of a JSON text in which each number stands as it was written. */
function exactly(text) {
  return JSON.parse(text, (_, value, context) => (typeof value === "number" ? JSON.rawJSON(context.source) : value));
}

/** Return the fields for an object by its schema; undefined if only JSON shows it as it is. */
function fieldsFor(schema, text) {
  if (!JSON.rawJSON) return undefined;
  let given;
  try {
    given = exactly(text);
  } catch {
    return undefined;
  }
  if (typeof given !== "object" || given === null || Array.isArray(given)) return undefined;
  const known = Object.keys(schema?.properties ?? {});
  const names = [...new Set([...known, ...Object.keys(given)])];
  const fields = names.map((name) => fieldFor(name, (known.includes(name) && schema.properties[name]) || {}, given, schema?.required ?? []));
  // An input would hide what turns a text around, or what nobody sees.
  return known.length && fields.every((field) => visible(field.text) === field.text) ? fields : undefined;
}

function fieldFor(name, schema, given, required) {
  const isGiven = Object.hasOwn(given, name);
  const value = isGiven ? given[name] : undefined;
  const about = { name, isGiven, isRequired: required.includes(name), description: schema.description };
  if (Array.isArray(schema.enum) && schema.enum.every((one) => typeof one === "string") && (!isGiven || schema.enum.includes(value)))
    return { ...about, sort: "choice", choices: schema.enum, text: value ?? "" };
  if (schema.type === "boolean" && (!isGiven || typeof value === "boolean")) return { ...about, sort: "boolean", text: String(value ?? "") };
  if (schema.type === "string" && (!isGiven || typeof value === "string")) return { ...about, sort: "string", text: value ?? "" };
  const isNumber = schema.type === "integer" || schema.type === "number";
  return { ...about, sort: isNumber ? "number" : "json", text: isGiven ? (isNumber ? JSON.stringify(value) : pretty(value)) : "" };
}

/** Return the JSON text of an object with these fields; raise if one of them is not a value. */
function written(fields, texts) {
  const members = [];
  for (const field of fields) {
    const text = texts.get(field.name) ?? field.text;
    if (text === "" && (!field.isGiven || field.sort !== "string")) continue;
    let value = text;
    if (field.sort === "string" || field.sort === "choice") value = JSON.stringify(text);
    else if (field.sort === "number" && !NUMBER.test(text.trim())) throw new Error(`${field.name} must be a number`);
    else if (field.sort === "json") value = pretty(exactly(text));
    members.push(`${JSON.stringify(field.name)}: ${value.trim()}`);
  }
  return `{${members.join(", ")}}`;
}

/**
 * Edit a JSON object. `onInput` gets the text of the edited one, or null as long as it is the same, and a
 * fault if it is not JSON yet.
 */
export function Arguments({ text, schema, readOnly, onInput }) {
  const fields = useMemo(() => fieldsFor(schema, text), [text, schema]);
  const original = useMemo(() => editable(text), [text]);
  const [isForm, setForm] = useState(Boolean(fields));
  const [whole, setWhole] = useState(original);
  const [texts, setTexts] = useState(new Map());
  const change = (name, value) => {
    const changed = new Map(texts).set(name, value);
    setTexts(changed);
    try {
      const now = written(fields, changed);
      onInput(now === written(fields, new Map()) ? null : now, undefined);
    } catch (fault) {
      onInput(null, `${name}: ${fault.message}`);
    }
  };
  const changeWhole = (value) => {
    setWhole(value);
    onInput(value.trim() === original.trim() ? null : value, undefined);
  };
  const turn = () => {
    if (isForm) {
      try {
        changeWhole(editable(written(fields, texts)));
      } catch {
        changeWhole(original);
      }
    } else {
      setTexts(new Map());
      setWhole(original);
      onInput(null, undefined);
    }
    setForm(!isForm);
  };
  return html`<fieldset>
    <legend>Arguments</legend>
    ${isForm
      ? fields.map((field) => html`<${Field} key=${field.name} of=${field} text=${texts.get(field.name) ?? field.text} readOnly=${readOnly} onInput=${(value) => change(field.name, value)} />`)
      : html`<label>As JSON
          <textarea class="code" rows=${Math.min(16, whole.split("\n").length + 1)} spellcheck=${false} dir="ltr" readonly=${readOnly}
            value=${whole} onInput=${(event) => changeWhole(event.target.value)}></textarea>
        </label>`}
    ${fields && !readOnly && html`<button type="button" class="quiet small" onClick=${turn}>${isForm ? "Edit as JSON" : "Back to the fields as they were asked"}</button>`}
  </fieldset>`;
}

function Field({ of: field, text, readOnly, onInput }) {
  const input = (event) => onInput(event.target.value);
  const label = html`<${Text}>${field.name}<//>${field.description && html` <small><${Text}>${field.description}<//></small>`}`;
  if (field.sort === "choice" || field.sort === "boolean") {
    const choices = field.sort === "boolean" ? ["true", "false"] : field.choices;
    return html`<label>${label}<select disabled=${readOnly} value=${text} onChange=${input}>
      ${!field.isRequired && html`<option value="">not given</option>`}
      ${choices.map((one) => html`<option value=${one} selected=${one === text}>${visible(one)}</option>`)}
    </select></label>`;
  }
  if (field.sort === "json" || text.includes("\n") || text.length > 80)
    return html`<label>${label}<textarea class=${field.sort === "json" ? "code" : ""} rows=${Math.min(10, text.split("\n").length + 1)}
      readonly=${readOnly} spellcheck=${false} value=${text} onInput=${input}></textarea></label>`;
  return html`<label>${label}<input readonly=${readOnly} inputmode=${field.sort === "number" ? "numeric" : undefined} value=${text} onInput=${input} /></label>`;
}
