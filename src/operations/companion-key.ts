/** What the keys beside a lock's key are for; `shared` and `permit:<n>` are not used yet. */
export const COMPANIONS = ["line", "alive", "fence", "shared", "permit:0", "health"] as const;

export type Companion = (typeof COMPANIONS)[number];

const HASH_TAG = /^[^{]*\{[^}]+\}/;
const COMPANION_KEY =
  /^[^{]*\{[^}]+\}(?:.*:)?:redlock:(?:line|alive|fence|shared|permit:\d+|health)$/s;

/**
 * Names a key beside another, in the same slot of a Cluster; undefined where none is.
 * No two keys share one: an untagged key's has `}` before `:redlock`, a tagged key's has `:` there.
 *
 * Source: the Redis Cluster specification, "Hash tags": where a key has braces with something between,
 * the first of it alone decides the slot.
 */
export function companionKey(key: string, companion: Companion): string | undefined {
  if (!/[{}]/.test(key)) return `{${key}}:redlock:${companion}`;
  return HASH_TAG.test(key) ? `${key}::redlock:${companion}` : undefined;
}

/** Whether a key may stand beside another, so that no lock can have it. */
export function isCompanionKey(key: string): boolean {
  return key.includes(":redlock:") && COMPANION_KEY.test(key);
}
