/**
 * A further key for what a key stands for, in the same slot of a Redis Cluster: one with a hash tag gets
 * the suffix, one without a brace becomes the tag. Undefined for any other, whose slot no further key
 * surely shares.
 *
 * Source: the Redis Cluster specification, "Hash tags": the slot is that of what stands between the first
 * `{` and the first `}` after it, unless that is empty.
 */
export function companionKey(key: string, suffix: string): string | undefined {
  if (/^[^{]*\{[^}]+\}/.test(key)) return key + suffix;
  return /[{}]/.test(key) ? undefined : `{${key}}${suffix}`;
}
