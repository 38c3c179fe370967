import type { Argument } from "./operation.js";
import { slotsIn } from "./slots.js";

/**
 * Lua functions that the scripts of the queue share. Each lock's queue has two keys: `order`, a sorted set of the
 * waiters' ids by the time of their tickets; and `alive`, a hash with each waiter's entry of its last request. Keys come
 * in threes: lock, order, alive. A reader's scripts get the keys of the readers' sets as well, as the table \`sets\`.
 */
export const queue = `
-- A reservation is this marker and a ticket. No lock's value begins like this.
local RESERVED = 'reserved '

-- Returns the time and the id of the ticket that a value reserves its key for.
local function reservedFor(value)
  if type(value) ~= 'string' or string.sub(value, 1, #RESERVED) ~= RESERVED then return nil end
  local gap = string.find(value, ' ', #RESERVED + 1, true)
  return tonumber(string.sub(value, #RESERVED + 1, gap - 1)), string.sub(value, gap + 1)
end

-- Whether a writer with an earlier ticket waits. A writer that has stopped renewing its entry does not count.
local function isWriterBefore(order, alive, time, id)
  local atMs, rank = nodeMs(), 0
  while true do
    local other, otherTime = unpack(redis.call('ZRANGE', order, rank, rank, 'WITHSCORES'))
    if not other then return false end
    otherTime = tonumber(otherTime)
    if otherTime > time or otherTime == time and other >= id then return false end
    local untilMs, _, _, reads = unpack(cjson.decode(redis.call('HGET', alive, other) or '[0]'))
    if untilMs >= atMs and not reads then return true end
    rank = rank + 1
  end
end

-- Returns the readers that were notified together, with this reservation, without one of them: the reservation, then
-- each id with the end of its grace. Nil if there is no such group.
local function groupOf(alive, reservation, except, atMs)
  local all = cjson.decode(redis.call('HGET', alive, 'group') or '[0]')
  if all[1] ~= reservation then return nil end
  local group = { reservation }
  for j = 2, #all, 2 do
    if all[j] ~= except and all[j + 1] >= atMs then
      group[#group + 1] = all[j]
      group[#group + 1] = all[j + 1]
    end
  end
  return group
end

-- Whether a reader was notified together with others, for whom the key is reserved.
local function isInGroup(alive, reservation, id)
  for _, other in ipairs(groupOf(alive, reservation, nil, 0) or {}) do
    if other == id then return true end
  end
  return false
end

-- Whether a ticket may take the key: if it is free, or reserved for this ticket or a later one. A reader may also join
-- others, but it passes no writer.
local function mayTake(keys, i, time, id, sets)
  local value = valueOf(keys[i])
  if sets then
    if sets.step == 3 then
      -- A queue that cannot be read stops nobody.
      local ok, waits = pcall(isWriterBefore, keys[i + 1], keys[i + 2], time, id)
      if ok and waits then return false end
    end
    if value == SHARED then
      sets.untilMs[i] = latestOf(sets[i])
      return sets.untilMs[i] ~= nil
    end
  end
  if value == false then return true end
  local reservedTime, reservedId = reservedFor(value)
  if not reservedTime then return false end
  if time < reservedTime or time == reservedTime and id <= reservedId then return true end
  if not sets or sets.step ~= 3 then return false end
  local ok, isIn = pcall(isInGroup, keys[i + 2], value, id)
  return ok and isIn
end

local function mayTakeAll(keys, first, last, time, id, sets)
  for i = first, last, sets and sets.step or 3 do
    if not mayTake(keys, i, time, id, sets) then return false end
  end
  return true
end

local function dequeue(order, alive, id)
  redis.call('ZREM', order, id)
  redis.call('HDEL', alive, id)
end

-- Calls a command that may make the key, which then lives for at least lifeMs. Where PEXPIRE is refused, no key stays. The
-- command comes first: a server above its maxmemory refuses it only to a script that has not written.
local function store(key, lifeMs, ...)
  local leftMs = redis.call('PTTL', key)
  redis.call(...)
  if leftMs >= lifeMs then return end
  local reply = redis.pcall('PEXPIRE', key, lifeMs)
  if type(reply) ~= 'table' then return end
  if leftMs == -2 then redis.call('DEL', key) end
  redis.call('PEXPIRE', key, lifeMs)
end

-- Puts the ticket into the queues of the locks in its way, or renews it there; if none is in its way, into all.
-- A waiter for several locks that were also queued for one it can have would be notified in vain, and two such
-- waiters would hand that lock to each other for ever.
local function enqueue(keys, first, last, isOpen, atMs, time, id, channel, graceMs, lifeMs, sets)
  local entry = cjson.encode({ atMs + lifeMs, tonumber(graceMs), channel, sets and 1 })
  for i = first, last, 3 do
    local order, alive = keys[i + 1], keys[i + 2]
    if isOpen or not mayTake(keys, i, tonumber(time), id, sets) then
      lifeMs = tonumber(lifeMs)
      -- One may be there without the other: each gets its expiry before the next command could fail.
      store(alive, lifeMs, 'HSET', alive, id, entry)
      store(order, lifeMs, 'ZADD', order, time, id)
    else
      dequeue(order, alive, id)
    end
  end
end

-- Reserves the key for the first waiter that can be notified, except for one, and removes that waiter from the
-- queue until it asks again: a dead waiter costs the others one grace, not one each turn. If it is a reader, notifies all
-- readers up to the next writer, reserves the key for the first of them, and keeps who the group is: all may come in, and
-- the key is not passed on before they have. Returns whether there is one.
local function reserve(key, order, alive, except)
  local rank, atMs, longestMs, group, isOfReaders = 0, nil, 0, {}, false
  while true do
    local id, time = unpack(redis.call('ZRANGE', order, rank, rank, 'WITHSCORES'))
    if not id then break end
    if id == except then
      rank = rank + 1
    else
      atMs = atMs or nodeMs()
      local untilMs, graceMs, channel, reads = unpack(cjson.decode(redis.call('HGET', alive, id) or '[0]'))
      local isAlive = untilMs >= atMs
      if group[1] and isAlive and not reads then break end
      -- All permits of a resource have one queue, so their waiters must know which one it is.
      local what = string.find(key, ':redlock:permit:', 1, true) and id .. ' ' .. key or id
      local hears = isAlive and (channel == '' or redis.call('PUBLISH', channel, what) > 0)
      if hears then
        longestMs = math.max(longestMs, graceMs)
        group[1] = group[1] or RESERVED .. time .. ' ' .. id
        redis.call('SET', key, group[1], 'PX', longestMs)
        group[#group + 1] = id
        group[#group + 1] = atMs + graceMs
      end
      dequeue(order, alive, id)
      isOfReaders = isOfReaders or hears and reads
      if hears and not reads then break end
    end
  end
  if isOfReaders then
    redis.call('HSET', alive, 'group', cjson.encode(group))
    if redis.call('PTTL', alive) < longestMs then redis.call('PEXPIRE', alive, longestMs) end
  end
  return group[1] ~= nil
end

-- Lets a reader in for at least ttlMs: as the first, with whoever was notified together with it, or beside others, who
-- were found to hold the key. id: of a waiter.
local function enter(keys, i, sets, value, ttlMs, id)
  local key, set, latestMs = keys[i], sets[i], sets.untilMs[i]
  if not latestMs then
    -- Left over from readers whose marker was lost.
    redis.call('DEL', set)
    local ok, group = false, nil
    if id then ok, group = pcall(groupOf, keys[i + 2], valueOf(key), id, nodeMs()) end
    for j = 2, ok and group and #group or 0, 2 do
      redis.call('ZADD', set, group[j + 1], NOTIFIED .. group[j])
    end
  end
  local untilMs = nodeMs() + ttlMs
  sets.isNew[i] = redis.call('ZADD', set, 'NX', untilMs, value) == 1
  if not sets.isNew[i] then
    untilMs = math.max(untilMs, untilOf(set, value))
    redis.call('ZADD', set, untilMs, value)
  end
  local hadNotice = id and redis.call('ZREM', set, NOTIFIED .. id) == 1
  -- An entry that failed halfway may have left a reader in the set for longer than the marker.
  if not latestMs or untilMs > latestMs or hadNotice or redis.call('PTTL', key) < untilMs - nodeMs() then
    mark(key, set, latestOf(set))
    removeExpired(set)
  end
end

-- Lets a reader into all or none. Returns the number of locks, or the error reply. Where it was in before, it stays in:
-- until its old end it relies on the lock.
local function enterAll(keys, first, last, sets, value, ttlMs, id)
  for i = first, last, sets.step do
    local ok, failure = pcall(enter, keys, i, sets, value, ttlMs, id)
    if not ok then
      for j = first, i, sets.step do
        local left, isLast = false, false
        if sets.isNew[j] then left, isLast = pcall(exit, keys[j], sets[j], value) end
        if left and isLast then redis.call('DEL', keys[j]) end
        -- Without a marker, the set may have no expiry yet.
        if valueOf(keys[j]) ~= SHARED then redis.call('DEL', sets[j]) end
      end
      return type(failure) == 'table' and failure or redis.error_reply(failure)
    end
  end
  return (last - first + 1) / sets.step
end

-- Passes the key on to the next waiter, or deletes it; also where an error kept it from being reserved. Returns that error, or nil.
local function passOn(key, order, alive, except)
  local ok, result = pcall(reserve, key, order, alive, except)
  if not (ok and result) then redis.call('DEL', key) end
  if ok then return nil end
  return type(result) == 'table' and result.err or result
end

-- Takes back what is reserved for this ticket. Returns whether the caller has to free the key or pass it on.
local function takeBack(keys, i, id, sets)
  local value = valueOf(keys[i])
  if sets and value == SHARED then return exit(keys[i], sets[i], NOTIFIED .. id) end
  local _, reservedId = reservedFor(value)
  local ok, group = false, nil
  if sets and reservedId then ok, group = pcall(groupOf, keys[i + 2], value, id, nodeMs()) end
  if not (ok and group) then return reservedId == id end
  redis.call('HSET', keys[i + 2], 'group', cjson.encode(group))
  return #group == 1
end

-- Passes on the keys that are reserved for this ticket.
local function passOnReserved(keys, first, last, id, sets)
  for i = first, last, 3 do
    if takeBack(keys, i, id, sets) then passOn(keys[i], keys[i + 1], keys[i + 2], id) end
  end
end

-- Returns the queue's reply to a waiter: { whether it may take all keys, in how many ms the locks in its way expire
-- (-1: unknown), the node's time in ms, how many waiters are before it }.
local function lookAt(keys, first, last, atMs, time, id, sets)
  local isOpen, leftMs, rank = 1, 0, 0
  for i = first, last, 3 do
    if not mayTake(keys, i, time, id, sets) then
      isOpen = 0
      local ownMs = reservedFor(valueOf(keys[i])) and -1 or redis.call('PTTL', keys[i])
      leftMs = (ownMs < 0 or leftMs < 0) and -1 or math.max(leftMs, ownMs)
    end
    local before = redis.pcall('ZRANK', keys[i + 1], id)
    if type(before) == 'number' then rank = math.max(rank, before) end
  end
  return { isOpen, leftMs, atMs, rank }
end
`;

