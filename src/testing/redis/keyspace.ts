import { ReplyError } from "./reply.js";

export interface Member {
  readonly member: string;
  readonly score: number;
}

/** Never changed, but replaced. */
export interface Entry {
  readonly type: "string" | "zset" | "hash";
  /** Empty where it is no string. */
  readonly value: string;
  /** Of a sorted set, in its order. */
  readonly members: readonly Member[];
  /** Of a hash. */
  readonly fields?: ReadonlyMap<string, string>;
  /** By the server's clock; Infinity where the key has no expiry. */
  readonly expiresAtMs: number;
}

/** The keys of a server, and its clock. */
export class Keyspace {
  /** The time of the command that is executed, by the server's clock in whole ms. */
  nowMs = 0;
  readonly #entries = new Map<string, Entry>();

  /** What the key holds at this moment, by the server's clock in whole ms. */
  peek(key: string, nowMs: number): Entry | undefined {
    const entry = this.#entries.get(key);
    // Source: Redis, keyIsExpired: a key is expired when now > when.
    return entry === undefined || nowMs > entry.expiresAtMs ? undefined : entry;
  }

  keys(nowMs: number): string[] {
    return [...this.#entries.keys()].filter((key) => this.peek(key, nowMs) !== undefined);
  }

  get(key: string): Entry | undefined {
    return this.peek(key, this.nowMs);
  }

  /** Throws a ReplyError where the key holds another type. */
  typed(key: string, type: Entry["type"]): Entry | undefined {
    const entry = this.get(key);
    if (entry === undefined || entry.type === type) return entry;
    throw new ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value");
  }

  set(key: string, entry: Entry): void {
    this.#entries.set(key, entry);
  }

  /** Gives whether the key was there. */
  delete(key: string): boolean {
    return this.get(key) !== undefined && this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }

  /** Takes over the keys of another server. */
  copyFrom(other: Keyspace): void {
    for (const [key, entry] of other.#entries) this.#entries.set(key, entry);
  }
}
