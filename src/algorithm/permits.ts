import { invalidType, isHeld, outOfRange } from "../errors.js";
import { permitKey } from "../operations/companion-key.js";
import { surveyOperation } from "../operations/join-permits.js";
import { queueReplyIn } from "../operations/queue.js";
import type { SlotKeys } from "../operations/slots.js";
import { quorumOf, Round } from "../quorum/round.js";
import { queueKeysOf } from "../waiting/queue-keys.js";
import { placesOf, type Place } from "../waiting/schedule.js";
import type { Acquisition } from "./call.js";

/** In all keys of the slots together, as of the resources of one lock. */
const MOST_CHARACTERS = 100_000;
/** So many resources are remembered with the slots that this process had last. */
const MOST_REMEMBERED = 1000;
/** A call attempts so many free slots before it waits. */
const MOST_TRIES = 10;

/** The slots that this process released last, for each resource: probably they are free still. */
export class LastSlots {
  readonly #slots = new Map<string, number[]>();

  push(slotKey: string, slot: number): void {
    const name = nameOf(slotKey);
    const slots = this.#slots.get(name) ?? [];
    this.#slots.delete(name);
    this.#slots.set(name, [...slots.filter((other) => other !== slot), slot]);
    if (this.#slots.size <= MOST_REMEMBERED) return;
    for (const [oldest] of this.#slots) {
      this.#slots.delete(oldest);
      break;
    }
  }

  pop(slotKey: string): number | undefined {
    return this.#slots.get(nameOf(slotKey))?.pop();
  }
}

function nameOf(slotKey: string): string {
  return slotKey.slice(0, slotKey.lastIndexOf(":"));
}

/** The slots of a resource's permits, and which of them a call attempts next. Each slot is a lock of its own. */
export class Permits {
  /** The key of each slot. */
  readonly keys: readonly string[];
  /** The keys of the queue, then those of the slots. */
  readonly slotKeys: SlotKeys;
  readonly #last: LastSlots;
  readonly #random: () => number;
  /** The slots that nodes reserved for this call since its last attempt, each with how many nodes did. */
  #named = new Map<number, number>();
  #next: number | undefined;

  constructor(keys: readonly string[], last: LastSlots, random: () => number) {
    const [, order = "", alive = ""] = queueKeysOf(keys.slice(0, 1)) ?? [];
    this.keys = keys;
    this.slotKeys = [order, alive, ...keys];
    this.#last = last;
    this.#random = random;
  }

  /** Returns the slot to attempt: one that nodes reserved for the call, one that should be free, or a random one. */
  choose(): number {
    const [first] = [...this.#named].sort(([, a], [, b]) => b - a);
    const slot = first?.[0] ?? this.#next ?? this.#lastFree() ?? this.#anyOf(this.keys.keys());
    this.#named.clear();
    this.#next = undefined;
    return slot;
  }

  #lastFree(): number | undefined {
    const slot = this.#last.pop(this.keys[0] ?? "");
    return slot !== undefined && slot < this.keys.length ? slot : undefined;
  }

  #anyOf(slots: Iterable<number>): number {
    const list = [...slots];
    return list[Math.floor(this.#random() * list.length)] ?? 0;
  }

  /** A node reserved the slot with this key for the call. */
  onNotified(key: string | undefined): void {
    const slot = Number(/:permit:(\d+)$/.exec(key ?? "")?.[1]);
    if (slot < this.keys.length) this.#named.set(slot, (this.#named.get(slot) ?? 0) + 1);
  }

  /** Has the next attempt take the slot that a quorum of nodes should free first. Returns the call's places for that slot. */
  narrow(places: readonly Place[], quorum: number): readonly Place[] {
    const slots = this.keys.map((_, slot) => ({ slot, places: placesOf(places, slot) }));
    const freeAt = slots.map(({ slot, places: own }) => ({
      slot,
      places: own,
      atMs: own.map(({ freeMs }) => freeMs).sort((a, b) => a - b)[quorum - 1] ?? Infinity,
    }));
    const firstMs = Math.min(...freeAt.map(({ atMs }) => atMs));
    const first = freeAt.filter(({ atMs }) => atMs === firstMs);
    const chosen = first[Math.floor(this.#random() * first.length)];
    if (firstMs < Infinity) this.#next = chosen?.slot;
    return chosen?.places ?? places;
  }

  /** Asks which slots are free, and has the next attempt take one. Returns false if none is free on a quorum of nodes. */
  async findFree({ instance, nodeTimeoutMs, budgetLeftMs }: Acquisition): Promise<boolean> {
    const { nodes, environment } = instance;
    const free = this.keys.map(() => 0);
    const nobody = new Error("every slot is taken");
    const round = new Round(
      {
        nodes,
        operation: () => surveyOperation(this.slotKeys),
        judge: (reply) => {
          const states = queueReplyIn(reply)?.slots ?? [];
          for (const [slot, ms] of states.entries())
            if (ms === 0) free[slot] = (free[slot] ?? 0) + 1;
          return states.includes(0) ? undefined : nobody;
        },
        nodeTimeoutMs,
        limitMs: budgetLeftMs,
      },
      environment,
    );
    await round.quorumWith((error) => error === nobody || isHeld(error));
    const quorum = quorumOf(nodes.length);
    const found = [...free.keys()].filter((slot) => (free[slot] ?? 0) >= quorum);
    if (found.length === 0) return false;
    this.#next = this.#anyOf(found);
    return true;
  }
}

/** Attempts once, for permits on one free slot after the other. */
export async function attemptSlots<T>(
  call: Acquisition,
  attempt: () => Promise<T | undefined>,
): Promise<T | undefined> {
  const { permits, signals } = call;
  let lock = await attempt();
  for (let tries = 1; lock === undefined && permits !== undefined && tries < MOST_TRIES; tries++) {
    const isOver = (): boolean => call.budgetLeftMs <= 0 || signals.some(({ aborted }) => aborted);
    if (isOver() || !(await permits.findFree(call)) || isOver()) break;
    lock = await attempt();
  }
  return lock;
}

/** Returns the keys of a resource's slots. Throws a TypeError or RangeError for what can have no permits. */
export function slotKeysOf(keys: readonly string[], count: number, call: string): string[] {
  const [key = ""] = keys;
  if (keys.length > 1) {
    throw invalidType(
      `${call}() takes permits of one resource, but got ${keys.length} resources. Acquire them one after the other, in the same order everywhere.`,
    );
  }
  const first = permitKey(key, 0);
  if (first === undefined) {
    throw invalidType(
      `${call}() cannot give permits for the key ${key}: no other key is sure to lie in the same slot of a Redis Cluster. ` +
        "Name the resource without braces, or with a hash tag such as {order:7}:items.",
    );
  }
  if ((first.length + 3) * count > MOST_CHARACTERS) {
    throw outOfRange(
      `${call}() needs ${count} keys for the permits of ${key.slice(0, 100)}, which have more than ${MOST_CHARACTERS} characters together. ` +
        "Give the resource a shorter name.",
    );
  }
  return Array.from({ length: count }, (_, slot) => permitKey(key, slot) ?? "");
}
