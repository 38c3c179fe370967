/**
 * One link of a ring. The link without an item marks the beginning and the end.
 *
 * A ring holds what comes and goes all the time: rounds, alarms, locks. A Set would keep them from the collector, since
 * a table that it has outgrown refers to the next one, and so to all that came later.
 */
export class Link<Item> {
  before: Link<Item> = this;
  after: Link<Item> = this;

  constructor(readonly item?: Item) {}

  goBehind(before: Link<Item>): void {
    this.before = before;
    this.after = before.after;
    before.after.before = this;
    before.after = this;
  }

  leave(): void {
    this.before.after = this.after;
    this.after.before = this.before;
    // A link that has grown old, and waits for a full collection, must not keep its former neighbours.
    this.before = this;
    this.after = this;
  }

  /** Whether no other link is in the ring. */
  get isAlone(): boolean {
    return this.after === this;
  }

  /** Returns the items of the ring that this link begins. */
  items(): Item[] {
    const items: Item[] = [];
    let { after } = this;
    while (after.item !== undefined) {
      items.push(after.item);
      ({ after } = after);
    }
    return items;
  }
}
