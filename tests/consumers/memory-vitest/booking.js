/** The code to be tested, as a user would write it. */
export class Booking {
  booked = [];

  constructor(redlock) {
    this.redlock = redlock;
  }

  /** Returns whether the seat was free. */
  async book(seat, pay) {
    return this.redlock.using(`seat:${seat}`, 5000, async (signal) => {
      if (this.booked.includes(seat)) return false;
      await pay(signal);
      signal.throwIfAborted();
      this.booked.push(seat);
      return true;
    });
  }
}
