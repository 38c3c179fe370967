import { beforeAll, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ask } from "../support/servers.js";
import {
  COMPANIONS,
  companionKey,
  isCompanionKey,
  keyOfSlot,
  permitKeys,
  permitOf,
} from "../../src/operations/companion-key.js";
import { Redlock } from "../../src/index.js";
import { untilWaiting } from "../support/line.js";
import { defined, fresh, rejection, untilFree, valuesOn } from "../support/nodes.js";
import { useServersAndClients } from "../support/use-servers.js";

const TTL_MS = 60_000;

const { servers, clients } = useServersAndClients(3);
let redlock: Redlock;

beforeAll(() => {
  redlock = new Redlock(clients, { nodeTimeout: 5000 });
});

describe("a companion key", () => {
  test.each([
    ["r", "{r}:redlock:line"],
    ["{r}", "{r}::redlock:line"],
    ["a{r}b{}", "a{r}b{}::redlock:line"],
    ["a{r}b}", "a{r}b}::redlock:line"],
    ["{{r}", "{{r}::redlock:line"],
    ["a}b{r}", "a}b{r}::redlock:line"],
    ["a{}b{r}", undefined],
    ["{", undefined],
    ["}", undefined],
  ])("of %s is %s", (key, companion) => {
    expect(companionKey(key, "line")).toBe(companion);
  });

  const name = fc
    .array(fc.constantFrom("{", "}", ":", "a", "\n", ":redlock", ":line", ":fence"), {
      minLength: 1,
      maxLength: 8,
    })
    .map((parts) => parts.join(""));
  const companion = fc.constantFrom(...COMPANIONS);

  test("is of one key alone, and for one purpose", () => {
    fc.assert(
      fc.property(name, companion, name, companion, (a, forA, b, forB) => {
        fc.pre(a !== b || forA !== forB);
        const keys = [companionKey(a, forA), companionKey(b, forB)];
        if (keys[0] !== undefined) expect(keys[0]).not.toBe(keys[1]);
      }),
      { numRuns: 20_000 },
    );
  });

  test("of a permit says of which key, and which permit", () => {
    fc.assert(
      fc.property(name, fc.constantFrom(0, 7, 12, 999), (key, permit) => {
        const slot = permitKeys(key, 1000)?.[permit];
        if (slot !== undefined) expect([keyOfSlot(slot), permitOf(slot)]).toEqual([key, permit]);
        expect([keyOfSlot(key), permitOf(key)]).toEqual([undefined, undefined]);
      }),
      { numRuns: 2000 },
    );
  });

  test("is known as one", () => {
    fc.assert(
      fc.property(name, companion, (key, purpose) => {
        const found = companionKey(key, purpose);
        if (found !== undefined) expect(isCompanionKey(found)).toBe(true);
      }),
      { numRuns: 20_000 },
    );
    expect(isCompanionKey("{order:7}:redlock:permit:12")).toBe(true);
    for (const key of [
      "order:7:redlock:line",
      "{order:7}:line",
      "{order:7}redlock:line",
      "{order:7}:redlock:lines",
      "{order:7}:redlock:line:",
      "{order:7}x:redlock:line",
      "{}:redlock:line",
      "{order:7}:redlock:permit:",
      "{order:7}:redlock",
    ]) {
      expect([key, isCompanionKey(key)]).toEqual([key, false]);
    }
  });

  test.each(["line", "fence", "shared", "permit:3"])(
    "of another lock cannot be locked, whatever prefix it has (%s)",
    async (purpose) => {
      for (const client of clients) client.sent = [];
      for (const [resource, keyPrefix] of [
        [`{order:7}:redlock:${purpose}`, ""],
        [`{order:7}:items::redlock:${purpose}`, ""],
        [`redlock:${purpose}`, "{order:7}:"],
      ] as const) {
        const prefixed = new Redlock(clients, { keyPrefix, queue: false });
        for (const [call, promise] of Object.entries({
          acquire: prefixed.acquire(["free", resource], TTL_MS),
          tryAcquire: prefixed.tryAcquire(resource, TTL_MS),
          using: prefixed.using(resource, TTL_MS, () => "not run"),
          inspect: prefixed.inspect(resource),
        })) {
          const error = await rejection(promise);
          expect(error).toBeInstanceOf(TypeError);
          expect(error.message).toContain(`${call}() cannot use the resource ${resource}:`);
          expect(error.message).toContain(`:redlock:${purpose}.`);
        }
        const json = { ...(await heldJson(keyPrefix)), resources: [resource] };
        expect(() => prefixed.adopt(json)).toThrow("adopt() cannot use the resource");
      }
      const sent = clients.flatMap((client) => client.sent);
      expect(sent.filter((line) => line.includes(`:redlock:${purpose}`))).toEqual([]);
    },
  );
});

async function heldJson(keyPrefix: string) {
  const lock = await new Redlock(clients, { keyPrefix, queue: false }).acquire(fresh(), TTL_MS);
  await lock.release();
  return lock.toJSON();
}

describe("a resource and another that is its name in braces", () => {
  test("have each a line of its own: what is waited for is not reserved by the other's release", async () => {
    const resource = fresh();
    const [plain, tagged] = [resource, `{${resource}}`];
    const locks = [await redlock.acquire(plain, TTL_MS), await redlock.acquire(tagged, TTL_MS)];
    const next = redlock.acquire(plain, TTL_MS, { acquireTimeout: TTL_MS });
    await untilWaiting(redlock, plain, 1);
    const [node] = await redlock.inspect(tagged);
    expect(defined(node).resources[0]?.waiters).toEqual([]);

    await defined(locks[1]).release();
    await untilFree(servers, tagged);
    await defined(locks[0]).release();
    expect((await next).resources).toEqual([plain]);
    await (await next).release();
  });

  test("have each a fence of its own", async () => {
    const resource = fresh();
    for (const name of [resource, `{${resource}}`]) {
      const lock = await redlock.acquire(name, TTL_MS, { fencing: true });
      await Promise.all(lock.attempts);
      await lock.release();
    }
    const fences = [`{${resource}}:redlock:fence`, `{${resource}}::redlock:fence`];
    for (const key of fences) {
      // A node that had not cached the script when the others decided has none.
      const found = await Promise.all(servers.map(({ port }) => ask(port, ["EXISTS", key])));
      expect(found.filter((count) => count === "1").length).toBeGreaterThanOrEqual(2);
    }
  });
});

describe("a name that looks like what stands beside a lock", () => {
  test.each(["alive", "line", "fence"])("can be locked beside it: {name}:%s", async (suffix) => {
    const resource = fresh();
    const beside = `{${resource}}:${suffix}`;
    const held = await redlock.acquire(resource, TTL_MS, { fencing: true });
    const other = await redlock.acquire(beside, TTL_MS, { fencing: true, retryCount: 0 });
    const next = redlock.acquire(resource, TTL_MS, { acquireTimeout: TTL_MS });
    await untilWaiting(redlock, resource, 1);
    await held.release();
    await (await next).release();
    expect(await valuesOn(servers, beside)).toEqual(servers.map(() => other.value));
    await other.release();
  });
});
