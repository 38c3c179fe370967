import { companionKey } from "../operations/companion-key.js";
import type { QueueKeys } from "../operations/queue.js";

/** The keys of locks and of their lines, in threes; undefined where one of them can have no line. */
export function lineKeysOf(keys: readonly string[]): QueueKeys | undefined {
  const all: string[] = [];
  for (const key of keys) {
    const order = companionKey(key, "line");
    const alive = companionKey(key, "alive");
    if (order === undefined || alive === undefined) return undefined;
    all.push(key, order, alive);
  }
  return all;
}

/** What the channels begin with by which waiters are called. */
export const CHANNEL_PREFIX = "redlock:";

const RESERVED = /^reserved \S+ (.+)$/;

/** The id of the waiter for whom a key that holds this value is reserved. */
export function reservedFor(value: string): string | undefined {
  return RESERVED.exec(value)?.[1];
}
