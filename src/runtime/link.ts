/** One link of a ring. The link without an item marks the beginning and the end. */
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
  }
}
