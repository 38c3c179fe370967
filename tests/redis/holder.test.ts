import { beforeAll, describe, expect, test } from "@jest/globals";
import { ExecutionError, Redlock } from "../../src/index.js";
import { joinAbsent, untilWaiting } from "../support/line.js";
import { defined, fresh, occupy, rejection, untilHeld } from "../support/nodes.js";
import { ask } from "../support/servers.js";
import { useServersAndClients } from "../support/use-servers.js";

/** Long, so that a busy machine fails no vote. */
const PATIENT_MS = 5000;
const TTL_MS = 60_000;
const OWNER = "api-7/4211";

const { servers, clients } = useServersAndClients(5);
let redlock: Redlock;

beforeAll(() => {
  redlock = new Redlock(clients, { nodeTimeout: PATIENT_MS, owner: OWNER });
});

describe("holder", () => {
  test("is null for a resource that nobody holds", async () => {
    expect(await redlock.holder(fresh())).toBeNull();
  });

  test("says who holds a lock, with which value, and for how long", async () => {
    const [resource, extended] = [fresh(), fresh()];
    const lock = await redlock.acquire(resource, TTL_MS);
    const holder = defined(await new Redlock(clients, { owner: "asks" }).holder(resource));
    expect(holder).toEqual({
      owner: OWNER,
      value: lock.value,
      remainingMs: expect.any(Number),
      shared: false,
      waiters: 0,
    });
    expect(holder.remainingMs).toBeGreaterThan(TTL_MS - 30_000);
    expect(holder.remainingMs).toBeLessThanOrEqual(TTL_MS);
    await lock.release();
    expect(await redlock.holder(resource)).toBeNull();

    const other = await redlock.acquire(extended, 1000);
    await other.extend(600_000);
    expect(defined(await redlock.holder(extended)).remainingMs).toBeGreaterThan(500_000);
    await other.release();
  });

  test("has the fencing token of a fenced lock, and not that of an earlier one", async () => {
    const resource = fresh();
    const fenced = await redlock.acquire(resource, TTL_MS, { fencing: true });
    expect(defined(fenced.fence)).toBeGreaterThan(0);
    expect(await redlock.holder(resource)).toMatchObject({ fence: fenced.fence });
    await fenced.release();
    const plain = await redlock.acquire(resource, TTL_MS);
    const holder = defined(await redlock.holder(resource));
    expect(holder.value).toBe(plain.value);
    expect(holder).not.toHaveProperty("fence");
    await plain.release();
  });

  test("counts the processes that wait", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, TTL_MS);
    const giveUp = new AbortController();
    const others = servers.slice(0, 2).map(
      () =>
        new Redlock(
          servers.map(({ url }) => url),
          { nodeTimeout: PATIENT_MS },
        ),
    );
    const settings = { retryCount: -1, signal: giveUp.signal };
    const waiting = others.map((other) => rejection(other.acquire(resource, TTL_MS, settings)));
    await untilWaiting(redlock, resource, 2);
    expect(await redlock.holder(resource)).toMatchObject({ owner: OWNER, waiters: 2 });
    giveUp.abort();
    await Promise.all(waiting);
    await lock.release();
    await Promise.all(others.map((other) => other.quit()));
  });

  test("is null while the nodes are reserved for a waiter that has not come yet", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, TTL_MS);
    await untilHeld(servers, lock);
    await joinAbsent(servers, resource, "absent");
    await Promise.all((await lock.release()).attempts);
    for (const { resources } of await redlock.inspect(resource)) {
      expect(resources[0]).toMatchObject({ reservedFor: "absent", value: null });
    }
    expect(await redlock.holder(resource)).toBeNull();
  });

  test("is null where no quorum agrees, although each node holds something", async () => {
    const resource = fresh();
    await occupy(servers.slice(0, 2), resource, `${"a".repeat(32)} one`);
    await occupy(servers.slice(2, 4), resource, `${"b".repeat(32)} two`);
    expect(await redlock.holder(resource)).toBeNull();
    await occupy(servers.slice(4), resource, `${"b".repeat(32)} two`);
    expect(await redlock.holder(resource)).toMatchObject({ owner: "two", remainingMs: Infinity });
  });

  test("ends, as the quorum's lock does, with the third of five keys", async () => {
    const resource = fresh();
    const value = `${"a".repeat(32)} ${OWNER}`;
    const ttls = ["10000", "20000", "30000", "40000", "50000"];
    await Promise.all(
      servers.map(({ port }, index) =>
        ask(port, ["SET", resource, value, "PX", defined(ttls[index])]),
      ),
    );
    const { remainingMs } = defined(await redlock.holder(resource));
    expect(remainingMs).toBeGreaterThan(20_000);
    expect(remainingMs).toBeLessThanOrEqual(30_000);
  });

  test("shows the lock of another library without an owner, and no key of another type", async () => {
    const [foreign, list] = [fresh(), fresh()];
    await occupy(servers, foreign, "somebody else's");
    await Promise.all(servers.map(({ port }) => ask(port, ["RPUSH", list, "item"])));
    const holder = await redlock.holder(foreign);
    expect(holder).toMatchObject({ owner: undefined, value: "somebody else's" });
    expect(await redlock.holder(list)).toBeNull();
  });

  test("reads under the key prefix", async () => {
    const prefixed = new Redlock(clients, { keyPrefix: "app:", nodeTimeout: PATIENT_MS });
    const resource = fresh();
    const lock = await prefixed.acquire(resource, TTL_MS);
    expect(await redlock.holder(resource)).toBeNull();
    expect(await prefixed.holder(resource)).toMatchObject({ value: lock.value });
    await lock.release();
  });

  test.each([[undefined], [["a", "b"]], [""], [7], [null]])("refuses %p", async (wrong) => {
    const error = await rejection(redlock.holder(wrong as string));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.code).toBe("ERR_REDLOCK_INVALID_ARGUMENT");
    expect(error.message).toContain("holder()");
  });

  test("changes nothing", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, TTL_MS);
    await untilHeld(servers, lock);
    for (const client of clients) client.sent = [];
    await redlock.holder(resource);
    const commands = clients.flatMap(({ sent }) => sent.map((line) => line.split(" ")[0]));
    expect(commands.filter((command) => !["evalsha", "eval"].includes(defined(command)))).toEqual(
      [],
    );
    expect(await redlock.holder(resource)).toMatchObject({ value: lock.value });
    await lock.release();
  });
});

