import type { Environment, Instant, Timer } from "../../src/runtime/environment.js";
import { Violation } from "../simulation/violation.js";
import type { Random } from "./random.js";
import { type Actor, type Happening, RANK, type World } from "./world.js";

export interface HostClocks {
  /** Ms that the host's clocks count in one true ms. */
  readonly rate: number;
  readonly wallOffsetMs: number;
}

/** The monotonic clock does not begin at 0, as on a machine that has been up for a while. */
const UP_SINCE_MS = 5_000;
const EPOCH_MS = 1_000_000;
/** A turn of a schedule takes a dozen calls of the environment; one in a crowd of a thousand, a thousand. */
const MOST_CALLS_IN_A_TURN = 20_000;

/**
 * A client's machine: its clocks, its event loop, its timers. It can be paused at any point at which
 * the library meets its surroundings, also in the middle of a turn; suspended, when its monotonic
 * clock stands still; and it can die.
 */
export class Host implements Actor {
  readonly index: number;
  readonly name: string;
  readonly environment: Environment;
  dead = false;
  /** Programs on it that have not ended. */
  running = 0;
  busyUntilMs = 0;
  /** How often the library met its surroundings: pauses are planned by this count. */
  meetings = 0;
  /** Ms of every pause and suspension, planned or over. */
  pausedMs = 0;
  /** Counts its turns. */
  turn = 0;
  turnStartMs = 0;
  /** Since when it went from turn to turn without a rest. */
  busySinceMs = 0;
  /** Of one turn without its pauses: an answer that came meanwhile waits that long to be read. */
  longestTurnMs = 0;
  /** `pausedMs` when the turn began. */
  turnPausedMs = 0;
  lastStepMs = -Infinity;
  /** Timers that the library set and that neither fired nor were cleared. */
  readonly timers = new Set<Happening>();
  /** Values drawn for attempts. */
  readonly values: string[] = [];
  readonly pauses = new Map<number, number>();
  readonly #pauseLog: { readonly endMs: number; readonly ms: number }[] = [];
  onPause: ((ms: number) => void) | undefined;
  readonly #world: World;
  readonly #random: Random;
  readonly #clocks: HostClocks;
  readonly #meetingCostMs: number;
  #inTurn = false;
  /** Of the environment, since the turn began. */
  #calls = 0;
  #logicalMs = 0;
  #wallStepsMs = 0;
  #frozenMs = 0;
  #frozenFromMs = 0;
  #frozenToMs = 0;
  #override: Instant | undefined;

  constructor(
    world: World,
    index: number,
    random: Random,
    clocks: HostClocks,
    meetingCostMs: number,
  ) {
    this.#world = world;
    this.index = index;
    this.name = `client ${index + 1}`;
    this.#random = random;
    this.#clocks = clocks;
    this.#meetingCostMs = meetingCostMs;
    this.environment = this.#environment();
  }

  /** True time on this host: later than the world's while it is busy in a turn. */
  get timeMs(): number {
    return this.#inTurn ? this.#logicalMs : this.#world.nowMs;
  }

  beginTurn(nowMs: number): void {
    this.turn += 1;
    if (this.busyUntilMs < nowMs) this.busySinceMs = nowMs;
    this.turnStartMs = nowMs;
    this.turnPausedMs = this.pausedMs;
    this.#logicalMs = nowMs;
    this.#calls = 0;
    this.#inTurn = true;
  }

