/** Money, exact: amounts are whole numbers of the smallest part of a dollar that a reply's cost has. */

const PLACES = 12;
const AMOUNT = /^(\d+)(?:\.(\d{1,12}))?$/;

/** Return the amount that a text is; undefined if it is none. */
export function amountOf(text) {
  const [, whole, part = ""] = AMOUNT.exec(text ?? "") ?? [];
  return whole === undefined ? undefined : BigInt(whole + part.padEnd(PLACES, "0"));
}

/**
 * Return what a usage has cost, in dollars to the last digit; with a plus if the price of something is not known,
 * and a question mark if that of everything is not.
 */
export function costIn({ cost, unpriced }) {
  if (cost === undefined) return unpriced ? "?" : "";
  const digits = String(cost).padStart(PLACES + 1, "0");
  const part = digits.slice(-PLACES).replace(/0+$/, "");
  return `$${digits.slice(0, -PLACES)}${part && `.${part}`}${unpriced ? "+" : ""}`;
}
