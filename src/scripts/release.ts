import { script } from "./script.js";

/** Deletes what is still ours; another owner's key stays. */
export const releaseScript = script(`
-- KEYS: the lock keys. ARGV[1]: the lock's value.
-- Returns the number of keys deleted.
local deleted = 0
for _, key in ipairs(KEYS) do
  if redis.pcall('GET', key) == ARGV[1] then deleted = deleted + redis.call('DEL', key) end
end
return deleted
`);
