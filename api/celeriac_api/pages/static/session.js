// Who looks, and what is worth offering: the cookie is no script's to read, so the server says.

import { get } from "./api.js";

/** Where it cannot say, all is offered: the server decides anyway. */
const UNKNOWN = { signed_in: false, user_id: null, admin: true, submit: true };

/** `{signed_in, user_id, admin, submit}`, asked once. */
export const session = get("../../dashboard/session").catch(() => UNKNOWN);
