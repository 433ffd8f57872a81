// The failures of the last day that the menu counts and the overview lists: one question for both.

import { get } from "./api.js";

/** How many groups the overview lists. */
const SHOWN = 6;

let answer = null;
let askedAt = 0;

/** Return the first groups and the total, as the API answers them; asked again if that was longer ago than `ms`. */
export function lastErrors(ms) {
  if (!answer || Date.now() - askedAt > ms) {
    askedAt = Date.now();
    const asked = (answer = get("errors", { limit: SHOWN }));
    asked.catch(() => (answer = answer === asked ? null : answer));
  }
  return answer;
}
