import { queue } from "./queue.js";
import { operationScript, withShortcut } from "./script.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";
import { locksOf, type QueueKeys } from "./queue.js";
import { releaseOperation } from "./release.js";

/** Releases what is still ours to the next in line, without a moment in which the key is free. */
export const handOverScript = withShortcut(
  operationScript(
    "handOver",
    `
-- value: the lock's. Returns the number of locks released or, where the next could not be called, why not.
local function handOver(keys, first, last, value)
  local released, failure = 0, nil
  for i = first, last, 3 do
    if valueOf(keys[i]) == value then
      failure = passOn(keys[i], keys[i + 1], keys[i + 2], '') or failure
      released = released + 1
    end
  end
  return failure or released
end
`,
    [valueOf, queue],
  ),
  `
-- One lock for which nobody waits. A table is an error, which is not for here.
if #KEYS == 3 and redis.call('EXISTS', KEYS[2]) == 0 then
  local value = redis.pcall('GET', KEYS[1])
  if value == ARGV[1] then return redis.call('DEL', KEYS[1]) end
  if type(value) ~= 'table' then return 0 end
end
`,
);

/** Releases to the next in line. */
export function handOverOperation(keys: QueueKeys, value: string): Operation {
  return new Operation(handOverScript, keys, [value], {
    resendUndecided: true,
    otherwise: () => releaseOperation(locksOf(keys), value),
  });
}

/** Why a hand-over could not call the next in line, if so. */
export function failureIn(handOverReply: unknown): string | undefined {
  return typeof handOverReply === "string" && Number.isNaN(Number(handOverReply))
    ? handOverReply
    : undefined;
}
