import { queue } from "./queue.js";
import { readers } from "./readers.js";
import { script } from "./script.js";
import { valueOf } from "./value-of.js";

/**
 * Ends a lock, whoever holds it, and hands over to the next waiter. A key that is reserved for a waiter stays: nobody
 * holds a lock there. So does a key that holds other data than a string.
 */
export const forceReleaseScript = script(`${valueOf}${readers}${queue}
-- KEYS: the key of the lock and, if it can have a queue, those of the queue, and that of the readers' set.
-- Returns the values that held the key: one, or those of the readers; none if it held no lock.
local value = valueOf(KEYS[1])
if type(value) ~= 'string' or reservedFor(value) then return {} end
local ended = { value }
if KEYS[4] and sharedUntil(KEYS[1], KEYS[4]) then
  removeExpired(KEYS[4])
  ended = {}
  for _, member in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    if string.sub(member, 1, #NOTIFIED) ~= NOTIFIED then ended[#ended + 1] = member end
  end
  if #ended == 0 then return ended end
  redis.call('DEL', KEYS[4])
end
if #KEYS == 1 then redis.call('DEL', KEYS[1]) else passOn(KEYS[1], KEYS[2], KEYS[3], '') end
return ended
`);
