import { isHeld } from "../errors.js";
import { surveyOperation } from "../operations/join-permits.js";
import { queueReplyIn } from "../operations/queue.js";
import type { SlotKeys } from "../operations/slots.js";
import { quorumOf, Round } from "../quorum/round.js";
import { sleep } from "../runtime/environment.js";
import { queueKeysOf } from "../waiting/queue-keys.js";
import { placesOf, type Place } from "../waiting/schedule.js";
import type { Acquisition } from "./call.js";

/** So many resources are remembered with the slots that this process had last. */
const MOST_REMEMBERED = 1000;
/** A call attempts so many free slots before it waits. */
const MOST_TRIES = 10;

/** The slots that this process released last, for each resource: probably they are free still. */
export class LastSlots {
  readonly #slots = new Map<string, number[]>();

  push(resource: string, slot: number): void {
    const slots = this.#slots.get(resource);
    if (slots !== undefined) {
      if (!slots.includes(slot)) slots.push(slot);
      return;
    }
    this.#slots.set(resource, [slot]);
    if (this.#slots.size <= MOST_REMEMBERED) return;
    for (const [oldest] of this.#slots) {
      this.#slots.delete(oldest);
      break;
    }
  }

  pop(resource: string): number | undefined {
    return this.#slots.get(resource)?.pop();
  }
}

/** The slots of a resource's permits, and which of them a call attempts next. Each slot is a lock of its own. */
export class Permits {
  /** The key of each slot. */
  readonly keys: readonly string[];
  /** When the attempts of one free slot after the other end, by the monotonic clock. */
  endMs = Infinity;
  readonly #resource: string;
  readonly #last: LastSlots;
  readonly #random: () => number;
  /** The slots that nodes reserved for this call since its last attempt, each with how many nodes did. */
  #named = new Map<number, number>();
  #next: number | undefined;

  constructor(resource: string, keys: readonly string[], last: LastSlots, random: () => number) {
    this.#resource = resource;
    this.keys = keys;
    this.#last = last;
    this.#random = random;
  }

  /** The keys of the queue, then those of the slots. */
  get slotKeys(): SlotKeys {
    const [, order = "", alive = ""] = queueKeysOf(this.keys.slice(0, 1)) ?? [];
    return [order, alive, ...this.keys];
  }

  /** Returns the slot to attempt: one that nodes reserved for the call, one that should be free, or a random one. */
  choose(): number {
    const slot =
      this.#mostNamed() ?? this.#next ?? this.#lastFree() ?? this.#anyOf(this.keys.keys());
    this.#named.clear();
    this.#next = undefined;
    return slot;
  }

  #mostNamed(): number | undefined {
    // A free permit is taken before any node could name one.
    if (this.#named.size === 0) return undefined;
    return [...this.#named].sort(([, a], [, b]) => b - a)[0]?.[0];
  }

  #lastFree(): number | undefined {
    const slot = this.#last.pop(this.#resource);
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
  async findFree(call: Acquisition): Promise<boolean> {
    const { nodes, environment } = call.instance;
    const free = this.keys.map(() => 0);
    const round = new Round(
      {
        nodes,
        operation: surveyOperation(this.slotKeys),
        judge: (reply, node) => {
          // It would not vote for an attempt.
          if (node.heldBack() !== undefined) return taken;
          const states = queueReplyIn(reply)?.slots ?? [];
          for (const [slot, ms] of states.entries()) {
            if (ms === 0) free[slot] = (free[slot] ?? 0) + 1;
          }
          return states.includes(0) ? undefined : taken;
        },
        nodeTimeoutMs: call.nodeTimeoutMs,
        limitMs: call.attemptLeftMs,
      },
      environment,
    );
    if (!(await call.decided(round))) return false;
    const quorum = quorumOf(nodes.length);
    const found = [...free.keys()].filter((slot) => (free[slot] ?? 0) >= quorum);
    if (found.length === 0) return false;
    this.#next = this.#anyOf(found);
    return true;
  }
}

/** The vote of a node on which every slot is taken. It never leaves this file. */
const taken = new Error("every slot is taken");

/** Attempts once on one free slot after the other. */
export async function attemptSlots<T>(
  call: Acquisition,
  permits: Permits,
  attempt: (call: Acquisition) => Promise<T | undefined>,
): Promise<T | undefined> {
  const { signals } = call;
  permits.endMs = call.instance.environment.monotonicMs() + call.longestNodeTimeoutMs;
  const isOver = (): boolean => call.attemptLeftMs <= 0 || signals.some(({ aborted }) => aborted);
  let lock = await attempt(call);
  for (let tries = 1; lock === undefined && tries < MOST_TRIES; tries++) {
    if (isOver() || !(await permits.findFree(call)) || isOver()) break;
    lock = await attempt(call);
  }
  return lock;
}

/**
 * Resolves with whether a quorum of nodes says in the round that others hold the lock. Of an attempt of one slot after
 * another, the nodes have no more time for that than the first attempt gave them.
 */
export async function isTakenIn(round: Round, call: Acquisition): Promise<boolean> {
  const { permits, instance, attemptLeftMs } = call;
  if (permits === undefined) return round.quorumWith(isHeld);
  let isTaken = false;
  await sleep(instance.environment, Math.max(0, attemptLeftMs), [], (wake) => {
    void round.quorumWith(isHeld).then((result) => {
      isTaken = result;
      wake();
    });
  });
  return isTaken;
}
