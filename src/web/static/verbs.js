/** The verbs that change the life of an execution: what each is called, and what it says before it is done. */

export const VERBS = {
  pause: {
    title: "Pause",
    says: "It begins no step until somebody resumes it. What is under way may end, and is kept.",
    reason: { value: "" },
  },
  resume: {
    title: "Resume",
    says: "Workers take it again. No completed step runs again.",
  },
  cancel: {
    title: "Cancel",
    says: "It is asked to end; its code can clean up first.",
  },
  terminate: {
    title: "Terminate",
    says: "It ends at once, without any clean-up. What a step does at this moment may still happen.",
    reason: { value: "from the inspector" },
    isGrave: true,
  },
  retry: {
    title: "Retry",
    says: "It is opened again under the same id, with today's code. No completed step runs again.",
  },
};

export function isOpen(status) {
  return ["running", "held", "paused"].includes(status);
}

/** Return whether it stands still until somebody resumes it. */
export function isStopped(status) {
  return status === "held" || status === "paused";
}

export function endedEarly(status) {
  return ["failed", "cancelled", "terminated"].includes(status);
}
