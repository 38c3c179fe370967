import { describe, expect, it } from "@jest/globals";
import { played, rejection } from "./stage.js";

const ALL = [0, 1, 2, 3, 4];

describe("release", () => {
  it(
    "frees every server, and resolves with the statistics as soon as a majority answered",
    played(async (stage) => {
      const { redlock } = await stage.connect({ keyPrefix: "lock:" });
      const lock = await redlock.acquire(["r", "s"], 1000);
      stage.freeze([4], 100);
      const { ms, gives } = await stage.timed(redlock.release(lock));
      expect(ms).toBe(2);
      expect(gives.start).toBe(1_000_000 + stage.nowMs - 2);
      expect(gives.attempts).toHaveLength(1);
      const stats = await gives.attempts[0];
      expect(stats?.votesFor.size).toBe(4);
      await stage.sleep(100);
      expect(stage.holders("lock:r", lock.value)).toEqual([]);
      expect(stage.holders("lock:s", lock.value)).toEqual([]);
    }),
  );

  it(
    "leaves another's lock alone",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 1000);
      stage.forget([0], "r");
      stage.occupy([0], "r");
      await redlock.release(lock);
      expect(stage.holders("r", "another's")).toEqual([0]);
    }),
  );

  it(
    "is tried until the ttl has passed by the monotonic clock: a step of the wall clock ends it no sooner",
    played(async (stage) => {
      const { redlock, host } = await stage.connect({ nodeTimeout: 50 });
      const lock = await redlock.acquire("r", 10_000);
      stage.freeze([0, 1, 2], 500);
      const releasing = redlock.release(lock);
      await stage.sleep(100);
      host.stepWall(60_000);
      expect((await releasing).attempts.length).toBeGreaterThan(1);
      expect(stage.holders("r", lock.value)).toEqual([]);
    }),
  );

  it(
    "of a lock that is released already resolves at once, and asks nobody",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 1000);
      await redlock.release(lock);
      const { ms, gives } = await stage.timed(redlock.release(lock));
      expect(ms).toBe(0);
      expect(gives.attempts).toEqual([]);
      await stage.sleep(5);
      expect(stage.questions("release")).toHaveLength(5);
    }),
  );

  it(
    "of a lock that has expired resolves at once, and still tells the servers",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 1000);
      await stage.sleep(986);
      expect(lock.valid).toBe(false);
      expect(stage.holders("r", lock.value)).toEqual(ALL);
      const { ms, gives } = await stage.timed(redlock.release(lock));
      expect(ms).toBe(0);
      expect(gives.attempts).toEqual([]);
      await stage.sleep(2);
      expect(stage.holders("r", lock.value)).toEqual([]);
    }),
  );

  it(
    "is tried again where no quorum answers, as the settings say",
    played(async (stage) => {
      const { redlock, errors } = await stage.connect();
      const lock = await redlock.acquire("r", 10_000);
      stage.crash([0, 1, 2]);
      await stage.sleep(10);
      const { ms, gives: error } = await stage.timed(
        rejection(redlock.release(lock, { retryCount: 3 })),
      );
      expect(ms).toBe(600);
      expect(error.code).toBe("ERR_REDLOCK_QUORUM");
      expect(error.attempts).toHaveLength(4);
      expect(error.message).toContain("4 attempts in 600 ms; ");
      expect(lock.valid).toBe(false);
      expect(errors).toHaveLength(12);
    }),
  );

  it(
    "is not tried past the lock's ttl, when the servers have freed it themselves",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: -1 });
      const lock = await redlock.acquire("r", 1000);
      stage.crash([0, 1, 2]);
      await stage.sleep(10);
      const { ms, gives: error } = await stage.timed(rejection(redlock.release(lock)));
      expect(ms).toBe(800);
      expect(error.attempts).toHaveLength(5);
    }),
  );

  it(
    "reaches servers that were silent or down when they are back",
    played(async (stage) => {
      const { redlock, links } = await stage.connect({ retryCount: 0 });
      const lock = await redlock.acquire("r", 20_000);
      stage.freeze([0], 2000);
      links[1]?.cut("both");
      links[1]?.reset();
      await stage.sleep(10);
      await redlock.release(lock);
      await stage.sleep(1000);
      links[1]?.heal("both");
      await stage.sleep(5000);
      expect(stage.holders("r", lock.value)).toEqual([]);
    }),
  );

  it(
    "is sent at once behind an acquisition that a server has not answered yet",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      stage.freeze([4], 6000);
      const lock = await redlock.acquire("r", 1000);
      await stage.sleep(100);
      await redlock.release(lock);
      await stage.sleep(6000);
      const late = stage.asked.filter(({ node }) => node === 4);
      expect(late.map(({ what }) => what)).toEqual(["set", "ping", "release"]);
      expect(late[2]?.atMs).toBe(late[0]?.atMs);
      expect(stage.holders("r", lock.value)).toEqual([]);
    }),
  );

  it(
    "is not sent to a server that is silent, so that nothing piles up for it",
    played(async (stage) => {
      const { redlock, links } = await stage.connect({ nodeTimeout: 50 });
      const held = await redlock.acquire("r", 5000);
      stage.freeze([4], 1000);
      await redlock.acquire("s", 5000);
      await stage.sleep(100);
      await redlock.release(held);
      // What timed out, and the probe.
      expect(links[4]?.pending).toBe(2);
    }),
  );

  it(
    "of an adopted lock that was never extended reaches servers that come back, too",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const other = await stage.connect();
      const lock = await redlock.acquire("r", 20_000);
      const adopted = other.redlock.adopt(lock.toJSON());
      stage.freeze([0], 1000);
      expect((await stage.timed(adopted.release())).ms).toBe(2);
      await stage.sleep(2500);
      expect(stage.holders("r", lock.value)).toEqual([]);
    }),
  );

  it(
    "gives a server its time to answer, by the lock's ttl or the setting",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0 });
      const first = await redlock.acquire("r", 4000);
      const second = await redlock.acquire("s", 4000);
      stage.freeze([0, 1, 2], 500);
      expect((await stage.timed(rejection(redlock.release(first)))).ms).toBe(200);
      await stage.sleep(500);
      stage.freeze([0, 1, 2], 500);
      const released = rejection(redlock.release(second, { nodeTimeout: 70 }));
      expect((await stage.timed(released)).ms).toBe(70);
    }),
  );
});
