import { describe, expect, it } from "@jest/globals";
import { Lease, type LeaseListener } from "../../../src/algorithm/lease.js";
import { type Machine, played } from "../../virtual-world/stage.js";

function termFrom({ internals }: Machine, ttlMs: number) {
  return { since: internals.environment.now(), ttlMs, driftMs: 10 };
}

function listener(onLost: () => void): LeaseListener {
  return { onLost, onReleased: () => undefined, onRenewed: () => undefined };
}

describe("a lease that is held", () => {
  it(
    "says what is left of it at each moment, and is lost at its end",
    played(async (stage) => {
      const machine = stage.machine();
      const lease = Lease.held(machine.internals.environment, termFrom(machine, 1010));
      expect(lease.remainingMs).toBe(1000);
      expect(lease.expirationMs).toBe(1_001_000);
      expect(lease.ttlMs).toBe(1010);
      expect(lease.adopted).toBe(false);
      expect(lease.released).toBe(false);
      await stage.sleep(999);
      expect(lease.remainingMs).toBe(1);
      expect(lease.open).toBe(true);
      await stage.sleep(1);
      expect(lease.open).toBe(false);
      expect(lease.remainingMs).toBe(0);
      expect(lease.expirationMs).toBe(0);
      expect(lease.released).toBe(false);
    }),
  );

  it(
    "stays lost when the wall clock that ended it is set back",
    played(async (stage) => {
      const machine = stage.machine();
      const lease = Lease.held(machine.internals.environment, termFrom(machine, 1010));
      machine.host.stepWall(2000);
      expect(lease.remainingMs).toBe(0);
      machine.host.stepWall(-2000);
      await stage.sleep(1);
      expect(lease.remainingMs).toBe(0);
      expect(lease.open).toBe(false);
    }),
  );

  it(
    "tells its loss once, with the cause where there is one",
    played(async (stage) => {
      const machine = stage.machine();
      const lease = Lease.held(machine.internals.environment, termFrom(machine, 1010));
      let told = 0;
      lease.listen(
        listener(() => {
          told += 1;
        }),
      );
      await stage.sleep(1000);
      expect(told).toBe(0);
      expect(lease.remainingMs).toBe(0);
      lease.lose(new Error("too late"));
      expect(told).toBe(1);
      expect(lease.lossCause).toBeUndefined();

      const cause = new Error("others hold it");
      const taken = Lease.held(machine.internals.environment, termFrom(machine, 1010));
      taken.lose(cause);
      expect(taken.open).toBe(false);
      expect(taken.remainingMs).toBe(0);
      expect(taken.lossCause).toBe(cause);
    }),
  );

  it(
    "tells its loss also to one who begins to listen after it",
    played(async (stage) => {
      const machine = stage.machine();
      const lease = Lease.held(machine.internals.environment, termFrom(machine, 1010));
      lease.lose();
      let told = 0;
      lease.listen(
        listener(() => {
          told += 1;
        }),
      );
      expect(told).toBe(1);
      await stage.sleep(1);
    }),
  );

  it(
    "that was released is over, and is no loss",
    played(async (stage) => {
      const machine = stage.machine();
      const lease = Lease.held(machine.internals.environment, termFrom(machine, 1010));
      let told = false;
      lease.listen(
        listener(() => {
          told = true;
        }),
      );
      lease.release();
      expect(lease.released).toBe(true);
      expect(lease.open).toBe(false);
      expect(lease.remainingMs).toBe(0);
      expect(lease.expirationMs).toBe(0);
      lease.lose(new Error("too late"));
      expect(told).toBe(false);
      expect(lease.released).toBe(true);
      expect(lease.lossCause).toBeUndefined();
      await stage.sleep(1);
    }),
  );

  it(
    "that was lost stays lost when it is released",
    played(async (stage) => {
      const machine = stage.machine();
      const lease = Lease.held(machine.internals.environment, termFrom(machine, 1010));
      lease.lose();
      lease.release();
      expect(lease.released).toBe(false);
      await stage.sleep(1);
    }),
  );
});

describe("renewing a lease", () => {
  it(
    "moves its end away, and never brings it nearer",
    played(async (stage) => {
      const machine = stage.machine();
      const lease = Lease.held(machine.internals.environment, termFrom(machine, 1010));
      await stage.sleep(500);
      expect(lease.renew(termFrom(machine, 2010))).toBe(true);
      expect(lease.remainingMs).toBe(2000);
      expect(lease.ttlMs).toBe(2010);
      expect(lease.renew(termFrom(machine, 510))).toBe(true);
      expect(lease.remainingMs).toBe(2000);
      expect(lease.ttlMs).toBe(2010);
    }),
  );

  it(
    "is refused where the lease is over, whatever was granted meanwhile",
    played(async (stage) => {
      const machine = stage.machine();
      const { environment } = machine.internals;
      const over = Lease.held(environment, termFrom(machine, 1010));
      const lost = Lease.held(environment, termFrom(machine, 5010));
      lost.lose();
      const released = Lease.held(environment, termFrom(machine, 5010));
      released.release();
      await stage.sleep(1000);
      for (const lease of [over, lost, released]) {
        expect(lease.renew(termFrom(machine, 5010))).toBe(false);
        expect(lease.open).toBe(false);
        expect(lease.remainingMs).toBe(0);
      }
    }),
  );

  it(
    "is refused where the new term is over already",
    played(async (stage) => {
      const machine = stage.machine();
      const lease = Lease.held(machine.internals.environment, termFrom(machine, 5010));
      const late = termFrom(machine, 1010);
      await stage.sleep(1000);
      expect(lease.renew(late)).toBe(false);
      expect(lease.remainingMs).toBe(4000);
    }),
  );
});

describe("an adopted lease", () => {
  it(
    "may be relied on from its first extension on, and not before",
    played(async (stage) => {
      const machine = stage.machine();
      const lease = Lease.adopted(machine.internals.environment);
      expect(lease.adopted).toBe(true);
      expect(lease.open).toBe(true);
      expect(lease.remainingMs).toBe(0);
      expect(lease.expirationMs).toBe(0);
      expect(lease.ttlMs).toBeUndefined();
      expect(lease.open).toBe(true);
      await stage.sleep(10);
      expect(lease.renew(termFrom(machine, 1010))).toBe(true);
      expect(lease.adopted).toBe(false);
      expect(lease.remainingMs).toBe(1000);
    }),
  );

  it(
    "can be lost or released before that",
    played(async (stage) => {
      const { environment } = stage.machine().internals;
      const lost = Lease.adopted(environment);
      lost.lose();
      const released = Lease.adopted(environment);
      released.release();
      await stage.sleep(1);
      expect([lost.open, released.open]).toEqual([false, false]);
      expect([lost.released, released.released]).toEqual([false, true]);
    }),
  );
});
