// A program that sends the operations of one turn as one command, and does nothing else: no timeouts,
// no validity, no errors, no one who waits. ioredis builds the command again for each node.

import { randomBytes } from "node:crypto";
import type { Redis } from "ioredis";
import type { Locker } from "./locker.js";

/** Keys: those of all operations. Arguments: of each, its value and its ttl; no ttl for a release. */
const SCRIPT = `
local replies = {}
for i, key in ipairs(KEYS) do
  local value, ttlMs = ARGV[2 * i - 1], ARGV[2 * i]
  if ttlMs ~= '' then
    replies[i] = redis.call('SET', key, value, 'NX', 'PX', ttlMs) and 1 or 0
  else
    replies[i] = redis.call('GET', key) == value and redis.call('DEL', key) or 0
  end
end
return replies
`;

interface Operation {
  readonly key: string;
  readonly value: string;
  readonly ttlMs: string;
  votes: number;
  readonly done: () => void;
}

/** Acquires and releases by a loop that coalesces, and does nothing else. A refusal hangs. */
export async function coalescingLoop(clients: readonly Redis[]): Promise<Locker["acquire"]> {
  const quorum = Math.floor(clients.length / 2) + 1;
  const [sha1] = await Promise.all(clients.map((client) => client.script("LOAD", SCRIPT)));
  let waiting: Operation[] = [];

  function flush(): void {
    const operations = waiting;
    waiting = [];
    const keys = operations.map(({ key }) => key);
    const args = operations.flatMap(({ value, ttlMs }) => [value, ttlMs]);
    for (const client of clients) {
      void client.evalsha(String(sha1), keys.length, ...keys, ...args).then((replies) => {
        for (const [index, operation] of operations.entries()) {
          operation.votes += (replies as number[])[index] ?? 0;
          if (operation.votes === quorum) operation.done();
        }
      });
    }
  }

  function ask(key: string, value: string, ttlMs: string): Promise<void> {
    return new Promise((done) => {
      if (waiting.push({ key, value, ttlMs, votes: 0, done }) === 1) process.nextTick(flush);
    });
  }

  return async ([key = ""], ttlMs) => {
    const value = randomBytes(16).toString("hex");
    await ask(key, value, String(ttlMs));
    return {
      extend: () => Promise.reject(new Error("The bare loop does not extend.")),
      release: () => ask(key, value, ""),
    };
  };
}
