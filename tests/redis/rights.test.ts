import { beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { ask } from "../support/servers.js";
import { Redlock } from "../../src/index.js";
import { joinAbsent, untilWaiting } from "../support/line.js";
import { defined, fresh, rejection, untilFree, untilHeld, valuesOn } from "../support/nodes.js";
import { rulesThatExist } from "../support/rights.js";
import { useServers } from "../support/use-servers.js";

/** Redis 6 and 7.0, and what came after them. */
const REFUSED = /can't run this command|no permissions to run/;

let redlock: Redlock;
const servers = useServers(3, { beforeStop: () => redlock.quit() });

beforeAll(async () => {
  await setRights();
  redlock = new Redlock(
    servers.map(({ port }) => `redis://limited:secret@127.0.0.1:${port}`),
    { nodeTimeout: 5000, retryCount: 0 },
  );
});

beforeEach(() => setRights());

/** Gives the client's user every right but these. */
async function setRights(...rules: string[]): Promise<void> {
  const all = rulesThatExist(["allkeys", "allchannels", "+@all"]);
  const command = ["ACL", "SETUSER", "limited", "on", ">secret", ...all];
  await Promise.all(servers.map(({ port }) => ask(port, [...command, ...rules])));
}

function onEach<T>(of: T): T[] {
  return servers.map(() => of);
}

describe("a user without the right to GET", () => {
  test.each([
    ["one resource", 1, { queue: true }],
    ["one resource without a queue", 1, { queue: false }],
    ["several resources", 2, { queue: true }],
    ["several resources without a queue", 2, { queue: false }],
  ])("cannot release a lock on %s, and is told so", async (_, count, settings) => {
    const resources = Array.from({ length: count }, () => fresh());
    const lock = await redlock.acquire(resources, 60_000, settings);
    await untilHeld(servers, lock);
    await setRights("-get");
    const error = await rejection(redlock.release(lock, settings));
    expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    expect(error.message).toMatch(REFUSED);
    for (const resource of resources) {
      expect(await valuesOn(servers, resource)).toEqual(onEach(lock.value));
    }
  });

  test("cannot release where others wait, and is told so", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    await untilHeld(servers, lock);
    const giveUp = new AbortController();
    const waiting = rejection(
      redlock.acquire(resource, 60_000, { retryCount: -1, signal: giveUp.signal }),
    );
    await untilWaiting(redlock, resource, 1);
    await setRights("-get");
    const error = await rejection(lock.release());
    expect(error.message).toMatch(REFUSED);
    expect(await valuesOn(servers, resource)).toEqual(onEach(lock.value));
    giveUp.abort();
    await waiting;
  });

  test.each([[false], [true]])(
    "cannot extend a lock, but keeps it (fencing: %s)",
    async (fencing) => {
      const lock = await redlock.acquire(fresh(), 60_000, { fencing });
      await setRights("-get");
      const error = await rejection(lock.extend(60_000));
      expect(error.code).toBe("ERR_REDLOCK_QUORUM");
      expect(error.message).toMatch(REFUSED);
      expect(error.message).not.toContain("holds this lock no longer");
      expect(lock.valid).toBe(true);
      await setRights();
      await lock.extend(60_000);
      await lock.release();
    },
  );

  test("cannot acquire a fenced lock, and is told so", async () => {
    const resource = fresh();
    await setRights("-get");
    const error = await rejection(redlock.acquire(resource, 60_000, { fencing: true }));
    expect(error.message).toMatch(REFUSED);
    expect(error.message).not.toContain("fencing token");
    expect(await valuesOn(servers, resource)).toEqual(onEach(null));
  });

  test("has the error for each operation of a batch", async () => {
    const locks = await Promise.all(
      [fresh(), fresh()].map((name) => redlock.acquire(name, 60_000)),
    );
    await setRights("-get", "-mget");
    const extended = await Promise.all(locks.map((lock) => rejection(lock.extend(60_000))));
    const released = await Promise.all(locks.map((lock) => rejection(lock.release())));
    for (const { message } of [...extended, ...released]) expect(message).toMatch(REFUSED);
  });
});

describe("a user without the right to MGET", () => {
  test("releases several locks at once all the same", async () => {
    const locks = await Promise.all(
      [fresh(), fresh()].map((name) => redlock.acquire(name, 60_000)),
    );
    for (const lock of locks) await untilHeld(servers, lock);
    await setRights("-mget");
    await Promise.all(locks.map((lock) => lock.release()));
    for (const lock of locks) await untilFree(servers, defined(lock.resources[0]));
  });
});

describe("a user without the right to PUBLISH", () => {
  test("gets one report per node if it releases a lock for which others wait", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    // The waiter could take a key that is still on its way.
    await untilHeld(servers, lock);
    const waiter = new Redlock(
      servers.map(({ port }) => `redis://127.0.0.1:${port}`),
      { nodeTimeout: 5000, retryCount: -1, retryDelay: 100, retryJitter: 0 },
    );
    const reports: [string, string | undefined][] = [];
    redlock.on("error", (error: Error, node?: string) => {
      if (error.message.includes("could not notify")) reports.push([error.message, node]);
    });
    try {
      const given = waiter.acquire(resource, 60_000);
      await untilWaiting(redlock, resource, 1);
      // The waiter polls. It may acquire, and leave the queue of a node that has not read the release yet.
      await joinAbsent(servers, resource, "absent", { channel: "absent" });
      await setRights("-publish");
      const { attempts } = await lock.release();
      await Promise.all(attempts);
      await (await given).release();
      expect(reports.map(([, node]) => node).sort()).toEqual(
        servers.map(({ port }) => `127.0.0.1:${port}`).sort(),
      );
      for (const [message] of reports) {
        expect(message).toMatch(REFUSED);
        expect(message).toContain("Give the client the right to PUBLISH");
      }
    } finally {
      redlock.removeAllListeners("error");
      await waiter.quit();
    }
  });
});

describe("a key that holds something that is no lock", () => {
  test.each([[true], [false]])("is not ours, which is no error (queue: %s)", async (queue) => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000, { queue });
    const other = await redlock.acquire(fresh(), 60_000, { queue });
    for (const name of [resource, defined(other.resources[0])]) {
      for (const { port } of servers) {
        await ask(port, ["DEL", name]);
        await ask(port, ["RPUSH", name, "item"]);
      }
    }
    expect((await rejection(lock.extend(60_000))).message).toContain("holds this lock no longer");
    const { attempts } = await other.release();
    expect((await defined(attempts[0])).votesFor.size).toBe(3);
    for (const { port } of servers) expect(await ask(port, ["TYPE", resource])).toBe("list");
  });
});
