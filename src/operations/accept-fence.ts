import { type Argument, Operation, type OperationOptions, strangeReply } from "./operation.js";
import { queueReplyIn } from "./queue.js";
import type { OperationScript } from "./script.js";

/**
 * Lua function that accepts a fencing token. A script calls it only if `value` holds the lock, or is about to. A fence
 * key stores the token with the value under which it was accepted, which tells a repeated proposal from an equal token
 * of another lock.
 */
export const acceptFence = `
-- keys from first to last: the fences of the lock's resources. value, ttlMs: the lock's. token: as decimals.
-- Stores the token if every fence is below it, or holds it under this value already. A fence lives for a day or
-- ten ttls, whichever is longer, after the server's time or the token's, whichever is later; never shorter than before.
-- Returns 'accepted'; or the largest stored token, as decimals, which may be an equal one of another lock; or an error.
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

/** A fencing token, and the keys under which the nodes store the largest token that they accepted. */
export interface Fence {
  /** An integer below 2^53. */
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

/** The token is text, since Lua would print the number as 1.7e+15. */
export function fencedArgs(value: string, ttlMs: number, fence: Fence): Argument[] {
  return [value, ttlMs, String(fence.token)];
}

/**
 * Reads a node's reply to a proposed token: that it accepted it, or the larger one that it stores. Undefined if the node
 * does not hold the lock.
 */
export function answerIn(reply: unknown): "accepted" | number | undefined {
  if (reply === "accepted") return reply;
  if (queueReplyIn(reply) !== undefined) return undefined;
  const token = typeof reply === "string" ? Number(reply) : reply;
  if (token === 0) return undefined;
  if (typeof token === "number" && Number.isSafeInteger(token) && token > 0) return token;
  throw strangeReply(reply, "accepted, a token or 0");
}
