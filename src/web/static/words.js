/** Values as text for people. Text of models and tools is shown as it is: nothing in it is hidden or acts. */

/** Control characters, halves of characters, and all that is not seen, or that turns a text around. */
const HIDDEN = /(?![\t\n])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Default_Ignorable_Code_Point}]/gu;

function hex(number) {
  return number.toString(16).padStart(4, "0");
}

/** Return text in which characters that are not seen, or that turn the text around, are shown by their number. */
export function visible(text) {
  return String(text).replace(HIDDEN, (one) => `⟨U+${hex(one.codePointAt(0)).toUpperCase()}⟩`);
}

/** Return a value as JSON, on several lines. */
export function pretty(value) {
  return JSON.stringify(value, null, 2) ?? "null";
}

/** Return a JSON text on several lines for somebody who edits it. It means the same, and hides nothing. */
export function editable(text) {
  let spread = text;
  if (JSON.rawJSON) {
    const digits = (_, value, context) => (typeof value === "number" ? JSON.rawJSON(context.source) : value);
    spread = pretty(JSON.parse(text, digits));
  }
  return spread.replace(HIDDEN, (one) => one.split("").map((unit) => `\\u${hex(unit.charCodeAt(0))}`).join(""));
}

/** Return a value on one line: a text as it is, anything else as JSON. */
export function brief(value, length = 200) {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  const line = text.slice(0, 4 * length).replace(/\s+/g, " ");
  return line.length <= length ? line : `${line.slice(0, length - 1)}…`;
}

/** Return a duration in the largest unit that fits. */
export function duration(seconds) {
  if (seconds < 0.0095) return `${(1000 * seconds).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** Return an age on a few characters: nobody reads the seconds of what is hours old. */
export function age(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 2 * 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400).toLocaleString("en")} d`;
}

export function secondsBetween(from, to) {
  return (new Date(to) - new Date(from)) / 1000;
}

/** Return a time where the reader is, as ISO 8601 writes it. */
export function localTime(at) {
  const date = new Date(at);
  return new Date(date - 60_000 * date.getTimezoneOffset()).toISOString();
}

export function moment(at) {
  return localTime(at).slice(0, 19).replace("T", " ");
}

export function timeOfDay(at) {
  return localTime(at).slice(11, 23);
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}