describe("holder with nodes in trouble", () => {
  const { servers: troubled, clients: theirs } = useServersAndClients(5);

  test("answers with a minority frozen or dead; and says unavailable without a quorum", async () => {
    const resource = fresh();
    const asking = new Redlock(theirs, { nodeTimeout: 500, owner: OWNER });
    const lock = await asking.acquire(resource, TTL_MS, { nodeTimeout: PATIENT_MS });
    await untilHeld(troubled, lock);
    await defined(troubled[0]).freeze();
    await defined(troubled[1]).kill();
    const patient = new Redlock(theirs, { nodeTimeout: PATIENT_MS });
    expect(await patient.holder(resource)).toMatchObject({ owner: OWNER, value: lock.value });
    await defined(troubled[2]).freeze();
    const error = await rejection(asking.holder(resource));
    for (const index of [0, 2]) defined(troubled[index]).thaw();
    expect(error).toBeInstanceOf(ExecutionError);
    expect(error).toMatchObject({
      code: "ERR_REDLOCK_QUORUM",
      reason: "unavailable",
      resources: [resource],
    });
    expect(error.message).toContain(`cannot tell who holds ${resource}`);
    expect(error.message).toContain("2 of 5 nodes answered, 3 needed");
    for (const index of [0, 1, 2]) {
      expect(error.message).toContain(`127.0.0.1:${defined(troubled[index]).port}`);
    }
  });

  test("rejects once the Redlock is closed", async () => {
    const closed = new Redlock(troubled.map(({ url }) => url));
    await closed.quit();
    expect(await rejection(closed.holder(fresh()))).toMatchObject({
      code: "ERR_REDLOCK_CLOSED",
      reason: "closed",
    });
  });
});
