import { acquireOperation } from "./acquire-fenced.js";
import { Operation } from "./operation.js";
import { argsOf, queue, type QueueEntry } from "./queue.js";
import { readers } from "./readers.js";
import { operationScript } from "./script.js";
import { setAll } from "./set-all.js";
import { type SlotKeys, survey } from "./slots.js";
import { valueOf } from "./value-of.js";

/** Takes one slot for a queued waiter: also one that is reserved for it, or for a later ticket. */
export const takePermitScript = operationScript(
  "takePermit",
  `
-- value, ttlMs: the lock's. slot: which one it takes, from 0. The others: as in join.
-- Returns 1, and removes the waiter from the queue; or, refused, what survey returns.
local function takePermit(keys, first, last, value, ttlMs, slot, time, id, channel, graceMs, lifeMs)
  local order, alive, own = keys[first], keys[first + 1], first + 2 + slot
  if mayTake(keys, own, tonumber(time), id) then
    pcall(dequeue, order, alive, id)
    -- Slots that were released together may all be reserved for it here. It takes one.
    for i = first + 2, last do
      local _, reservedId = reservedFor(valueOf(keys[i]))
      if i ~= own and reservedId == id then passOn(keys[i], order, alive, id) end
    end
    return setAll(keys, own, own, 1, value, ttlMs)
  end
  local atMs = nodeMs()
  pcall(enqueue, { '', order, alive }, 1, 3, true, atMs, time, id, channel, graceMs, lifeMs)
  return survey(keys, first, last, atMs, tonumber(time), id)
end
`,
  [valueOf, readers, queue, survey, setAll],
);

/** Takes a slot that is free or reserved for this waiter; joins the queue otherwise. */
export function takePermitOperation(
  keys: SlotKeys,
  slot: number,
  value: string,
  ttlMs: number,
  entry: QueueEntry,
): Operation {
  return new Operation(takePermitScript, keys, [value, ttlMs, slot, ...argsOf(entry)], {
    sets: value,
    otherwise: () => acquireOperation(keys.slice(slot + 2, slot + 3), value, ttlMs),
  });
}
