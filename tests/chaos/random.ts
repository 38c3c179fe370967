/** At least 0 and below 1. */
export type Random = () => number;

/** The same numbers for the same seed and purpose (mulberry32, begun with an FNV-1a hash of both). */
export function seeded(seed: number, purpose: string): Random {
  let state = 2_166_136_261;
  for (const character of `${seed}/${purpose}`) {
    state = Math.imul(state ^ character.charCodeAt(0), 16_777_619);
  }
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A whole number from `least` to `most`, both included. */
export function between(random: Random, least: number, most: number): number {
  return least + Math.floor(random() * (most - least + 1));
}

export function oneOf<T>(random: Random, items: readonly [T, ...T[]]): T {
  return items[between(random, 0, items.length - 1)] ?? items[0];
}

/** `count` of the items, in random order. */
export function someOf<T>(random: Random, items: readonly T[], count: number): T[] {
  return items
    .map((item) => ({ item, rank: random() }))
    .sort((a, b) => a.rank - b.rank)
    .slice(0, count)
    .map(({ item }) => item);
}

/** One of the keys, as often as its weight says. */
export function weighted<K extends string>(random: Random, weights: Record<K, number>): K {
  const keys = Object.keys(weights) as [K, ...K[]];
  let left = random() * keys.reduce((sum, key) => sum + weights[key], 0);
  for (const key of keys) {
    left -= weights[key];
    if (left < 0) return key;
  }
  return keys[0];
}
