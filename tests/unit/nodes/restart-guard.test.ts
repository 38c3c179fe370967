import { describe, expect, it } from "@jest/globals";
import type { RedlockSettings } from "../../../src/settings.js";
import { defined } from "../../support/nodes.js";
import { type Client, played, rejection, type Stage } from "../../virtual-world/stage.js";

const ALL = [0, 1, 2, 3, 4];
const RECONNECTED_MS = 60;
const UNTIL_CHANGED: RedlockSettings = { restartGuard: undefined, retryCount: 0 };

/** Which servers a lock's `SET` reached. */
function asked(stage: Stage, sinceMs: number): number[] {
  return stage.questions("set", sinceMs).map(({ node }) => node);
}

/** When a node with this lock alone against it is next trusted: tries for ever, one ms apart. */
async function msUntilAcquired(stage: Stage, { redlock }: Client, resource: string) {
  const patiently = { retryCount: -1, retryDelay: 10, retryJitter: 0 };
  return (await stage.timed(redlock.acquire(resource, 1000, patiently))).ms;
}

/** As a server that was started so long ago, empty. */
async function startAgain(stage: Stage, indexes: readonly number[], agoMs: number): Promise<void> {
  await stage.restart(indexes);
  await stage.sleep(agoMs);
}

describe("the restart guard", () => {
  it(
    "asks who a node is ahead of the first command of a connection, and costs no round trip",
    played(async (stage) => {
      const { redlock } = await stage.connect({ restartGuard: 10_000 });
      const { ms, gives: lock } = await stage.timed(redlock.acquire("r", 1000));
      expect(ms).toBe(2);
      const first = stage.asked.filter(({ node }) => node === 0);
      expect(first.map(({ command }) => command)).toEqual(["info", "set"]);
      await lock.release();
      await redlock.acquire("r", 1000);
      expect(stage.questions("info")).toHaveLength(5);
    }),
  );

  it(
    "asks nothing where restartGuard is false",
    played(async (stage) => {
      const { redlock } = await stage.connect({ restartGuard: false, retryCount: 0 });
      await redlock.acquire("r", 1000);
      await startAgain(stage, ALL, RECONNECTED_MS);
      await redlock.acquire("r", 1000);
      expect(stage.questions("info")).toEqual([]);
    }),
  );

  it(
    "counts no votes of three of five nodes that forgot, until the guard time since the connection is over",
    played(async (stage) => {
      const client = await stage.connect({ restartGuard: 3000 });
      const holder = await client.redlock.acquire("r", 3000);
      await stage.restart([0, 1, 2]);
      const restartedMs = stage.nowMs;
      await stage.sleep(RECONNECTED_MS);
      const error = await rejection(client.redlock.acquire("r", 1000, { retryCount: 0 }));
      expect(error.message).toContain("restarted or was replaced");
      expect(error.message).toContain("its votes count again in 3.0 s");
      expect(holder.valid).toBe(true);
      await msUntilAcquired(stage, client, "r");
      expect(holder.valid).toBe(false);
      expect(stage.nowMs - restartedMs).toBeGreaterThan(3000);
      expect(stage.nowMs - restartedMs).toBeLessThan(3100);
    }),
  );

  it(
    "asks a node that is held back for nothing anew, and does not wait for it",
    played(async (stage) => {
      const { redlock } = await stage.connect({ restartGuard: 3000, retryCount: 0 });
      await (await redlock.acquire("r", 1000)).release();
      await startAgain(stage, [0], RECONNECTED_MS);
      // Finds out.
      await (await redlock.acquire("r", 1000)).release();
      const sinceMs = stage.nowMs;
      const { ms, gives: lock } = await stage.timed(redlock.acquire("r", 1000));
      expect(ms).toBe(2);
      expect(asked(stage, sinceMs)).toEqual([1, 2, 3, 4]);
      const { votesAgainst } = await defined(lock.attempts[0]);
      const [vote] = votesAgainst.values();
      expect(vote).toMatchObject({ name: "NodeError", code: "ERR_REDLOCK_NODE_DOWN" });
      expect(defined(vote).message).toMatch(
        /^restarted or was replaced \d+ ms ago: its votes count again in 3\.0 s$/,
      );
    }),
  );

  it(
    "sends it extensions and releases, and heals it",
    played(async (stage) => {
      const { redlock } = await stage.connect({ restartGuard: 3000, retryCount: 0 });
      const lock = await redlock.acquire("r", 3000);
      await startAgain(stage, [0], RECONNECTED_MS);
      await (await redlock.acquire("other", 1000)).release();
      await lock.extend(3000);
      await stage.sleep(10);
      expect(stage.holders("r", lock.value)).toEqual(ALL);
      const sinceMs = stage.nowMs;
      await lock.extend(3000);
      expect(stage.questions("extend", sinceMs).map(({ node }) => node)).toEqual(ALL);
      const { attempts } = await lock.release();
      expect((await defined(attempts[0])).votesFor.size).toBe(5);
      expect(stage.holders("r", lock.value)).toEqual([]);
    }),
  );

  it(
    "counts the extension of a node that is held back and kept the value",
    played(async (stage) => {
      const { redlock } = await stage.connect({ restartGuard: 3000, retryCount: 0 });
      const lock = await redlock.acquire("r", 3000);
      await stage.restart([0, 1, 2], true);
      await stage.sleep(RECONNECTED_MS);
      await rejection(redlock.acquire("other", 1000));
      await lock.extend(3000);
      expect(lock.remaining).toBeGreaterThan(2900);
    }),
  );

  it(
    "counts a node at once that is the same after a reconnection",
    played(async (stage) => {
      const { redlock, links } = await stage.connect({ restartGuard: 3000, retryCount: 0 });
      await (await redlock.acquire("r", 1000)).release();
      for (const link of links) link.reset();
      await stage.sleep(RECONNECTED_MS);
      const lock = await redlock.acquire("r", 1000);
      expect((await defined(lock.attempts[0])).votesFor.size).toBe(5);
      expect(stage.questions("info")).toHaveLength(10);
    }),
  );

  it(
    "counts the guard time from the connection, not from when it is next needed",
    played(async (stage) => {
      const { redlock } = await stage.connect({ restartGuard: 3000, retryCount: 0 });
      await (await redlock.acquire("r", 1000)).release();
      await startAgain(stage, ALL, 3100);
      await redlock.acquire("r", 1000);
    }),
  );

  it(
    "takes the longest ttl in use as the guard time, extensions included",
    played(async (stage) => {
      const client = await stage.connect({ ...UNTIL_CHANGED, retryCount: 0 });
      const lock = await client.redlock.acquire("r", 1000);
      await lock.extend(4000);
      await stage.restart([0, 1, 2]);
      const restartedMs = stage.nowMs;
      await stage.sleep(RECONNECTED_MS);
      await msUntilAcquired(stage, client, "other");
      expect(stage.nowMs - restartedMs).toBeGreaterThan(4000);
      expect(stage.nowMs - restartedMs).toBeLessThan(4100);
    }),
  );

  it(
    "holds a node back for longer where a longer ttl is used meanwhile",
    played(async (stage) => {
      const { redlock } = await stage.connect(UNTIL_CHANGED);
      await (await redlock.acquire("r", 1000)).release();
      await startAgain(stage, [0, 1, 2], 2000);
      await (await redlock.acquire("r", 1000)).release();
      const error = await rejection(redlock.acquire("r", 6000));
      expect(error.message).toContain("its votes count again in");
    }),
  );

  it(
    "holds back one young node of five at first contact, by its uptime less 2 s",
    played(async (stage) => {
      await startAgain(stage, [0], 5000);
      const { redlock } = await stage.connect(UNTIL_CHANGED);
      const first = await redlock.acquire("r", 10_000);
      expect((await defined(first.attempts[0])).votesFor.size).toBe(4);
      // Its uptime was 5 s by its own word.
      await stage.sleep(6900);
      const before = await redlock.acquire("s", 10_000);
      expect((await defined(before.attempts[0])).votesFor.size).toBe(4);
      await stage.sleep(200);
      const after = await redlock.acquire("t", 10_000);
      expect((await defined(after.attempts[0])).votesFor.size).toBe(5);
    }),
  );

  it(
    "counts at first contact a node that is older than the guard time",
    played(async (stage) => {
      await startAgain(stage, [0], 5100);
      const { redlock } = await stage.connect(UNTIL_CHANGED);
      const lock = await redlock.acquire("r", 3000);
      expect((await defined(lock.attempts[0])).votesFor.size).toBe(5);
    }),
  );

  it.each([1, 2, 3, 4, 5])("starts at once on a fresh deployment of %i nodes", (count) =>
    played(async (stage) => {
      const all = ALL.filter((index) => index < count);
      await startAgain(stage, all, 100);
      const { redlock } = await stage.connect(UNTIL_CHANGED);
      const { ms, gives: lock } = await stage.timed(redlock.acquire("r", 10_000));
      expect(ms).toBe(2);
      expect((await defined(lock.attempts[0])).votesFor.size).toBe(count);
    }, count)(),
  );

  it(
    "starts at once on a fresh deployment, a minority of which is frozen or down",
    played(async (stage) => {
      await startAgain(stage, ALL, 100);
      const { redlock } = await stage.connect(UNTIL_CHANGED);
      stage.freeze([0]);
      stage.crash([1]);
      const { ms, gives: lock } = await stage.timed(redlock.acquire("r", 10_000));
      expect(ms).toBe(2);
      expect((await defined(lock.attempts[0])).votesFor.size).toBe(3);
    }),
  );

  it(
    "goes on at once on a deployment that a longer ttl than before makes fresh",
    played(async (stage) => {
      await startAgain(stage, ALL, 5000);
      const { redlock } = await stage.connect(UNTIL_CHANGED);
      await redlock.acquire("r", 1000);
      const lock = await redlock.acquire("s", 10_000);
      expect((await defined(lock.attempts[0])).votesFor.size).toBe(5);
    }),
  );

  it(
    "refuses within its time where a young node waits for what another says",
    played(async (stage) => {
      await startAgain(stage, [0], 100);
      const { redlock } = await stage.connect(UNTIL_CHANGED);
      stage.freeze([1]);
      stage.occupy([2], "r");
      const { ms, gives: error } = await stage.timed(
        rejection(redlock.acquire("r", 10_000, { nodeTimeout: 100 })),
      );
      expect(ms).toBeLessThan(110);
      expect(error.message).toMatch(/node-1:6379 started \d+ ms ago/);
      expect(error.message).toContain("node-2:6379 no answer in 100 ms");
    }),
  );

  it(
    "knows no such exception where restartGuard is given",
    played(async (stage) => {
      await startAgain(stage, ALL, 100);
      const { redlock } = await stage.connect({ restartGuard: 3000, retryCount: 0 });
      const error = await rejection(redlock.acquire("r", 1000));
      expect(error.message).toMatch(/started \d+ ms ago: its votes count again in 3\.0 s/);
      await stage.sleep(3000);
      await redlock.acquire("r", 1000);
    }),
  );

  it(
    "waits for no other node then",
    played(async (stage) => {
      await startAgain(stage, ALL, 100);
      const { redlock } = await stage.connect({ restartGuard: 3000, retryCount: 0 });
      stage.freeze([0]);
      expect((await stage.timed(rejection(redlock.acquire("r", 1000)))).ms).toBe(2);
    }),
  );

  it(
    "knows no such exception for nodes that restart before its eyes",
    played(async (stage) => {
      await startAgain(stage, ALL, 100);
      const { redlock } = await stage.connect(UNTIL_CHANGED);
      await (await redlock.acquire("r", 3000)).release();
      await startAgain(stage, ALL, RECONNECTED_MS);
      await rejection(redlock.acquire("r", 3000));
    }),
  );

  it(
    "counts the first contact with nodes that refuse INFO, and holds them back after a reconnection",
    played(async (stage) => {
      for (const server of stage.servers) server.refuses = "info";
      const { redlock } = await stage.connect({ restartGuard: 3000, retryCount: 0 });
      const lock = await redlock.acquire("r", 1000);
      expect((await defined(lock.attempts[0])).votesFor.size).toBe(5);
      await lock.release();
      await startAgain(stage, ALL, RECONNECTED_MS);
      const error = await rejection(redlock.acquire("r", 1000));
      expect(error.message).toContain("cannot say whether it restarted");
      await stage.sleep(3000);
      await redlock.acquire("r", 1000);
    }),
  );

  it(
    "counts no vote of a node that could not answer who it is just then, and asks again",
    played(async (stage) => {
      for (const server of stage.servers) server.refuses = "info";
      for (const server of stage.servers) server.refusal = "BUSY Redis is busy running a script.";
      const { redlock } = await stage.connect({ restartGuard: 3000, retryCount: 0 });
      const error = await rejection(redlock.acquire("r", 1000));
      expect(error.message).toContain("could not say yet whether it restarted");
      for (const server of stage.servers) server.refuses = undefined;
      await redlock.acquire("r", 1000);
    }),
  );

  it(
    "is seen by inspect, with its end by this host's clock",
    played(async (stage) => {
      const { redlock, host } = await stage.connect({ restartGuard: 3000, retryCount: 0 });
      await (await redlock.acquire("r", 1000)).release();
      await startAgain(stage, [0], RECONNECTED_MS);
      const [held, ...others] = await redlock.inspect("r");
      const { wallMs } = host.environment.now();
      expect(defined(held).ok).toBe(true);
      expect(defined(defined(held).heldBackUntil) - wallMs).toBeGreaterThan(2900);
      expect(defined(defined(held).heldBackUntil) - wallMs).toBeLessThan(3000);
      for (const other of others) expect(other).not.toHaveProperty("heldBackUntil");
      await stage.sleep(3000);
      expect((await redlock.inspect("r"))[0]).not.toHaveProperty("heldBackUntil");
    }),
  );
});
