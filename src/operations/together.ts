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

-- By the name of the operations and the number of keys that each has.
local together = { ['acquire 1'] = setTogether, ['release 1'] = deleteTogether, ['handOver 3'] = deleteTogether }
`;
