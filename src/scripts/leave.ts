import { line } from "./line.js";
import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";

export const leaveScript = operationScript(
  "leave",
  `
-- id: the ticket's. What is reserved for it is passed on. Returns 0.
local function leave(keys, first, last, id)
  for i = first, last, 3 do stepOut(keys[i + 1], keys[i + 2], id) end
  passOnReserved(keys, first, last, id)
  return 0
end
`,
  [valueOf, line],
);
