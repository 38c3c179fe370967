import { queue } from "./queue.js";
import { readers } from "./readers.js";
import { operationScript } from "./script.js";
import { setAll } from "./set-all.js";
import { valueOf } from "./value-of.js";

/** Acquires for a queued waiter: also keys that are reserved for it, or for a later ticket. */
export const takeScript = operationScript(
  "take",
  `
-- value, ttlMs: the lock's. The others: as in join.
-- Returns the number of locks taken, which is all, and removes the waiter from the queue; or, refused, the queue's reply.
local function take(keys, first, last, value, ttlMs, time, id, channel, graceMs, lifeMs, reads)
  local sets
  if reads then sets, last = readersIn(keys, first, last, 3) end
  if mayTakeAll(keys, first, last, tonumber(time), id, sets) then
    for i = first, last, 3 do pcall(dequeue, keys[i + 1], keys[i + 2], id) end
    if sets then return enterAll(keys, first, last, sets, value, ttlMs, id) end
    return setAll(keys, first, last, 3, value, ttlMs)
  end
  local atMs = nodeMs()
  pcall(enqueue, keys, first, last, false, atMs, time, id, channel, graceMs, lifeMs, sets)
  passOnReserved(keys, first, last, id, sets)
  return lookAt(keys, first, last, atMs, tonumber(time), id, sets)
end
`,
  [valueOf, readers, queue, setAll],
);
