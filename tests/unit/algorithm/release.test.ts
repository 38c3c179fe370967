import { describe, expect, it } from "@jest/globals";
import { type Reply, ReplyError } from "../../../src/testing/redis/reply.js";
import { played, rejection, type Stage } from "../../virtual-world/stage.js";

const ALL = [0, 1, 2, 3, 4];

const REFUSALS = [
  "NOREPLICAS Not enough good replicas to write.",
  "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
  "READONLY You can't write against a read only replica.",
  "CLUSTERDOWN The cluster is down",
  "BUSY Redis is busy running a script.",
  "ERR Error running script (call to f_0): @user_script:1: -READONLY You can't write.",
];

/** These servers answer with an error to what changes keys, while `refuses` says so. */
function refuse(
  stage: Stage,
  indexes: readonly number[],
  refusal: string,
  refuses: (args: readonly string[]) => boolean,
): void {
  for (const index of indexes) {
    const server = stage.servers[index];
    const execute = server?.onExecute;
    if (server === undefined || execute === undefined) throw new Error("no such server");
    server.onExecute = (node, command, args, run): Reply =>
      execute(node, command, args, () => {
        const isWrite = ["set", "eval", "evalsha"].includes(command);
        if (isWrite && refuses(args)) throw new ReplyError(refusal);
        return run();
      });
  }
}

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

  it(
    "of a lock that is lost tells the servers once, however often it is called",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 1000);
      await stage.sleep(986);
      await lock.release();
      await stage.sleep(5);
      expect(stage.questions("release")).toHaveLength(5);
      for (const again of [redlock.release(lock), lock.release()]) {
        const { ms, gives } = await stage.timed(again);
        expect(ms).toBe(0);
        expect(gives.attempts).toEqual([]);
      }
      await stage.sleep(5);
      expect(stage.questions("release")).toHaveLength(5);
      expect((await rejection(lock.extend(1000))).message).toContain("was lost");
    }),
  );
});

describe("a release that a server refuses", () => {
  it.each(REFUSALS)("reaches it soon after it takes writes again, by itself: %s", (refusal) =>
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0 });
      const lock = await redlock.acquire("r", 20_000);
      let isRefusing = true;
      refuse(stage, [0, 1, 2], refusal, () => isRefusing);
      expect((await rejection(lock.release())).code).toBe("ERR_REDLOCK_QUORUM");
      await stage.sleep(300);
      expect(stage.holders("r", lock.value)).toEqual([0, 1, 2]);
      isRefusing = false;
      await stage.sleep(600);
      expect(stage.holders("r", lock.value)).toEqual([]);
    })(),
  );

  it(
    "is sent again seldom, and no more once the ttl has passed",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const acquiring = Array.from({ length: 50 }, (_, index) =>
        redlock.acquire(`r${index}`, 10_000),
      );
      const locks = await Promise.all(acquiring);
      refuse(stage, [0], "NOREPLICAS Not enough good replicas to write.", () => true);
      for (const lock of locks) {
        await lock.release();
        await stage.sleep(5);
      }
      const commands = (): number =>
        stage.questions("release").filter(({ node }) => node === 0).length;
      const before = commands();
      // While others are asked, too.
      for (let second = 0; second < 9; second++) {
        await stage.sleep(1000);
        await redlock.inspect("r");
      }
      const sent = commands() - before;
      expect(sent).toBeGreaterThanOrEqual(16);
      expect(sent).toBeLessThanOrEqual(20);
      await stage.sleep(2000);
      const after = commands();
      await stage.sleep(5000);
      expect(commands()).toBe(after);
    }),
  );

  it(
    "does not hold up others that the server takes again",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const [a, b] = [await redlock.acquire("a", 20_000), await redlock.acquire("b", 20_000)];
      let isRefusing = true;
      const refusal = "NOPERM No permissions to access a key";
      refuse(stage, [0], refusal, (args) => isRefusing || args.includes("a"));
      await a.release();
      await b.release();
      await stage.sleep(300);
      isRefusing = false;
      await stage.sleep(1200);
      expect(stage.holders("a", a.value)).toEqual([0]);
      expect(stage.holders("b", b.value)).toEqual([]);
    }),
  );

  it(
    "is left to a connection that comes back, where that is lost meanwhile",
    played(async (stage) => {
      const { redlock, links } = await stage.connect();
      const lock = await redlock.acquire("r", 20_000);
      let isRefusing = true;
      refuse(stage, [0], "LOADING Redis is loading the dataset in memory", () => isRefusing);
      await lock.release();
      await stage.sleep(100);
      links[0]?.cut("both");
      links[0]?.reset();
      await stage.sleep(3000);
      isRefusing = false;
      links[0]?.heal("both");
      await stage.sleep(2000);
      expect(stage.holders("r", lock.value)).toEqual([]);
    }),
  );
});
