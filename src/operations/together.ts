/**
 * Lua functions that do a run of equal operations, on one lock each, with fewer calls within the server than one by one
 * would take. Each puts a reply, as JSON, for every operation after the first `done` ones.
 */
export const together = `
-- Sets the locks that are free. An error of one is the reply of that one alone.
local function setTogether(replies, done, count, first, step, at)
  for i = 1, count do
    local reply = redis.pcall('SET', KEYS[first + i - 1], ARGV[at + 2 * i - 2], 'NX', 'PX', ARGV[at + 2 * i - 1])
    replies[done + i] = not reply and '0' or reply.ok and '1' or cjson.encode({ err = reply.err })
  end
  return true
end

-- Deletes the locks that hold their values, with three calls however many they are. Returns false, with nothing changed,
-- where each must be looked at by itself: somebody waits for one of them, or the server refuses a call.
local function deleteTogether(replies, done, count, first, step, at)
  local locks, orders = {}, {}
  for i = 1, count do
    locks[i], orders[i] = KEYS[first], KEYS[first + 1]
    first = first + step
  end
  if step == 3 and redis.pcall('EXISTS', unpack(orders)) ~= 0 then return false end
  local values, own, owned = redis.pcall('MGET', unpack(locks)), {}, 0
  if values.err then return false end
  for i = 1, count do
    replies[done + i] = '0'
    if values[i] == ARGV[at + i - 1] then
      owned = owned + 1
      own[owned], replies[done + i] = locks[i], '1'
    end
  end
  local deleted = owned == 0 and 0 or redis.pcall('DEL', unpack(own))
  if type(deleted) == 'table' then return false end
  if deleted < owned then
    -- One lock is released twice in this run. The first release deleted it.
    local seen = {}
    for i = 1, count do
      if seen[locks[i]] then replies[done + i] = '0' end
      seen[locks[i]] = seen[locks[i]] or replies[done + i] == '1'
    end
  end
  return true
end

-- By the name of the operations and the number of keys that each has: of one lock.
local together = { ['acquire 1'] = setTogether, ['release 1'] = deleteTogether, ['handOver 3'] = deleteTogether }
`;

/** The same for readers of one lock, by the functions that the operations have: one call of them does it for all. */
export const readersTogether = `
-- Lets the reader in that stays longest, and then the others beside it: the marker lives as long as they do.
local function enterTogether(replies, done, count, first, step, at, argCount)
  local entries, longest, last = {}, at, first + step - 1
  for i = 1, count do
    if KEYS[first + (i - 1) * step] ~= KEYS[first] then return false end
    local own = at + (i - 1) * argCount
    -- Four keys may also be two locks without their queues.
    if step == 4 and ARGV[own + 2] ~= '3' then return false end
    if tonumber(ARGV[own + 1]) > tonumber(ARGV[longest + 1]) then longest = own end
    entries[2 * i - 1], entries[2 * i] = nodeMs() + ARGV[own + 1], ARGV[own]
    replies[done + i] = '1'
  end
  if acquireShared(KEYS, first, last, unpack(ARGV, longest, longest + 2)) ~= 1 then return false end
  -- One that was there already may need a later end.
  return redis.call('ZADD', KEYS[last], 'NX', unpack(entries)) == count - 1
end

-- Ends all of them at once. If that frees the key, it is the last that did it.
local function exitTogether(replies, done, count, first, step, at, argCount)
  -- The arguments of the first, and the values of the others.
  local args = { unpack(ARGV, at, at + argCount - 1) }
  for i = 1, count - 1 do
    if KEYS[first + i * step] ~= KEYS[first] then return false end
    args[argCount + i], replies[done + i] = ARGV[at + i * argCount], '0'
  end
  local exitAll = step == 4 and handOver or releaseShared
  replies[done + count] = cjson.encode(exitAll(KEYS, first, first + step - 1, unpack(args)))
  return true
end

together['acquireShared 2'], together['acquireShared 4'] = enterTogether, enterTogether
together['releaseShared 2'], together['handOver 4'] = exitTogether, exitTogether
`;
