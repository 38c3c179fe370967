import type { Environment, Timer } from "./environment.js";
import { Link } from "./link.js";

/** The alarms that ring at one moment. */
interface Bell {
  readonly atMs: number;
  readonly timer: Timer;
  /** The ring of their callbacks. */
  readonly alarms: Link<() => void>;
}

export interface Alarm {
  readonly bell: Bell;
  readonly link: Link<() => void>;
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
      bell = { atMs, timer, alarms: new Link() };
      this.#bells.set(atMs, bell);
    }
    const link = new Link(callback);
    link.goBehind(bell.alarms.before);
    return { bell, link };
  }

  /** Cancels an alarm, which may have rung. */
  cancel({ bell, link }: Alarm): void {
    link.leave();
    if (!bell.alarms.isAlone || this.#bells.get(bell.atMs) !== bell) return;
    this.#bells.delete(bell.atMs);
    this.#environment.clearTimer(bell.timer);
  }

  #ring(atMs: number): void {
    const bell = this.#bells.get(atMs);
    this.#bells.delete(atMs);
    if (bell === undefined) return;
    // One at a time: the callback of one alarm may cancel another.
    for (let { after } = bell.alarms; after.item !== undefined; { after } = bell.alarms) {
      after.leave();
      after.item();
    }
  }
}
