/** What would run again: the server says it for a retry, by the function that makes one. */

import { read } from "./server.js";
import { useEffect, useState } from "./view.js";
import { stepsUnderWay } from "./waits.js";

const NAMES_MAX = 6;

function listed(names) {
  const more = names.length - NAMES_MAX;
  return names.slice(0, NAMES_MAX).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** Return what a verb would do again to an execution of a list, as text. */
export function underWayIn(verb, of) {
  const names = stepsUnderWay(of);
  if (!names.length) return verb === "resume" ? "No step is under way." : "";
  const again = verb === "resume" ? ", run again if the outcome is lost" : "";
  return `Under way: ${listed(names)}${again}.`;
}

function sentence({ refusal, anew, again, once }) {
  if (refusal) return refusal;
  const parts = [];
  if (anew.length) parts.push(`Tried anew: ${listed(anew)}.`);
  if (again.length) parts.push(`Under way then, so run again: ${listed(again)}.`);
  if (!parts.length) parts.push("No step runs again; its code goes on from its last input.");
  if (once.length) parts.push(`Not without being asked to, because of effect="once": ${listed(once)}.`);
  return parts.join(" ");
}

/** Return what a retry of each execution would do again, as a map of texts by id, and whether all are there. */
export function useReruns(ids) {
  const [found, setFound] = useState(new Map());
  useEffect(() => {
    let isOver = false;
    const load = async () => {
      for (const id of ids) {
        let text;
        try {
          text = sentence(await read("rerun", { id }));
        } catch (error) {
          text = error.message;
        }
        if (isOver) return;
        setFound((before) => new Map(before).set(id, text));
      }
    };
    load();
    return () => (isOver = true);
  }, [ids.join("\n")]);
  return { found, isKnown: ids.every((id) => found.has(id)) };
}
