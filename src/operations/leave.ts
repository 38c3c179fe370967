import { queue } from "./queue.js";
import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";
import { type QueueKeys } from "./queue.js";

export const leaveScript = operationScript(
  "leave",
  `
-- id: the ticket's. holds: 1 where its lock is held by now, 0 where it waits no longer.
-- What is reserved for it is freed for its lock, or passed on. Returns 0.
local function leave(keys, first, last, id, holds)
  for i = first, last, 3 do stepOut(keys[i + 1], keys[i + 2], id) end
  if tonumber(holds) == 0 then
    passOnReserved(keys, first, last, id)
    return 0
  end
  for i = first, last, 3 do
    local _, reservedId = reservedFor(valueOf(keys[i]))
    if reservedId == id then redis.call('DEL', keys[i]) end
  end
  return 0
end
`,
  [valueOf, queue],
);

/** Leaves the line; what was reserved is freed for the waiter's lock where it holds one, or else passed on. */
export function leaveOperation(keys: QueueKeys, id: string, holds: boolean): Operation {
  return new Operation(leaveScript, keys, [id, holds ? 1 : 0], { requiresOwnValue: true });
}
