import { Operation } from "./operation.js";
import { argsOf, queue, type QueueEntry } from "./queue.js";
import { readers } from "./readers.js";
import { operationScript } from "./script.js";
import { type SlotKeys, survey } from "./slots.js";
import { valueOf } from "./value-of.js";

export const joinPermitsScript = operationScript(
  "joinPermits",
  `
-- As join, for a permit. Returns what survey returns.
local function joinPermits(keys, first, last, time, id, channel, graceMs, lifeMs)
  local atMs = nodeMs()
  if id ~= '' then
    enqueue({ '', keys[first], keys[first + 1] }, 1, 3, true, atMs, time, id, channel, graceMs, lifeMs)
  end
  return survey(keys, first, last, atMs, tonumber(time), id)
end
`,
  [valueOf, readers, queue, survey],
);

/** Joins the queue for a permit, or renews the place in it. */
export function joinPermitsOperation(keys: SlotKeys, entry: QueueEntry): Operation {
  return new Operation(joinPermitsScript, keys, argsOf(entry), { requiresOwnValue: true });
}

/** A ticket later than every other: the slots that it may take are free for everybody. */
const NOBODY: QueueEntry = { ticketMs: 2 ** 53, id: "", channel: "", graceMs: 0, lifeMs: 0 };

/** Reads which slots are free, and joins nothing. */
export function surveyOperation(keys: SlotKeys): Operation {
  return joinPermitsOperation(keys, NOBODY);
}
