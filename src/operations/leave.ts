import { queue } from "./queue.js";
import { readers, readersKeysOf } from "./readers.js";
import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";
import { locksOf, type QueueKeys } from "./queue.js";

export const leaveScript = operationScript(
  "leave",
  `
-- id: the ticket's. holds: 1 if the waiter holds the lock by now, 0 if it has stopped waiting. reads: as in join.
-- Frees the keys reserved for it, so that its lock can get them, or passes them on. Returns 0.
local function leave(keys, first, last, id, holds, reads)
  local sets
  if reads then sets, last = readersIn(keys, first, last, 3) end
  for i = first, last, 3 do dequeue(keys[i + 1], keys[i + 2], id) end
  if tonumber(holds) == 0 then
    passOnReserved(keys, first, last, id, sets)
    return 0
  end
  for i = first, last, 3 do
    if takeBack(keys, i, id, sets) then redis.call('DEL', keys[i]) end
  end
  return 0
end
`,
  [valueOf, readers, queue],
);

/** Leaves the queue. Frees the keys reserved for the waiter if it `holds` the lock, otherwise passes them on. */
export function leaveOperation(
  keys: QueueKeys,
  id: string,
  holds: boolean,
  reads: boolean,
): Operation {
  if (reads) {
    const all = [...keys, ...readersKeysOf(locksOf(keys))];
    return new Operation(leaveScript, all, [id, holds ? 1 : 0, 1], { requiresOwnValue: true });
  }
  return new Operation(leaveScript, keys, [id, holds ? 1 : 0], { requiresOwnValue: true });
}
