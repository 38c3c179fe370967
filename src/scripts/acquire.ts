import { script } from "./script.js";

/** Several resources, all or nothing; a single one is the plain `SET key value NX PX ttl`. */
export const acquireScript = script(`
-- KEYS: the lock keys. ARGV[1]: the lock's value. ARGV[2]: the ttl in ms.
-- Returns the number of keys set: all of them, or 0 where one is taken.
for _, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then return 0 end
end
for i, key in ipairs(KEYS) do
  local reply = redis.pcall('SET', key, ARGV[1], 'PX', ARGV[2])
  if reply.err then
    for j = 1, i - 1 do redis.call('DEL', KEYS[j]) end
    return reply
  end
end
return #KEYS
`);
