/**
 * The suffixes of the keys that Redlock stores beside a lock's key. `line` and `alive` are the queue's, `fence` the fencing
 * token's, `health` that of `health()`; `shared` and `permit:<n>` are reserved.
 */
export const COMPANIONS = ["line", "alive", "fence", "shared", "permit:0", "health"] as const;

export type Companion = (typeof COMPANIONS)[number];

const HASH_TAG = /^[^{]*\{[^}]+\}/;
const COMPANION_KEY =
  /^[^{]*\{[^}]+\}(?:.*:)?:redlock:(?:line|alive|fence|shared|permit:\d+|health)$/s;

/**
 * Returns the name of a companion key, which lies in the same slot of a Redis Cluster; undefined if there is none. No two
 * keys share a companion: that of an untagged key has `}` before `:redlock`, that of a tagged key has `:` there.
 *
 * Source: the Redis Cluster specification, "Hash tags": if a key has text between braces, the text between the first pair
 * alone decides the slot.
 */
export function companionKey(key: string, companion: Companion): string | undefined {
  const stem = stemOf(key);
  return stem === undefined ? undefined : stem + companion;
}

/** Returns what all companion keys of a key begin with. */
function stemOf(key: string): string | undefined {
  if (!/[{}]/.test(key)) return `{${key}}:redlock:`;
  return HASH_TAG.test(key) ? `${key}::redlock:` : undefined;
}

/** Returns the keys of the slots of so many permits; undefined if the key can have no companion. */
export function permitKeys(key: string, count: number): string[] | undefined {
  const stem = stemOf(key);
  if (stem === undefined) return undefined;
  const keys: string[] = [];
  for (let slot = 0; slot < count; slot++) keys.push(`${stem}permit:${slot}`);
  return keys;
}

const SLOT_KEY = /^([^{]*\{[^}]+\}(?:.*:)?:redlock:)permit:(\d+)$/s;

/** The parts of a slot's key: what its resource's companion keys begin with, and the number of the slot. */
function slotKeyIn(key: string): readonly string[] {
  // Of all keys, few are those of slots.
  return (key.includes(":redlock:permit:") && SLOT_KEY.exec(key)) || [];
}

/** Returns the keys of a lock's queue; undefined if it can have none. All slots of a resource's permits have one queue. */
export function lineKeys(key: string): readonly [order: string, alive: string] | undefined {
  const [, stem = stemOf(key)] = slotKeyIn(key);
  return stem === undefined ? undefined : [`${stem}line`, `${stem}alive`];
}

/** Returns the number of the permit with this slot key; undefined for the key of another lock. */
export function permitOf(key: string): number | undefined {
  const [, , slot] = slotKeyIn(key);
  return slot === undefined ? undefined : Number(slot);
}

/** Returns the key of the resource whose permit has this slot key; undefined for the key of another lock. */
export function keyOfSlot(key: string): string | undefined {
  const [, stem = ""] = slotKeyIn(key);
  const [, untagged, tagged] = /^(?:\{([^{}]*)\}|(.*):):redlock:$/s.exec(stem) ?? [];
  return untagged ?? tagged;
}

/** Whether a key has the form of a companion key, so that no lock may use it. */
export function isCompanionKey(key: string): boolean {
  return key.includes(":redlock:") && COMPANION_KEY.test(key);
}
