import { queue } from "./queue.js";
import { readers, readersKeysOf } from "./readers.js";
import { releaseSharedOperation } from "./shared.js";
import { operationScript, withShortcut } from "./script.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";
import { locksOf, type QueueKeys } from "./queue.js";
import { releaseOperation } from "./release.js";

/** Hands the keys that this lock still holds over to the next waiter. At no moment is a key free. */
export const handOverScript = withShortcut(
  operationScript(
    "handOver",
    `
-- value: the lock's. reads: as in join; then the last reader hands over. More readers of the same locks may follow.
-- Returns the number of locks released or, if the next waiter could not be notified, the error.
local function handOver(keys, first, last, value, reads, ...)
  local sets
  if reads then sets, last = readersIn(keys, first, last, 3) end
  local released, failure = 0, nil
  for i = first, last, 3 do
    local isFree = not sets and valueOf(keys[i]) == value
    if isFree or sets and exit(keys[i], sets[i], value, ...) then
      -- Mostly nobody waits. An error here means that the queue must be looked at with care.
      if redis.pcall('EXISTS', keys[i + 1]) == 0 then
        redis.call('DEL', keys[i])
      else
        failure = passOn(keys[i], keys[i + 1], keys[i + 2], '') or failure
      end
      released = released + 1
    end
  end
  return failure or released
end
`,
    [valueOf, readers, queue],
  ),
  `
-- The shortcut for one lock without waiters. A table is an error, which the full script handles.
if #KEYS == 3 and redis.pcall('EXISTS', KEYS[2]) == 0 then
  local value = redis.pcall('GET', KEYS[1])
  if value == ARGV[1] then return redis.call('DEL', KEYS[1]) end
  if type(value) ~= 'table' then return 0 end
end
`,
);

/** Hands over to the next waiter. */
export function handOverOperation(keys: QueueKeys, value: string, reads: boolean): Operation {
  if (reads) {
    const locks = locksOf(keys);
    return new Operation(handOverScript, [...keys, ...readersKeysOf(locks)], [value, 1], {
      resendUndecided: true,
      otherwise: () => releaseSharedOperation(locks, value),
    });
  }
  return new Operation(handOverScript, keys, [value], {
    resendUndecided: true,
    otherwise: () => releaseOperation(locksOf(keys), value),
  });
}

/** Returns why a hand-over could not notify the next waiter; undefined if it could, or nobody waits. */
export function failureIn(handOverReply: unknown): string | undefined {
  return typeof handOverReply === "string" && Number.isNaN(Number(handOverReply))
    ? handOverReply
    : undefined;
}
