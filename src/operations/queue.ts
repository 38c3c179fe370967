import type { Argument } from "./operation.js";
import { slotsIn } from "./slots.js";

/**
 * Lua functions that the scripts of the queue share. Each lock's queue has two keys: `order`, a sorted set of the
 * waiters' ids by the time of their tickets; and `alive`, a hash with each waiter's entry of its last request. Keys come
 * in threes: lock, order, alive.
 */
export const queue = `
-- A reservation is this marker and a ticket. No lock's value begins like this.
local RESERVED = 'reserved '

local function nodeMs()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Returns the time and the id of the ticket that a value reserves its key for.
local function reservedFor(value)
  if type(value) ~= 'string' or string.sub(value, 1, #RESERVED) ~= RESERVED then return nil end
  local gap = string.find(value, ' ', #RESERVED + 1, true)
  return tonumber(string.sub(value, #RESERVED + 1, gap - 1)), string.sub(value, gap + 1)
end

-- Whether a ticket may take the key: if it is free, or reserved for this ticket or a later one.
local function mayTake(value, time, id)
  if value == false then return true end
  local reservedTime, reservedId = reservedFor(value)
  if not reservedTime then return false end
  return time < reservedTime or time == reservedTime and id <= reservedId
end

local function mayTakeAll(keys, first, last, time, id)
  for i = first, last, 3 do
    if not mayTake(valueOf(keys[i]), time, id) then return false end
  end
  return true
end

local function dequeue(order, alive, id)
  redis.call('ZREM', order, id)
  redis.call('HDEL', alive, id)
end

-- Puts the ticket into the queues of the locks in its way, or renews it there; if none is in its way, into all.
-- A waiter for several locks that were also queued for one it can have would be notified in vain, and two such
-- waiters would hand that lock to each other for ever.
local function enqueue(keys, first, last, isOpen, atMs, time, id, channel, graceMs, lifeMs)
  local entry = cjson.encode({ atMs + lifeMs, tonumber(graceMs), channel })
  for i = first, last, 3 do
    local order, alive = keys[i + 1], keys[i + 2]
    if isOpen or not mayTake(valueOf(keys[i]), tonumber(time), id) then
      redis.call('ZADD', order, time, id)
      redis.call('HSET', alive, id, entry)
      if redis.call('PTTL', alive) < tonumber(lifeMs) then
        redis.call('PEXPIRE', order, lifeMs)
        redis.call('PEXPIRE', alive, lifeMs)
      end
    else
      dequeue(order, alive, id)
    end
  end
end

-- Reserves the key for the first waiter that can be notified, except for one, and removes that waiter from the
-- queue until it asks again: a dead waiter costs the others one grace, not one each turn. Returns whether there is one.
local function reserve(key, order, alive, except)
  local rank, atMs = 0, nil
  while true do
    local id, time = unpack(redis.call('ZRANGE', order, rank, rank, 'WITHSCORES'))
    if not id then return false end
    if id == except then
      rank = rank + 1
    else
      atMs = atMs or nodeMs()
      local untilMs, graceMs, channel = unpack(cjson.decode(redis.call('HGET', alive, id) or '[0]'))
      -- All permits of a resource have one queue, so their waiters must know which one it is.
      local what = string.find(key, ':redlock:permit:', 1, true) and id .. ' ' .. key or id
      local hears = untilMs >= atMs and (channel == '' or redis.call('PUBLISH', channel, what) > 0)
      if hears then redis.call('SET', key, RESERVED .. time .. ' ' .. id, 'PX', graceMs) end
      dequeue(order, alive, id)
      if hears then return true end
    end
  end
end

-- Passes the key on to the next waiter, or deletes it; also where an error kept it from being reserved. Returns that error, or nil.
local function passOn(key, order, alive, except)
  local ok, result = pcall(reserve, key, order, alive, except)
  if not (ok and result) then redis.call('DEL', key) end
  if ok then return nil end
  return type(result) == 'table' and result.err or result
end

-- Passes on the keys that are reserved for this ticket.
local function passOnReserved(keys, first, last, id)
  for i = first, last, 3 do
    local _, reservedId = reservedFor(valueOf(keys[i]))
    if reservedId == id then passOn(keys[i], keys[i + 1], keys[i + 2], id) end
  end
end

-- Returns the queue's reply to a waiter: { whether it may take all keys, in how many ms the locks in its way expire
-- (-1: unknown), the node's time in ms, how many waiters are before it }.
local function lookAt(keys, first, last, atMs, time, id)
  local isOpen, leftMs, rank = 1, 0, 0
  for i = first, last, 3 do
    local value = valueOf(keys[i])
    if not mayTake(value, time, id) then
      isOpen = 0
      local ownMs = reservedFor(value) and -1 or redis.call('PTTL', keys[i])
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
