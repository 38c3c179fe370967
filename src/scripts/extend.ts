import { script } from "./script.js";

/**
 * Renews where every key still holds the lock's value. An expiry never comes nearer: a late, failed
 * or shorter extension leaves what an earlier one promised.
 */
export const extendScript = script(`
-- KEYS: the lock keys. ARGV[1]: the lock's value. ARGV[2]: the ttl in ms.
-- Returns the number of keys that live for the ttl at least: all of them, or 0 where one is not ours.
for _, key in ipairs(KEYS) do
  if redis.pcall('GET', key) ~= ARGV[1] then return 0 end
end
for _, key in ipairs(KEYS) do
  local left = redis.call('PTTL', key)
  if left >= 0 and left < tonumber(ARGV[2]) then redis.call('PEXPIRE', key, ARGV[2]) end
end
return #KEYS
`);
