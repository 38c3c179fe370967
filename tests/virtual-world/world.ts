/** Whoever lives in a world and may be unable to act for a while. */
export interface Actor {
  readonly dead: boolean;
  /** Until then it does nothing: it is paused, or still busy with what it was about. */
  readonly busyUntilMs: number;
  beginTurn(nowMs: number): void;
  endTurn(): void;
}

/** What waits at one moment for the same actor is done in this order, as Node's event loop does it. */
export const RANK = { timer: 0, arrival: 1, afterPoll: 2 } as const;

export interface Happening {
  atMs: number;
  readonly rank: number;
  readonly order: number;
  readonly actor: Actor | undefined;
  readonly run: () => void;
  cancelled: boolean;
}

/**
 * Runs the microtasks that wait, all those that they cause, and what Node does between two callbacks:
 * `process.nextTick`, and the report of rejections that nobody handles. Synchronous, so that a schedule
 * costs no turn of the real event loop; and the rule by which Node itself works, so that a rejection is
 * unhandled here exactly when it is there.
 */
export const drain: () => void = (() => {
  const { _tickCallback: tick } = process as { _tickCallback?: () => void };
  if (tick === undefined) {
    throw new Error(
      "This Node has no process._tickCallback, by which the simulator ends a turn. It ran on Node 20 to 24.",
    );
  }
  return tick;
})();

/** Virtual time, and what happens in it, one thing after the other. */
export class World {
  nowMs = 0;
  /** How many things happened. */
  events = 0;
  /** QueueReply before and after each turn of an actor, and after everything else. */
  onBefore: ((actor: Actor) => void) | undefined;
  onAfter: ((actor: Actor | undefined) => void) | undefined;
  readonly #heap: Happening[] = [];
  #order = 0;
  readonly #trace: string[] | undefined;

  constructor(traced = false) {
    this.#trace = traced ? [] : undefined;
  }

  get traced(): boolean {
    return this.#trace !== undefined;
  }

  get trace(): readonly string[] {
    return this.#trace ?? [];
  }

  log(who: string, what: string, atMs = this.nowMs): void {
    this.#trace?.push(`${atMs.toFixed(3).padStart(11)} ms  ${who.padEnd(10)} ${what}`);
  }

  at(atMs: number, run: () => void, actor?: Actor, rank: number = RANK.arrival): Happening {
    const happening = { atMs, rank, order: this.#order++, actor, run, cancelled: false };
    this.#push(happening);
    return happening;
  }

  after(delayMs: number, run: () => void, actor?: Actor, rank?: number): Happening {
    return this.at(this.nowMs + delayMs, run, actor, rank);
  }

  /** Lets the next thing happen; false where nothing is left. */
  step(): boolean {
    const next = this.#pop();
    if (next === undefined) return false;
    const { actor } = next;
    if (next.cancelled || actor?.dead === true) return true;
    if (actor !== undefined && actor.busyUntilMs > next.atMs) {
      next.atMs = actor.busyUntilMs;
      this.#push(next);
      return true;
    }
    this.nowMs = next.atMs;
    this.events += 1;
    if (actor !== undefined) {
      actor.beginTurn(this.nowMs);
      this.onBefore?.(actor);
    }
    next.run();
    if (actor !== undefined) {
      drain();
      actor.endTurn();
    }
    this.onAfter?.(actor);
    return true;
  }

  #push(happening: Happening): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(happening);
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = heap[above];
      if (parent === undefined || !isBefore(happening, parent)) break;
      heap[index] = parent;
      index = above;
    }
    heap[index] = happening;
  }

  #pop(): Happening | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let below = 2 * index + 1;
      let child = heap[below];
      if (child === undefined) break;
      const sibling = heap[below + 1];
      if (sibling !== undefined && isBefore(sibling, child)) {
        child = sibling;
        below += 1;
      }
      if (!isBefore(child, last)) break;
      heap[index] = child;
      index = below;
    }
    heap[index] = last;
    return first;
  }
}

function isBefore(a: Happening, b: Happening): boolean {
  if (a.atMs !== b.atMs) return a.atMs < b.atMs;
  if (a.rank !== b.rank) return a.rank < b.rank;
  return a.order < b.order;
}
