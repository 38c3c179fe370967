import type { Redis } from "ioredis";
import { isReply } from "../clients/connection.js";
import { isCompanionKey, keyOfSlot, permitOf } from "../operations/companion-key.js";
import { SHARED } from "../operations/lock-value.js";
import { LONGEST_TIMER_MS } from "./duration.js";
import { LEAST_PERMITS, MOST_PERMITS } from "./permits.js";

/** For each look and node: at most so many commands, each for about so many keys. */
const SCANS_PER_LOOK = 10;
const KEYS_PER_SCAN = 500;
/** What a lock of this library holds, or of node-redlock: random digits, and perhaps its owner. */
const LOCK_VALUE = /^[0-9a-f]{32,40}(?: [!-~]{1,200})?$/;
const LONGEST_VALUE = 241;

/** The name of a lock that was found, or a taken permit of it. */
interface Found {
  readonly name: string;
  readonly permit: number | undefined;
}

/** What stands under a prefix. */
export interface FoundLocks {
  /** The names of locks that one holder or readers have, in the order of the alphabet. */
  readonly names: readonly string[];
  /** The names with permits, and how many permits they have at the least. */
  readonly limited: ReadonlyMap<string, number>;
}

/** The part of a node's keys that was read. */
interface Pass {
  readonly client: Redis;
  cursor: string;
  /** What this pass has found so far, and what the one before found. */
  found: Map<string, Found>;
  before: Map<string, Found>;
  /** Whether there is nothing more to read: all its keys were read, or it cannot be read. */
  isDone: boolean;
  /** Why the node refused to be read. */
  refusal: string | null;
}

/** Finds the locks whose names begin with a prefix, by SCAN: a bounded part of each node's keys at each look. */
export class LockScan {
  readonly #keyPrefix: string;
  readonly #prefix: string;
  readonly #passes: readonly Pass[];

  private constructor(keyPrefix: string, prefix: string, clients: readonly Redis[]) {
    this.#keyPrefix = keyPrefix;
    this.#prefix = prefix;
    this.#passes = clients.map((client) => ({
      client,
      cursor: "0",
      found: new Map(),
      before: new Map(),
      isDone: false,
      refusal: null,
    }));
  }

  /** Connects to the nodes: the library has no call that reads keys which it does not know. */
  static async open(
    urls: readonly string[],
    keyPrefix: string,
    prefix: string,
    timeoutMs: number,
  ): Promise<LockScan> {
    const { Redis } = await import("ioredis");
    const clients = urls.map((url) => {
      const own = {
        maxRetriesPerRequest: 0,
        connectTimeout: 1000,
        commandTimeout: Math.min(timeoutMs, LONGEST_TIMER_MS),
      };
      // As the library's own connections.
      const client = new Redis(new URL(url).href, { ...own, retryStrategy: () => 500 });
      return client.on("error", () => undefined);
    });
    return new LockScan(keyPrefix, prefix, clients);
  }

  /** Reads on, on every node. */
  async look(): Promise<void> {
    await Promise.all(this.#passes.map((pass) => this.#continue(pass)));
  }

  get locks(): FoundLocks {
    const all = this.#passes.flatMap(({ found, before }) => [
      ...found.values(),
      ...before.values(),
    ]);
    const names = new Set<string>();
    const limited = new Map<string, number>();
    for (const { name, permit } of all) {
      if (permit === undefined) names.add(name);
      else limited.set(name, Math.max(LEAST_PERMITS, permit + 1, limited.get(name) ?? 0));
    }
    return { names: [...names].sort(), limited };
  }

  /** How far it is, for a reader. */
  get state(): {
    readonly prefix: string;
    readonly complete: boolean;
    readonly error: string | null;
  } {
    const refused = this.#passes.find(({ refusal }) => refusal !== null);
    const complete = this.#passes.every(({ isDone }) => isDone);
    return { prefix: this.#prefix, complete, error: refused?.refusal ?? null };
  }

  close(): void {
    for (const { client } of this.#passes) client.disconnect();
  }

  async #continue(pass: Pass): Promise<void> {
    try {
      for (let count = 0; count < SCANS_PER_LOOK; count++) {
        await this.#scan(pass);
        if (pass.cursor === "0") break;
      }
      pass.refusal = null;
    } catch (error) {
      pass.isDone = true;
      if (isReply(error)) pass.refusal = error.message;
      // Commands must not pile up for a node that does not reply. Why it does not stands in the list of the nodes.
      else pass.client.disconnect(true);
    }
  }

  async #scan(pass: Pass): Promise<void> {
    const { client } = pass;
    // The keys of permits begin with a brace.
    const pattern = `*${(this.#keyPrefix + this.#prefix).replace(/[\\*?[\]^]/g, "\\$&")}*`;
    const [cursor, keys] = await client.scan(pass.cursor, "MATCH", pattern, "COUNT", KEYS_PER_SCAN);
    const own = keys.flatMap((key) => {
      const lock = this.#lockOf(key);
      return lock === undefined ? [] : [{ key, lock }];
    });
    // Of other data, which may be long, only the beginning.
    const reading = client.pipeline(own.map(({ key }) => ["getrange", key, 0, LONGEST_VALUE]));
    const values = (own.length === 0 ? null : await reading.exec()) ?? [];
    for (const [index, [, value]] of values.entries()) {
      const read = own[index];
      if (read !== undefined && isLockValue(value)) pass.found.set(read.key, read.lock);
    }
    pass.cursor = cursor;
    if (cursor !== "0") return;
    pass.before = pass.found;
    pass.found = new Map();
    pass.isDone = true;
  }

  /** Returns the lock that may be under a key; undefined if its name does not begin with the prefix. */
  #lockOf(key: string): Found | undefined {
    const permit = permitOf(key);
    const lockKey = permit === undefined ? key : (keyOfSlot(key) ?? "");
    // No lock has such a key, whoever made it.
    if (isCompanionKey(lockKey) || (permit ?? 0) >= MOST_PERMITS) return undefined;
    const isOwn = lockKey.startsWith(this.#keyPrefix + this.#prefix);
    const name = isOwn ? lockKey.slice(this.#keyPrefix.length) : "";
    return name === "" ? undefined : { name, permit };
  }
}

function isLockValue(value: unknown): boolean {
  return typeof value === "string" && (LOCK_VALUE.test(value) || value === SHARED);
}