  endTurn(): void {
    this.#inTurn = false;
    if (this.#isEndless) throw this.#endless();
    const turnMs = this.#logicalMs - this.turnStartMs - (this.pausedMs - this.turnPausedMs);
    this.longestTurnMs = Math.max(this.longestTurnMs, turnMs);
    if (this.#logicalMs > this.busyUntilMs) this.busyUntilMs = this.#logicalMs;
  }

  monotonicAt(trueMs: number): number {
    const frozenMs =
      this.#frozenMs +
      Math.min(Math.max(trueMs - this.#frozenFromMs, 0), this.#frozenToMs - this.#frozenFromMs);
    return UP_SINCE_MS + (trueMs - frozenMs) * this.#clocks.rate;
  }

  wallAt(trueMs: number): number {
    const { wallOffsetMs, rate } = this.#clocks;
    return Math.floor(EPOCH_MS + wallOffsetMs + this.#wallStepsMs + trueMs * rate);
  }

  stepWall(byMs: number): void {
    this.#wallStepsMs += byMs;
    this.lastStepMs = this.#world.nowMs;
  }

  pause(ms: number): void {
    this.busyUntilMs = Math.max(this.busyUntilMs, this.#world.nowMs) + ms;
    this.#notePause(ms, this.busyUntilMs);
  }

  /** As `pause`, and the monotonic clock stands still. */
  suspend(ms: number): void {
    const fromMs = Math.max(this.busyUntilMs, this.#world.nowMs);
    this.#frozenMs += this.#frozenToMs - this.#frozenFromMs;
    this.#frozenFromMs = fromMs;
    this.#frozenToMs = fromMs + ms;
    this.busyUntilMs = fromMs + ms;
    this.#notePause(ms, this.busyUntilMs);
  }

  /** Reads something with the clocks standing at that instant: a look that the library does not notice. */
  readAt<T>(instant: Instant, read: () => T): T {
    this.#override = instant;
    try {
      return read();
    } finally {
      this.#override = undefined;
    }
  }

  /** The program's own waiting, which is no timer of the library's. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#world.at(this.timeMs + ms, resolve, this, RANK.timer);
    });
  }

  /** The library meets its surroundings: that takes time, and here it may be paused. */
  meet(): void {
    if (!this.#inTurn) return;
    this.meetings += 1;
    this.#logicalMs += this.#meetingCostMs;
    const pauseMs = this.pauses.get(this.meetings);
    if (pauseMs === undefined) return;
    this.#logicalMs += pauseMs;
    this.#notePause(pauseMs, this.#logicalMs);
  }

  get #isEndless(): boolean {
    return this.#calls > MOST_CALLS_IN_A_TURN;
  }

  #endless(): Violation {
    const what = `called its environment ${MOST_CALLS_IN_A_TURN} times in one turn of the event loop`;
    return new Violation("an end", `${this.name} ${what}, which would never end`);
  }

  /**
   * The library calls its environment. A turn that would never end, as in a loop of promises in which no
   * time passes, is ended here, and `endTurn` reports it: time passes at every further call, and a loop that
   * goes on in spite of that is broken by an exception.
   */
  #call(): void {
    this.#calls += 1;
    if (!this.#isEndless) return;
    this.#logicalMs += 1000;
    if (this.#calls > 2 * MOST_CALLS_IN_A_TURN) throw this.#endless();
  }

  /** Ms of the pauses that ended after this instant of the monotonic clock. */
  pausedSince(monotonicMs: number): number {
    let pausedMs = 0;
    for (const { endMs, ms } of this.#pauseLog) {
      if (this.monotonicAt(endMs) >= monotonicMs) pausedMs += ms;
    }
    return pausedMs;
  }

  #notePause(ms: number, endMs: number): void {
    this.pausedMs += ms;
    this.#pauseLog.push({ endMs, ms });
    this.onPause?.(ms);
  }

  #environment(): Environment {
    return {
      now: () => this.#now(),
      monotonicMs: () => this.#now().monotonicMs,
      setTimer: (callback, delayMs) => this.#setTimer(callback, delayMs),
      setBackgroundTimer: (callback, delayMs) => this.#setTimer(callback, delayMs),
      clearTimer: (timer) => {
        const happening = timer as Happening;
        happening.cancelled = true;
        this.timers.delete(happening);
      },
      endOfTurn: (callback) => {
        this.#call();
        process.nextTick(() => {
          try {
            callback();
          } catch (error) {
            // What a tick throws ends the turn before its microtasks.
            if (!this.#isEndless) throw error;
          }
        });
      },
      afterPoll: (callback) => {
        this.#call();
        this.#world.at(this.timeMs, callback, this, RANK.afterPoll);
      },
      random: () => this.#random.unit(),
      randomValue: () => {
        this.#call();
        const value = `${String.fromCharCode(97 + this.index)}${this.values.length + 1}`;
        this.values.push(value);
        return value;
      },
    };
  }

  #now(): Instant {
    if (this.#override !== undefined) return this.#override;
    this.#call();
    this.meet();
    const trueMs = this.timeMs;
    return { monotonicMs: this.monotonicAt(trueMs), wallMs: this.wallAt(trueMs) };
  }

  /** As Node's: whole ms counted from the beginning of the turn, up to 1 ms early, or late by chance. */
  #setTimer(callback: () => void, delayMs: number): Timer {
    this.#call();
    const startMs = Math.floor(this.monotonicAt(this.turnStartMs));
    const dueMs = startMs + Math.max(1, Math.trunc(delayMs)) + this.#random.unit();
    const timer: Happening = this.#world.at(
      this.#trueMsAt(dueMs),
      () => {
        this.#fire(timer, callback, dueMs);
      },
      this,
      RANK.timer,
    );
    this.timers.add(timer);
    return timer;
  }

  #fire(timer: Happening, callback: () => void, dueMs: number): void {
    if (timer.cancelled) return;
    if (this.monotonicAt(this.#world.nowMs) >= dueMs - 1e-6) {
      this.timers.delete(timer);
      callback();
      return;
    }
    // The monotonic clock stood still meanwhile.
    this.#world.at(
      Math.max(this.#trueMsAt(dueMs), this.#world.nowMs + 1e-3),
      () => {
        this.#fire(timer, callback, dueMs);
      },
      this,
      RANK.timer,
    );
  }

  #trueMsAt(monotonicMs: number): number {
    const frozenMs = this.#frozenMs + this.#frozenToMs - this.#frozenFromMs;
    return Math.max((monotonicMs - UP_SINCE_MS) / this.#clocks.rate + frozenMs, this.#world.nowMs);
  }
}
