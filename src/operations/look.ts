import { queue } from "./queue.js";
import { readers, readersKeysOf } from "./readers.js";
import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";
import { locksOf, type QueueKeys } from "./queue.js";

/** Reads who waits for the keys, and which readers hold them. */
export const lookScript = operationScript(
  "look",
  `
-- The keys of the readers' sets follow those of the queues.
-- Returns for each lock in JSON: the waiters in their order, each with its id and its ticket's time; and, if readers hold
-- it, their values, each with the ms that it has left, and the ids of those that were notified.
local function look(keys, first, last)
  local sets
  sets, last = readersIn(keys, first, last, 3)
  local found = {}
  local atMs = nodeMs()
  for i = first, last, 3 do
    local waiters = {}
    local entries = redis.call('ZRANGE', keys[i + 1], 0, -1, 'WITHSCORES')
    for j = 1, #entries, 2 do
      local entry = cjson.decode(redis.call('HGET', keys[i + 2], entries[j]) or '[0]')
      if entry[1] >= atMs then waiters[#waiters + 1] = { entries[j], entries[j + 1] } end
    end
    local values, notified = {}, {}
    local members = sharedUntil(keys[i], sets[i]) and redis.call('ZRANGE', sets[i], 0, -1, 'WITHSCORES') or {}
    for j = 1, #members, 2 do
      local leftMs = members[j + 1] - atMs
      if string.sub(members[j], 1, #NOTIFIED) == NOTIFIED then
        notified[#notified + 1] = string.sub(members[j], #NOTIFIED + 1)
      elseif leftMs >= 0 then
        values[#values + 1] = { members[j], leftMs }
      end
    end
    found[#found + 1] = cjson.encode({ waiters, values, notified })
  end
  return found
end
`,
  [valueOf, readers, queue],
);

/** Reads the waiters and the readers of each lock. */
export function lookOperation(keys: QueueKeys): Operation {
  return new Operation(lookScript, [...keys, ...readersKeysOf(locksOf(keys))], []);
}
