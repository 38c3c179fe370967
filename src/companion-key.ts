/**
 * A key beside another, in the same slot of a Cluster; undefined where none is.
 *
 * Source: the Redis Cluster specification, "Hash tags": where a key has braces with something between,
 * the first of it alone decides the slot.
 */
export function companionKey(key: string, suffix: string): string | undefined {
  if (!/[{}]/.test(key)) return `{${key}}${suffix}`;
  return /^[^{]*\{[^}]+\}/.test(key) ? key + suffix : undefined;
}
