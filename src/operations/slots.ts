/**
 * Lua function that the scripts of permits share. Each permit is a lock of its own, under the key of its slot. The waiters for
 * all of them have one queue. Keys: order, alive, then one for each slot.
 */
export const survey = `
-- Returns the queue's reply to a waiter, about any slot instead of all locks; and, separated by commas, for each slot in
-- how many ms it is free: 0 if the ticket may take it, -1 if that is unknown.
local function survey(keys, first, last, atMs, time, id)
  local isOpen, leftMs, states = 0, -1, {}
  for i = first + 2, last do
    local ownMs = 0
    if mayTake(keys, i, time, id) then
      isOpen = 1
    else
      ownMs = reservedFor(valueOf(keys[i])) and -1 or redis.call('PTTL', keys[i])
      if ownMs == 0 then ownMs = 1 end
      if ownMs > 0 and (leftMs < 0 or ownMs < leftMs) then leftMs = ownMs end
    end
    states[#states + 1] = ownMs
  end
  local rank = redis.pcall('ZRANK', keys[first], id)
  return { isOpen, isOpen == 1 and 0 or leftMs, atMs, type(rank) == 'number' and rank or 0, table.concat(states, ',') }
end
`;

/** Order, alive, then one key for each slot. */
export type SlotKeys = readonly string[];

/** Reads in how many ms each slot is free, from a reply to a waiter for permits; undefined for any other reply. */
export function slotsIn(reply: unknown): number[] | undefined {
  const states: unknown = Array.isArray(reply) ? reply[4] : undefined;
  return typeof states === "string" ? states.split(",").map(Number) : undefined;
}