/** The keys of locks and of their queues, in threes: lock, order, alive. */
export type QueueKeys = readonly string[];

/** A waiter's entry in the queue. */
export interface QueueEntry {
  /** The time of its ticket by the nodes' clocks, in epoch ms. */
  readonly ticketMs: number;
  readonly id: string;
  /** The channel on which it is notified; empty if it polls. */
  readonly channel: string;
  /** How long the key stays reserved for it when it is next, in ms. */
  readonly graceMs: number;
  /** How long the entry lasts without being renewed, in ms. */
  readonly lifeMs: number;
}

/** A node's reply to a waiter. */
export interface QueueReply {
  /** Whether the waiter may take all keys. */
  readonly isOpen: boolean;
  /** In how many ms the locks in its way expire; undefined if unknown. */
  readonly leftMs: number | undefined;
  /** The node's clock, in epoch ms. */
  readonly nodeMs: number;
  /** How many waiters are before it. */
  readonly rank: number;
  /** Of a waiter for a permit: in how many ms each slot is free; 0 if it may take it, -1 if that is unknown. */
  readonly slots?: readonly number[] | undefined;
}

/** Reads the reply to a join or a refused take; undefined for the reply to another operation. */
export function queueReplyIn(reply: unknown): QueueReply | undefined {
  if (!Array.isArray(reply)) return undefined;
  const [isOpen = 0, leftMs = -1, nodeMs = 0, rank = 0] = reply.map(Number);
  const slots = slotsIn(reply);
  return { isOpen: isOpen === 1, leftMs: leftMs < 0 ? undefined : leftMs, nodeMs, rank, slots };
}

const RESERVED = /^reserved \S+ (.+)$/;

/** Returns the id of the waiter for whom this value reserves its key; undefined for any other value. */
export function reservedFor(value: string): string | undefined {
  return RESERVED.exec(value)?.[1];
}

export function argsOf({ ticketMs, id, channel, graceMs, lifeMs }: QueueEntry): Argument[] {
  return [ticketMs, id, channel, graceMs, lifeMs];
}

export function locksOf(keys: QueueKeys): string[] {
  return keys.filter((_, index) => index % 3 === 0);
}
