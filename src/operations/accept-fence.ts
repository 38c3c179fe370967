import { type Argument, Operation, type OperationOptions, strangeReply } from "./operation.js";
import { queueReplyIn } from "./queue.js";
import type { OperationScript } from "./script.js";

/**
 * The acceptance of a fencing token, to be called by the scripts that have seen to it that the lock is, or
 * will be, held under `value`. A fence key holds a token and the value that it was accepted under: so a
 * repeat of the same token is told from another's equal one.
 */
export const acceptFence = `
-- keys from first to last: the fences of the lock's resources. value, ttlMs: the lock's. token: as decimals.
-- Stores the token where all fences are below it, or hold it under this value already. Fences live for a
-- day or ten ttls, the longer, after the server's time or the token's, the later; never shorter than before.
-- Returns 'accepted', or else the largest stored token, as decimals: it may be an equal one of another's. Or
-- an error.
local function acceptFence(keys, first, last, value, ttlMs, token)
  local largest = 0
  for i = first, last do
    local stored = valueOf(keys[i])
    if stored and stored ~= token .. ' ' .. value then
      local number = type(stored) == 'string' and
        tonumber(string.sub(stored, 1, (string.find(stored, ' ', 1, true) or 0) - 1))
      if not (number and number < 2 ^ 53 - 1) then
        return redis.error_reply('ERR no larger fencing token below 2^53 can follow what ' .. keys[i] .. ' holds')
      end
      largest = math.max(largest, number)
    end
  end
  local time = redis.call('TIME')
  local aheadMs = math.ceil(token / 1000) - (time[1] * 1000 + math.floor(time[2] / 1000))
  local lifeMs = math.max(86400000, 10 * ttlMs) + math.max(0, aheadMs)
  for i = first, last do
    local leftMs = redis.call('PTTL', keys[i])
    if largest < tonumber(token) then
      redis.call('SET', keys[i], token .. ' ' .. value, 'PX', math.max(lifeMs, leftMs))
    elseif leftMs >= 0 and leftMs < lifeMs then
      redis.call('PEXPIRE', keys[i], lifeMs)
    end
  end
  return largest < tonumber(token) and 'accepted' or string.format('%.0f', largest)
end
`;

/** A fencing token, and where the nodes keep the largest that they accepted. */
export interface Fence {
  /** Whole, and below 2^53. */
  readonly token: number;
  /** One for each key of the lock, in their order. */
  readonly keys: readonly string[];
}

export function fenced(
  script: OperationScript,
  keys: readonly string[],
  value: string,
  ttlMs: number,
  fence: Fence,
  options?: OperationOptions,
): Operation {
  return new Operation(script, [...keys, ...fence.keys], fencedArgs(value, ttlMs, fence), options);
}

/** The token as text: Lua would write 1.7e+15. */
export function fencedArgs(value: string, ttlMs: number, fence: Fence): Argument[] {
  return [value, ttlMs, String(fence.token)];
}

/**
 * What a node that holds the lock answered to a token: that it accepted it, or the one that it has. Undefined
 * where it does not hold the lock.
 */
export function answerIn(reply: unknown): "accepted" | number | undefined {
  if (reply === "accepted") return reply;
  if (queueReplyIn(reply) !== undefined) return undefined;
  const token = typeof reply === "string" ? Number(reply) : reply;
  if (token === 0) return undefined;
  if (typeof token === "number" && Number.isSafeInteger(token) && token > 0) return token;
  throw strangeReply(reply, "accepted, a token or 0");
}
