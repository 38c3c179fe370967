/** A waiter's place in the order. */
export interface Ticket {
  readonly timeMs: number;
  readonly id: string;
}

/** The ticket that a key's value reserves it for. */
export function reservationIn(value: string): Ticket | undefined {
  const [, time, id] = /^reserved (-?\d+) (.+)$/.exec(value) ?? [];
  return time === undefined || id === undefined ? undefined : { timeMs: Number(time), id };
}

export function isBefore(a: Ticket, b: Ticket): boolean {
  return a.timeMs < b.timeMs || (a.timeMs === b.timeMs && a.id <= b.id);
}
