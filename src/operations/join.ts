import { queue } from "./queue.js";
import { readers, readersKeysOf } from "./readers.js";
import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";
import { argsOf, locksOf, type QueueKeys, type QueueEntry } from "./queue.js";

export const joinScript = operationScript(
  "join",
  `
-- time, id: the ticket; without an id it only reads. channel: on which the waiter is notified, '' if it polls.
-- graceMs: how long a reservation for it lasts. lifeMs: how long its entry lasts without being renewed.
-- reads: whether it is a reader; then the keys of the readers' sets follow.
-- Returns the queue's reply to a waiter.
local function join(keys, first, last, time, id, channel, graceMs, lifeMs, reads)
  local sets
  if reads then sets, last = readersIn(keys, first, last, 3) end
  local atMs = nodeMs()
  if id ~= '' then
    local isOpen = mayTakeAll(keys, first, last, tonumber(time), id, sets)
    enqueue(keys, first, last, isOpen, atMs, time, id, channel, graceMs, lifeMs, sets)
  end
  return lookAt(keys, first, last, atMs, tonumber(time), id, sets)
end
`,
  [valueOf, readers, queue],
);

/** Joins the queue, or renews the place in it. */
export function joinOperation(keys: QueueKeys, entry: QueueEntry, reads: boolean): Operation {
  if (reads) {
    const all = [...keys, ...readersKeysOf(locksOf(keys))];
    return new Operation(joinScript, all, [...argsOf(entry), 1], { requiresOwnValue: true });
  }
  return new Operation(joinScript, keys, argsOf(entry), { requiresOwnValue: true });
}
