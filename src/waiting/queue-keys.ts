import { lineKeys } from "../operations/companion-key.js";
import type { QueueKeys } from "../operations/queue.js";

/** Returns the keys of locks and of their queues, in threes; undefined if one of the locks can have no queue. */
export function queueKeysOf(keys: readonly string[]): QueueKeys | undefined {
  const all: string[] = [];
  for (const key of keys) {
    const line = lineKeys(key);
    if (line === undefined) return undefined;
    all.push(key, ...line);
  }
  return all;
}

/** The prefix of the channels on which waiters are notified. */
export const CHANNEL_PREFIX = "redlock:";
