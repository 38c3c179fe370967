import { queue } from "./queue.js";
import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";
import { argsOf, type QueueKeys, type Standing } from "./queue.js";

export const joinScript = operationScript(
  "join",
  `
-- time, id: the ticket; without an id it only looks. channel: to be woken by, '' for who polls.
-- graceMs: how long a reservation for it lasts. lifeMs: how long it stands without being renewed.
-- Returns what a waiter is told.
local function join(keys, first, last, time, id, channel, graceMs, lifeMs)
  local atMs = nodeMs()
  if id ~= '' then
    local isOpen = mayTakeAll(keys, first, last, tonumber(time), id)
    stand(keys, first, last, isOpen, atMs, time, id, channel, graceMs, lifeMs)
  end
  return lookAt(keys, first, last, atMs, tonumber(time), id)
end
`,
  [valueOf, queue],
);

/** Stands in line. */
export function joinOperation(keys: QueueKeys, standing: Standing): Operation {
  return new Operation(joinScript, keys, argsOf(standing), { requiresOwnValue: true });
}
