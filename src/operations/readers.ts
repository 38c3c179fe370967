import { companionKey } from "./companion-key.js";

/**
 * What a lock's key holds while readers have it: a marker, so that `SET NX` and every other library find the key taken.
 * Beside it, a sorted set has each reader's value, scored by the time until which it reads, in epoch ms by the node's
 * clock. A waiting reader that was notified is in the set as well, under this prefix and its id, until it comes.
 */
export const SHARED = "shared";
const NOTIFIED = "notified ";

/** Lua functions that the scripts of readers share. They use only commands that the queue needs as well. */
export const readers = `
local SHARED, NOTIFIED = '${SHARED}', '${NOTIFIED}'

local function nodeMs()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The keys of the readers' sets follow all others, one for each lock. Returns them by the places of the locks' keys, which
-- are step apart, and the last place before them.
local function readersIn(keys, first, last, step)
  local middle = first - 1 + (last - first + 1) * step / (step + 1)
  local sets = { step = step }
  for i = first, middle, step do sets[i] = keys[middle + 1 + (i - first) / step] end
  return sets, middle
end

-- Whether readers hold the key: without its set, the marker is the value of another lock.
local function isShared(key, set)
  return valueOf(key) == SHARED and redis.call('EXISTS', set) == 1
end

-- Returns until when the set has this member; 0 if it has not.
local function untilOf(set, member)
  local rank = redis.call('ZRANK', set, member)
  return rank and tonumber(redis.call('ZRANGE', set, rank, rank, 'WITHSCORES')[2]) or 0
end

-- Returns whether anybody is left.
local function removeExpired(set, atMs)
  while true do
    local member, untilMs = unpack(redis.call('ZRANGE', set, 0, 0, 'WITHSCORES'))
    if not member then return false end
    if tonumber(untilMs) >= atMs then return true end
    redis.call('ZREM', set, member)
  end
end

-- Lets the marker and the set live as long as the last of the readers, and no longer.
local function mark(key, set, atMs)
  local leftMs = redis.call('ZRANGE', set, -1, -1, 'WITHSCORES')[2] - atMs
  -- An expiry of 0 ms would be an error.
  leftMs = math.max(1, leftMs)
  redis.call('SET', key, SHARED, 'PX', leftMs)
  redis.call('PEXPIRE', set, leftMs)
end

-- Removes a member of the set. Returns whether nobody is left, so that the caller has to free the key or pass it on.
local function exit(key, set, member, atMs)
  if not isShared(key, set) then return false end
  redis.call('ZREM', set, member)
  if not removeExpired(set, atMs) then return true end
  mark(key, set, atMs)
  return false
end
`;

/** Returns the keys of the readers' sets. Throws for a key that can have none, which the input checks refuse. */
export function readersKeysOf(keys: readonly string[]): string[] {
  return keys.map((key) => {
    const set = companionKey(key, "shared");
    if (set === undefined) throw new TypeError(`The key ${key} can have no companion key.`);
    return set;
  });
}
