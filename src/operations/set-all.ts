/** Lua function that sets all keys or none. */
export const setAll = `
-- Sets every step-th key from first to last, or none if one of them cannot be set.
-- Returns how many, or the error reply.
local function setAll(keys, first, last, step, value, ttlMs)
  for i = first, last, step do
    local reply = redis.pcall('SET', keys[i], value, 'PX', ttlMs)
    if reply.err then
      for j = first, i - 1, step do redis.call('DEL', keys[j]) end
      return reply
    end
  end
  return (last - first + 1) / step
end
`;
