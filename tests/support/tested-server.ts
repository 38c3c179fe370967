import { versionOf } from "./server-version.js";
import { ensureServerBinary } from "./servers.js";

/** The server that the tests start: for the few that need what older servers do not have. */
export const testedServer = await versionOf(await ensureServerBinary());
