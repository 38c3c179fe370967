import { queue } from "./queue.js";
import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";
import { argsOf, type QueueKeys, type QueueEntry } from "./queue.js";

export const joinScript = operationScript(
  "join",
  `
-- time, id: the ticket; without an id it only reads. channel: on which the waiter is notified, '' if it polls.
-- graceMs: how long a reservation for it lasts. lifeMs: how long its entry lasts without being renewed.
-- Returns the queue's reply to a waiter.
local function join(keys, first, last, time, id, channel, graceMs, lifeMs)
  local atMs = nodeMs()
  if id ~= '' then
    local isOpen = mayTakeAll(keys, first, last, tonumber(time), id)
    enqueue(keys, first, last, isOpen, atMs, time, id, channel, graceMs, lifeMs)
  end
  return lookAt(keys, first, last, atMs, tonumber(time), id)
end
`,
  [valueOf, queue],
);

/** Joins the queue, or renews the place in it. */
export function joinOperation(keys: QueueKeys, entry: QueueEntry): Operation {
  return new Operation(joinScript, keys, argsOf(entry), { requiresOwnValue: true });
}
