import { setImmediate } from "node:timers";

/** The real one, taken when this file is loaded: fake timers must not hold up replies. */
const realSetImmediate = setImmediate;

/**
 * So many messages arrive at once in one turn of the event loop; further ones arrive in the next turn. Otherwise a loop of
 * calls would keep every timer of the process from firing.
 */
const MOST_IN_A_TURN = 1000;

let inThisTurn = 0;

function isTurnFull(): boolean {
  if (inThisTurn === 0) {
    realSetImmediate(() => {
      inThisTurn = 0;
    });
  }
  inThisTurn += 1;
  return inThisTurn > MOST_IN_A_TURN;
}

/** Resolves in the next turn of the event loop. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    realSetImmediate(resolve);
  });
}

interface Message {
  readonly arrive: () => void;
  isDue: boolean;
}

/** One direction of a connection. Messages arrive in the order in which they were sent. */
export class Wire {
  readonly #messages: Message[] = [];

  /** Sends a message. Without a delay it arrives at once, so that nobody has to wait for a timer. */
  send(delayMs: number, arrive: () => void): void {
    const isFull = isTurnFull();
    if (delayMs === 0 && !isFull && this.#messages.length === 0) {
      arrive();
      return;
    }
    const message = { arrive, isDue: false };
    this.#messages.push(message);
    const fallDue = (): void => {
      message.isDue = true;
      this.#deliver();
    };
    // A timer of the test, which may be a fake one.
    if (delayMs > 0) setTimeout(fallDue, delayMs);
    else if (isFull) realSetImmediate(fallDue);
    else message.isDue = true;
  }

  #deliver(): void {
    while (this.#messages[0]?.isDue === true) this.#messages.shift()?.arrive();
  }
}
