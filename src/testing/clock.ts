/** The functions that stood here when this file was loaded. Fake timers replace them. */
const loaded = { setTimeout, Date };

interface Reading {
  readonly wallMs: number;
  readonly monotonicMs: number;
}

/**
 * The clock of the nodes of one `memoryNodes` call. Keys expire by it.
 *
 * A lock counts its time by the wall clock and by the monotonic clock, whichever has gone further. So does this clock;
 * the nodes then never free a lock before its holder knows that it is over, and free it also if a test fakes `Date`
 * alone. Under fake timers only the fake wall clock counts: not every library of fake timers also fakes the monotonic
 * clock, and real time must not add to the test's time.
 *
 * When a clock is set back, or fake timers come or go, this clock goes on from where it was, and counts what the wall
 * clock has gone forward.
 */
export class ServerClock {
  #nowMs = Date.now();
  #since: Reading;
  #sinceMs = this.#nowMs;
  #last: Reading;
  #isFake = areTimersFake();

  constructor() {
    this.#since = this.#last = read();
  }

  /** Returns epoch ms, which never go back. */
  nowMs(): number {
    const reading = read();
    const isFake = areTimersFake();
    const { wallMs, monotonicMs } = reading;
    const isBack = wallMs < this.#last.wallMs || monotonicMs < this.#last.monotonicMs;
    if (isBack || isFake !== this.#isFake) {
      this.#sinceMs = this.#nowMs + Math.max(0, wallMs - this.#last.wallMs);
      this.#since = reading;
      this.#isFake = isFake;
    }
    this.#last = reading;
    const wallPassedMs = wallMs - this.#since.wallMs;
    const monotonicPassedMs = monotonicMs - this.#since.monotonicMs;
    const passedMs = isFake ? wallPassedMs : Math.max(wallPassedMs, monotonicPassedMs);
    this.#nowMs = this.#sinceMs + passedMs;
    return Math.floor(this.#nowMs);
  }
}

function read(): Reading {
  return { wallMs: Date.now(), monotonicMs: performance.now() };
}

function areTimersFake(): boolean {
  return setTimeout !== loaded.setTimeout && Date !== loaded.Date;
}
