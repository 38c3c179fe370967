import { line } from "./line.js";
import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";

export const joinScript = operationScript(
  "join",
  `
-- time, id: the ticket; without an id it only looks. channel: to be woken by, '' for who polls.
-- graceMs: how long a reservation for it lasts. lifeMs: how long it stands without being renewed.
-- Returns what a waiter is told.
local function join(keys, first, last, time, id, channel, graceMs, lifeMs)
  local atMs = nodeMs()
  if id ~= '' then
    local isOpen = mayTakeAll(keys, first, last, tonumber(time), id)
    stand(keys, first, last, isOpen, atMs, time, id, channel, graceMs, lifeMs)
  end
  return lookAt(keys, first, last, atMs, tonumber(time), id)
end
`,
  [valueOf, line],
);
