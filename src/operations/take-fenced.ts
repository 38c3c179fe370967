import { acceptFence } from "./accept-fence.js";
import { operationScript } from "./script.js";
import { takeScript } from "./take.js";
import { valueOf } from "./value-of.js";

export const takeFencedScript = operationScript(
  "takeFenced",
  `
-- keys: the locks' and their lines', then the fences. token: the fencing token proposed. The others: as in take.
-- Returns 'accepted', or the largest token stored, as decimals, and the lock is set all the same; or, refused,
-- what a waiter is told.
local function takeFenced(keys, first, last, value, ttlMs, token, time, id, channel, graceMs, lifeMs)
  local lastInLine = first - 1 + (last - first + 1) * 3 / 4
  local isOpen = mayTakeAll(keys, first, lastInLine, tonumber(time), id)
  local answer = isOpen and acceptFence(keys, lastInLine + 1, last, value, ttlMs, token)
  if type(answer) == 'table' then return answer end
  local taken = take(keys, first, lastInLine, value, ttlMs, time, id, channel, graceMs, lifeMs)
  return type(taken) == 'table' and taken or answer
end
`,
  [valueOf, acceptFence, ...takeScript.definitions],
);
