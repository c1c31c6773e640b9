/** Requests to the server of this page. Addresses are relative: it may be mounted anywhere. */

/** A request that could not be met; `message` says why, and what to do. */
export class Refusal extends Error {
  constructor({ kind, message, retryable }) {
    super(message);
    this.kind = kind;
    this.retryable = Boolean(retryable);
  }
}

const AWAY = {
  kind: "Away",
  message: "The inspector does not answer. Is it still running? The page goes on by itself when it is back.",
  retryable: true,
};
const SLOWEST_MILLISECONDS = 8000;

/** What JavaScript may write otherwise than it was: long integers, 1.0, and exponents. */
const EXACT = /\d{16}|\d\.0[,\]}]|\d[eE][-+]?\d/;

/** Return the value of a JSON text. Numbers that JavaScript would round keep their digits. */
export function parse(text) {
  if (!JSON.rawJSON || !EXACT.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && String(value) !== context.source ? JSON.rawJSON(context.source) : value,
  );
}

async function request(address, options) {
  let response;
  let text;
  try {
    response = await fetch(address, options);
    text = await response.text();
  } catch {
    throw new Refusal(options ? { message: "The inspector does not answer. It may have done this, or not." } : AWAY);
  }
  let value;
  try {
    value = parse(text);
  } catch {
    throw new Refusal({ kind: "NoAnswer", message: `The inspector answers with status ${response.status}.` });
  }
  // Nobody does an action again by itself.
  if (!response.ok) throw new Refusal({ ...value.error, retryable: !options && value.error.retryable });
  return value;
}

/** Return the address of a request that reads. Parameters that are undefined are left out. */
export function addressOfRequest(what, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined);
  return `api/${what}?${new URLSearchParams(given)}`;
}

/** Return the answer to a request that reads. */
export function read(what, parameters) {
  return request(addressOfRequest(what, parameters));
}

/** Do something; return the answer. */
export function act(verb, given) {
  return request(`api/actions/${verb}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(given),
  });
}

/**
 * Follow the events of an execution: `onEvents` gets them in batches, `onState` gets "live", "ended", or "away"
 * with an error. Return a function that ends it.
 *
 * After a break it goes on from the last position, so that nothing is missed; the text of a reply that is still
 * being written comes again. A page that cannot be seen does not follow: browsers allow few connections.
 */
export function follow(id, onEvents, onState) {
  let source;
  let timer;
  let last = 0;
  let pause = 500;
  let isOver = false;
  const open = () => {
    clearTimeout(timer);
    source?.close();
    if (isOver || document.hidden) return;
    const mine = new EventSource(addressOfRequest("events", { id, after: last }));
    source = mine;
    const goOnLater = (error) => {
      if (source !== mine) return;
      mine.close();
      onState("away", error);
      timer = setTimeout(open, pause);
      pause = Math.min(2 * pause, SLOWEST_MILLISECONDS);
    };
    mine.onopen = () => onState("live");
    mine.onerror = () => goOnLater(new Refusal(AWAY));
    mine.addEventListener("events", (message) => {
      pause = 500;
      last = Number(message.lastEventId);
      onEvents(parse(message.data));
    });
    mine.addEventListener("trouble", (message) => goOnLater(new Refusal(parse(message.data))));
    mine.addEventListener("end", () => {
      mine.close();
      onState("ended");
    });
  };
  const shown = () => (document.hidden ? source?.close() : open());
  document.addEventListener("visibilitychange", shown);
  open();
  return {
    again: open,
    close() {
      isOver = true;
      clearTimeout(timer);
      source?.close();
      document.removeEventListener("visibilitychange", shown);
    },
  };
}
