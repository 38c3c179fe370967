import type { Environment, Timer } from "./environment.js";

/** The alarms that ring at one moment. */
interface Bell {
  readonly atMs: number;
  readonly timer: Timer;
  readonly alarms: Set<Alarm>;
}

export interface Alarm {
  readonly bell: Bell;
  readonly callback: () => void;
}

/**
 * Rings many alarms in one event-loop turn with one timer, so that the operations they start share commands: ten
 * thousand held locks take a hundred turns a second instead of ten thousand timers.
 */
export class Alarms {
  readonly #environment: Environment;
  readonly #keepsAlive: boolean;
  readonly #bells = new Map<number, Bell>();

  /** @param keepsAlive whether a pending alarm keeps the process alive */
  constructor(environment: Environment, keepsAlive: boolean) {
    this.#environment = environment;
    this.#keepsAlive = keepsAlive;
  }

  /** Sets an alarm that rings after `delayMs`, or up to `earlyMs` earlier: at a multiple of `earlyMs`, with others. */
  set(delayMs: number, earlyMs: number, callback: () => void): Alarm {
    const nowMs = this.#environment.monotonicMs();
    const steppedMs = Math.floor((nowMs + delayMs) / earlyMs) * earlyMs;
    const atMs = steppedMs > nowMs ? steppedMs : nowMs + delayMs;
    let bell = this.#bells.get(atMs);
    if (bell === undefined) {
      const ring = (): void => {
        this.#ring(atMs);
      };
      const ringsInMs = Math.max(0, Math.ceil(atMs - nowMs));
      const timer = this.#keepsAlive
        ? this.#environment.setTimer(ring, ringsInMs)
        : this.#environment.setBackgroundTimer(ring, ringsInMs);
      bell = { atMs, timer, alarms: new Set() };
      this.#bells.set(atMs, bell);
    }
    const alarm = { bell, callback };
    bell.alarms.add(alarm);
    return alarm;
  }

  cancel(alarm: Alarm): void {
    const { bell } = alarm;
    bell.alarms.delete(alarm);
    if (bell.alarms.size > 0 || this.#bells.get(bell.atMs) !== bell) return;
    this.#bells.delete(bell.atMs);
    this.#environment.clearTimer(bell.timer);
  }

  #ring(atMs: number): void {
    const bell = this.#bells.get(atMs);
    this.#bells.delete(atMs);
    for (const { callback } of bell?.alarms ?? []) callback();
  }
}
