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
  if (!/[{}]/.test(key)) return `{${key}}:redlock:${companion}`;
  return HASH_TAG.test(key) ? `${key}::redlock:${companion}` : undefined;
}

/** Returns the key of a permit's slot; undefined if the key can have no companion. */
export function permitKey(key: string, slot: number): string | undefined {
  return companionKey(key, "permit:0")?.replace(/0$/, String(slot));
}

const SLOT = /redlock:permit:(\d+)$/;

/** Returns the companion of the resource whose permit has this slot key; undefined for the key of another lock. */
export function companionOfSlot(key: string, companion: Companion): string | undefined {
  return isCompanionKey(key) && SLOT.test(key)
    ? key.replace(SLOT, `redlock:${companion}`)
    : undefined;
}

/** Returns the number of the permit with this slot key; undefined for the key of another lock. */
export function permitOf(key: string): number | undefined {
  const [, slot] = (isCompanionKey(key) && SLOT.exec(key)) || [];
  return slot === undefined ? undefined : Number(slot);
}

/** Whether a key has the form of a companion key, so that no lock may use it. */
export function isCompanionKey(key: string): boolean {
  return key.includes(":redlock:") && COMPANION_KEY.test(key);
}
