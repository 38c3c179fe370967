import { expect, it } from "@jest/globals";
import type { Handle } from "../../../src/algorithm/handle.js";
import { HeldLocks } from "../../../src/algorithm/held-locks.js";
import type { Link } from "../../../src/runtime/link.js";

/** A lock of which reading notices the end, as of every lock. */
function lockIn(locks: HeldLocks): { isOver: boolean } {
  const state = { isOver: false };
  const handle = {
    get isHeld(): boolean {
      if (state.isOver) locks.remove(link);
      return !state.isOver;
    },
  };
  const link: Link<Handle> = locks.add(handle as unknown as Handle);
  return state;
}

it("locks that ended without a word do not pile up behind those that are held for long", () => {
  const locks = new HeldLocks();
  const kept = Array.from({ length: 100 }, () => lockIn(locks));
  for (let count = 0; count < 10_000; count++) lockIn(locks).isOver = true;
  expect(locks.all().length).toBeLessThan(3 * kept.length);
  expect(locks.all().filter(({ isHeld }) => isHeld)).toHaveLength(kept.length);
});
