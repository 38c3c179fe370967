import { companionKey } from "./companion-key.js";
import { SHARED } from "./lock-value.js";

/**
 * While readers have a lock, its key holds the marker. Beside it, a sorted set has each reader's value, scored by the time
 * until which it reads, in epoch ms by the node's clock. A waiting reader that was notified is in the set as well, under
 * this prefix and its id, until it comes.
 */
const NOTIFIED = "notified ";

/** Lua functions that the scripts of readers share. They use only commands that the queue needs as well. */
export const readers = `
local SHARED, NOTIFIED = '${SHARED}', '${NOTIFIED}'

-- The node's clock at the first look of a command, in epoch ms. As servers have it since Redis 7.2, no time passes in one.
local commandMs
local function nodeMs()
  if not commandMs then
    local time = redis.call('TIME')
    commandMs = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return commandMs
end

-- The keys of the readers' sets follow all others, one for each lock. Returns them by the places of the locks' keys, which
-- are step apart, and the last place before them.
local function readersIn(keys, first, last, step)
  local middle = first - 1 + (last - first + 1) * step / (step + 1)
  local sets = { step = step, untilMs = {}, isNew = {} }
  for i = first, middle, step do sets[i] = keys[middle + 1 + (i - first) / step] end
  return sets, middle
end

-- Returns when the last of a set's members ends; nil if there is no set.
local function latestOf(set)
  local latest = redis.call('ZRANGE', set, -1, -1, 'WITHSCORES')[2]
  return latest and tonumber(latest)
end

-- Returns until when readers hold the key; nil if they do not. Without its set, the marker is the value of another lock.
local function sharedUntil(key, set)
  return valueOf(key) == SHARED and latestOf(set) or nil
end

-- Returns until when the set has this member; 0 if it has not.
local function untilOf(set, member)
  local rank = redis.call('ZRANK', set, member)
  return rank and tonumber(redis.call('ZRANGE', set, rank, rank, 'WITHSCORES')[2]) or 0
end

local function removeExpired(set)
  while true do
    local member, untilMs = unpack(redis.call('ZRANGE', set, 0, 0, 'WITHSCORES'))
    if not member or tonumber(untilMs) >= nodeMs() then return end
    redis.call('ZREM', set, member)
  end
end

-- Lets the marker and the set live as long as the last of the readers, and no longer.
local function mark(key, set, latestMs)
  -- An expiry of 0 ms would be an error.
  local leftMs = math.max(1, latestMs - nodeMs())
  -- The set first: whoever finds the marker relies on both.
  redis.call('PEXPIRE', set, leftMs)
  redis.call('SET', key, SHARED, 'PX', leftMs)
end

-- Removes members of the set. Returns whether nobody is left, so that the caller has to free the key or pass it on.
local function exit(key, set, ...)
  if valueOf(key) ~= SHARED then return false end
  -- Read first: in a slot that migrates, a script may not look at a set once it has emptied it.
  local count = #redis.call('ZRANGE', set, 0, select('#', ...))
  local gone = redis.call('ZREM', set, ...)
  local areGone = gone > 0
  if gone == count then return areGone end
  local latestMs = latestOf(set)
  if latestMs < nodeMs() then
    redis.call('DEL', set)
    return true
  end
  if areGone and redis.call('PTTL', key) > latestMs - nodeMs() then mark(key, set, latestMs) end
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
