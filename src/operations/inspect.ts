import { operationScript } from "./script.js";
import { Operation } from "./operation.js";

export const inspectScript = operationScript(
  "inspect",
  `
-- Returns for each key its type, its value ('' if it is no string) and its PTTL.
local function inspect(keys, first, last)
  local found = {}
  for i = first, last do
    local kind = redis.call('TYPE', keys[i]).ok
    local value = kind == 'string' and redis.call('GET', keys[i]) or ''
    found[#found + 1] = { kind, value, redis.call('PTTL', keys[i]) }
  end
  return found
end
`,
);

/** What a node stores under one key. */
export interface FoundKey {
  /** The Redis type; `none` if there is no key. */
  readonly type: string;
  /** The text of a string. */
  readonly value: string;
  /** As PTTL in ms: -2 for no key, -1 for no expiry. */
  readonly pttl: number;
}

/** Reads the type, value and PTTL of keys. */
export function inspectOperation(keys: readonly string[]): Operation {
  return new Operation(inspectScript, keys, []);
}

/** Reads the reply to an inspection: one item for each key, in their order; none for any other reply. */
export function foundIn(reply: unknown): FoundKey[] {
  const rows: unknown[] = Array.isArray(reply) ? reply : [];
  return rows.map((row) => {
    const [type, value, pttl] = Array.isArray(row) ? (row as unknown[]) : [];
    return { type: String(type), value: String(value), pttl: Number(pttl) };
  });
}
