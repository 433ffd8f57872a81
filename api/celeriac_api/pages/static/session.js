// Who the user is and what they may do. Scripts cannot read the cookie, so the server answers this.

import { get } from "./api.js";

/** If the server cannot answer, everything is offered: the server decides about each request anyway. */
const UNKNOWN = { signed_in: false, user_id: null, admin: true, submit: true };

/** `{signed_in, user_id, admin, submit}`, asked once. */
export const session = get("../../dashboard/session").catch(() => UNKNOWN);
