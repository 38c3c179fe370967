import { lineKeys } from "../operations/companion-key.js";
import type { QueueKeys } from "../operations/queue.js";

/** Returns the keys of locks and of their queues, in threes; undefined if one of the locks can have no queue. */
export function queueKeysOf(keys: readonly string[]): QueueKeys | undefined {
  let all: string[] | undefined;
  for (const key of keys) {
    const line = lineKeys(key);
    if (line === undefined) return undefined;
    const [order, alive] = line;
    // Mostly there is one lock. To push its keys onto an empty array would reserve room for seventeen.
    if (all === undefined) all = [key, order, alive];
    else all.push(key, order, alive);
  }
  return all ?? [];
}

/** The prefix of the channels on which waiters are notified. */
export const CHANNEL_PREFIX = "redlock:";
