import { queue } from "./queue.js";
import { script } from "./script.js";
import { valueOf } from "./value-of.js";

/**
 * Ends a lock, whoever holds it, and hands over to the next waiter. A key that is reserved for a waiter stays: nobody
 * holds a lock there. So does a key that holds other data than a string.
 */
export const forceReleaseScript = script(`${valueOf}${queue}
-- KEYS: the key of the lock and, if it can have a queue, those of the queue.
-- Returns the value that the key held, or '' if it held no lock.
local value = valueOf(KEYS[1])
if type(value) ~= 'string' or reservedFor(value) then return '' end
if #KEYS == 1 then redis.call('DEL', KEYS[1]) else passOn(KEYS[1], KEYS[2], KEYS[3], '') end
return value
`);
