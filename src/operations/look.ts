import { queue } from "./queue.js";
import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";
import { type QueueKeys } from "./queue.js";

/** Reads who waits for the keys. */
export const lookScript = operationScript(
  "look",
  `
-- Returns for each lock a JSON array of the waiters in their order, each with its id and its ticket's time.
local function look(keys, first, last)
  local queues = {}
  local atMs = nodeMs()
  for i = first, last, 3 do
    local waiters = {}
    local entries = redis.call('ZRANGE', keys[i + 1], 0, -1, 'WITHSCORES')
    for j = 1, #entries, 2 do
      local entry = cjson.decode(redis.call('HGET', keys[i + 2], entries[j]) or '[0]')
      if entry[1] >= atMs then waiters[#waiters + 1] = { entries[j], entries[j + 1] } end
    end
    queues[#queues + 1] = cjson.encode(waiters)
  end
  return queues
end
`,
  [valueOf, queue],
);

/** Reads the waiters of each lock. */
export function lookOperation(keys: QueueKeys): Operation {
  return new Operation(lookScript, keys, []);
}
