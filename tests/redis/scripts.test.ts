import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { ask, type RedisServer, startServer } from "../support/servers.js";
import { acquireFencedScript } from "../../src/operations/acquire-fenced.js";
import { acquireScript } from "../../src/operations/acquire.js";
import { batchOf, batchScript, repliesOf } from "../../src/operations/batch.js";
import { handOverScript } from "../../src/operations/hand-over.js";
import { joinScript } from "../../src/operations/join.js";
import { Operation } from "../../src/operations/operation.js";
import { releaseScript } from "../../src/operations/release.js";
import { acquireSharedScript, releaseSharedScript } from "../../src/operations/shared.js";
import type { OperationScript } from "../../src/operations/script.js";
import { takeFencedScript } from "../../src/operations/take-fenced.js";
import { takeScript } from "../../src/operations/take.js";

let server: RedisServer;

beforeAll(async () => {
  server = await startServer();
});

afterAll(() => server.stop());

/** A server that refuses to SET the keys whose name begins with `full`, as none does by itself within a script. */
const REFUSING = `
local server = redis
local redis = {
  call = server.call,
  error_reply = server.error_reply,
  pcall = function(command, key, ...)
    if command == 'SET' and string.sub(key, 1, 4) == 'full' then
      return server.error_reply("OOM command not allowed when used memory > 'maxmemory'.")
    end
    return server.pcall(command, key, ...)
  end,
}
`;

const STANDING = ["1", "id", "", "100", "5000"];
const withLines = (key: string): string[] => [key, `line of ${key}`, `alive of ${key}`];
const fenceOf = (key: string): string => `fence of ${key}`;

describe("a script that sets several keys", () => {
  const scripts = [
    { name: "acquire", script: acquireScript, keysOf: (keys: string[]) => keys, rest: [] },
    {
      name: "acquire with a fence",
      script: acquireFencedScript,
      keysOf: (keys: string[]) => [...keys, ...keys.map(fenceOf)],
      rest: ["1700000000000000"],
    },
    {
      name: "take",
      script: takeScript,
      keysOf: (keys: string[]) => keys.flatMap(withLines),
      rest: STANDING,
    },
    {
      name: "take with a fence",
      script: takeFencedScript,
      keysOf: (keys: string[]) => [...keys.flatMap(withLines), ...keys.map(fenceOf)],
      rest: ["1700000000000000", ...STANDING],
    },
  ];

  test.each(scripts)(
    "of which one is refused sets none, and says why ($name)",
    async ({ script, keysOf, rest }) => {
      for (const locks of [
        ["full", "a", "b"],
        ["a", "full", "b"],
        ["a", "b", "full"],
      ]) {
        const keys = keysOf(locks);
        const count = String(keys.length);
        const call = ["EVAL", REFUSING + script.text, count, ...keys, "value", "60000", ...rest];
        await ask(server.port, ["FLUSHALL"]);
        await expect(ask(server.port, call)).rejects.toThrow("OOM");
        expect(await ask(server.port, ["EXISTS", ...locks])).toBe("0");
      }
    },
  );

  test.each(scripts)(
    "of which all can be set sets all ($name)",
    async ({ script, keysOf, rest }) => {
      const keys = keysOf(["a", "b", "c"]);
      const count = String(keys.length);
      await ask(server.port, ["FLUSHALL"]);
      await ask(server.port, [
        "EVAL",
        REFUSING + script.text,
        count,
        ...keys,
        "value",
        "60000",
        ...rest,
      ]);
      expect(await ask(server.port, ["EXISTS", "a", "b", "c"])).toBe("3");
    },
  );
});

type Shape = readonly [OperationScript, readonly string[], readonly string[]];

/** Runs the operations as one batch, and returns their replies. */
async function inOneBatch(shapes: readonly Shape[], before = ""): Promise<unknown[]> {
  const operations = shapes.map(([script, keys, args]) => new Operation(script, keys, args));
  const [, ...args] = batchOf(operations).args.map(String);
  return repliesOf(await ask(server.port, ["EVAL", before + batchScript.text, ...args]));
}

describe("the script of a batch", () => {
  test("goes on after each operation that raises an error, with the keys and arguments of the next", async () => {
    const shapes: Shape[] = [
      [acquireScript, ["a"], ["of a", "60000"]],
      [acquireScript, ["b"], ["of b", "no ttl"]],
      [acquireScript, ["c"], ["of c", "no ttl"]],
      [acquireScript, ["d"], ["of d", "60000"]],
      [releaseScript, ["a"], ["of a"]],
      [acquireScript, ["e"], ["of e", "no ttl"]],
      [acquireScript, ["f", "g"], ["of both", "60000"]],
    ];
    await ask(server.port, ["FLUSHALL"]);
    const replies = await inOneBatch(shapes);
    const notSet = /^ERR value is not an integer/;
    expect(
      replies.map((reply) => (reply instanceof Error ? notSet.test(reply.message) : reply)),
    ).toEqual([1, true, true, 1, 1, true, 2]);
    const held = `local held = {}
      for i, key in ipairs(KEYS) do held[i] = redis.call('GET', key) or 'nothing' end
      return table.concat(held, ', ')`;
    const keys = ["a", "b", "c", "d", "e", "f", "g"];
    expect(await ask(server.port, ["EVAL", held, "7", ...keys])).toBe(
      "nothing, nothing, nothing, of d, nothing, of both, of both",
    );
  });

  const names = Array.from({ length: 50 }, (_, index) => `lock ${index}`);
  const deletions: {
    name: string;
    deletion: OperationScript;
    keysOf: (key: string) => string[];
  }[] = [
    { name: "releases", deletion: releaseScript, keysOf: (key) => [key] },
    { name: "hands over", deletion: handOverScript, keysOf: withLines },
  ];

  async function acquireAll(keys: readonly string[], others: readonly Shape[] = []): Promise<void> {
    await ask(server.port, ["FLUSHALL"]);
    await inOneBatch([
      ...keys.map((key): Shape => [acquireScript, [key], [`of ${key}`, "60000"]]),
      ...others,
    ]);
  }

  /** How often a script has called this command since the last reset. */
  async function callsOf(command: string): Promise<number> {
    const stats = await ask(server.port, ["INFO", "commandstats"]);
    return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
  }

  test.each(deletions)("$name a run of locks with one call of each kind", async (each) => {
    await acquireAll(names);
    await ask(server.port, ["CONFIG", "RESETSTAT"]);
    const all = names.map((key): Shape => [each.deletion, each.keysOf(key), [`of ${key}`]]);
    expect(await inOneBatch(all)).toEqual(names.map(() => 1));
    expect([await callsOf("mget"), await callsOf("del"), await callsOf("get")]).toEqual([1, 1, 0]);
    expect(await ask(server.port, ["DBSIZE"])).toBe("0");
  });

  test.each(deletions)("$name only what a lock still holds, and each once", async (each) => {
    await acquireAll(["own", "twice", "other's"]);
    await ask(server.port, ["RPUSH", "list", "item"]);
    const run = ([key, value]: readonly [string, string]): Shape => [
      each.deletion,
      each.keysOf(key),
      [value],
    ];
    const replies = await inOneBatch(
      (
        [
          ["twice", "of another"],
          ["twice", "of twice"],
          ["other's", "of own"],
          ["twice", "of twice"],
          ["gone", "of gone"],
          ["list", "item"],
          ["own", "of own"],
        ] as const
      ).map(run),
    );
    expect(replies).toEqual([0, 1, 0, 0, 0, 0, 1]);
    expect(await ask(server.port, ["EXISTS", "own", "twice", "other's", "list"])).toBe("2");
  });

  test.each(deletions)(
    "$name one by one where the server refuses MGET, DEL or EXISTS",
    async (each) => {
      for (const command of ["MGET", "DEL", "EXISTS"]) {
        await acquireAll(names);
        const refusing = `
        local server, refused = redis, 0
        local redis = {
          call = server.call,
          pcall = function(command, ...)
            if command ~= '${command}' or refused == 1 then return server.pcall(command, ...) end
            refused = 1
            return server.error_reply('NOPERM no permissions')
          end,
        }`;
        const all = names.map((key): Shape => [each.deletion, each.keysOf(key), [`of ${key}`]]);
        expect(await inOneBatch(all, refusing)).toEqual(names.map(() => 1));
        expect(await ask(server.port, ["DBSIZE"])).toBe("0");
      }
    },
  );

  test("hands over to the waiter for one lock of a run, and deletes the others", async () => {
    const entry = ["1", "id", "", "60000", "60000"];
    await acquireAll(["a", "b", "c"], [[joinScript, withLines("b"), entry]]);
    const all = ["a", "b", "c"].map((key): Shape => [
      handOverScript,
      withLines(key),
      [`of ${key}`],
    ]);
    expect(await inOneBatch(all)).toEqual([1, 1, 1]);
    expect(await ask(server.port, ["EXISTS", "a", "c"])).toBe("0");
    expect(await ask(server.port, ["GET", "b"])).toBe("reserved 1 id");
  });

  const setOf = (key: string): string => `{${key}}:redlock:shared`;
  const enters = (key: string, value: string, ttl = "60000"): Shape => [
    acquireSharedScript,
    [...withLines(key), setOf(key)],
    [value, ttl, "3"],
  ];
  const leaves = (key: string, value: string): Shape => [
    handOverScript,
    [...withLines(key), setOf(key)],
    [value, "1"],
  ];
  const many = Array.from({ length: 50 }, (_, index) => `reader ${index}`);

  /** The values of the readers that the set has, in the order in which they end. */
  async function readersOf(key: string): Promise<string> {
    const list = "return table.concat(redis.call('ZRANGE', KEYS[1], 0, -1), ', ')";
    return ask(server.port, ["EVAL", list, "1", setOf(key)]);
  }

  async function ttlOf(key: string): Promise<number> {
    return Number(await ask(server.port, ["PTTL", key]));
  }

  test("lets readers of one lock in, and ends them, with one call for all", async () => {
    const withoutQueues: { enter: (value: string) => Shape; leave: (value: string) => Shape } = {
      enter: (value) => [acquireSharedScript, ["r", setOf("r")], [value, "60000", "1"]],
      leave: (value) => [releaseSharedScript, ["r", setOf("r")], [value]],
    };
    const withQueues: typeof withoutQueues = {
      enter: (value) => enters("r", value),
      leave: (value) => leaves("r", value),
    };
    for (const { enter, leave } of [withQueues, withoutQueues]) {
      await ask(server.port, ["FLUSHALL"]);
      await ask(server.port, ["CONFIG", "RESETSTAT"]);
      expect(await inOneBatch(many.map(enter))).toEqual(many.map(() => 1));
      expect([await callsOf("zadd"), await callsOf("set")]).toEqual([2, 1]);
      expect((await readersOf("r")).split(", ").sort()).toEqual([...many].sort());
      expect(await ask(server.port, ["GET", "r"])).toBe("shared");
      await ask(server.port, ["CONFIG", "RESETSTAT"]);
      const replies = await inOneBatch(many.map(leave));
      expect(replies).toEqual(many.map((_, index) => (index === many.length - 1 ? 1 : 0)));
      expect([await callsOf("zrem"), await callsOf("del")]).toEqual([1, 1]);
      expect(await ask(server.port, ["DBSIZE"])).toBe("0");
    }
  });

  test("keeps the marker of readers that come or leave together as long as the last of them", async () => {
    await ask(server.port, ["FLUSHALL"]);
    const ttls = ["20000", "90000", "50000"];
    await inOneBatch(ttls.map((ttl) => enters("r", ttl, ttl)));
    expect(await readersOf("r")).toBe("20000, 50000, 90000");
    for (const key of ["r", setOf("r")]) {
      expect(await ttlOf(key)).toBeGreaterThan(50_000);
      expect(await ttlOf(key)).toBeLessThanOrEqual(90_000);
    }
    await inOneBatch([leaves("r", "90000"), leaves("r", "50000")]);
    expect(await readersOf("r")).toBe("20000");
    for (const key of ["r", setOf("r")]) expect(await ttlOf(key)).toBeLessThanOrEqual(20_000);
    // One that is there already stays for longer, beside one that comes.
    expect(
      await inOneBatch([enters("r", "20000", "70000"), enters("r", "other", "30000")]),
    ).toEqual([1, 1]);
    expect(await readersOf("r")).toBe("other, 20000");
    expect(
      await inOneBatch([enters("r", "other", "95000"), enters("r", "other", "99000")]),
    ).toEqual([1, 1]);
    expect(await readersOf("r")).toBe("20000, other");
    expect(await ttlOf("r")).toBeGreaterThan(70_000);
  });

  test("lets no readers in together beside a writer, or past one that waits, and hands over once all have left", async () => {
    await acquireAll(["r"]);
    expect(await inOneBatch([enters("r", "one"), enters("r", "two")])).toEqual([0, 0]);
    expect(await ask(server.port, ["GET", "r"])).toBe("of r");
    await ask(server.port, ["FLUSHALL"]);
    const entry = ["1", "writer", "", "60000", "60000"];
    await inOneBatch([enters("r", "one"), enters("r", "two"), [joinScript, withLines("r"), entry]]);
    expect(await inOneBatch([enters("r", "three"), enters("r", "four")])).toEqual([0, 0]);
    expect(await readersOf("r")).toBe("one, two");
    await inOneBatch([leaves("r", "one"), leaves("r", "nobody")]);
    expect(await ask(server.port, ["GET", "r"])).toBe("shared");
    expect(await inOneBatch([leaves("r", "two"), leaves("r", "two")])).toEqual([0, 1]);
    expect(await ask(server.port, ["GET", "r"])).toBe("reserved 1 writer");
  });

  test("takes readers of several locks one by one, also two of two locks without queues", async () => {
    await ask(server.port, ["FLUSHALL"]);
    const ofBoth = (value: string): Shape => [
      acquireSharedScript,
      ["a", "b", setOf("a"), setOf("b")],
      [value, "60000", "1"],
    ];
    expect(await inOneBatch([enters("a", "one"), enters("b", "two")])).toEqual([1, 1]);
    expect(await inOneBatch([ofBoth("three"), ofBoth("four")])).toEqual([2, 2]);
    expect(await inOneBatch([enters("a", "five"), ofBoth("six")])).toEqual([1, 2]);
    expect((await readersOf("a")).split(", ").sort()).toEqual([
      "five",
      "four",
      "one",
      "six",
      "three",
    ]);
    expect((await readersOf("b")).split(", ").sort()).toEqual(["four", "six", "three", "two"]);
    expect(await inOneBatch([leaves("a", "one"), leaves("b", "two")])).toEqual([0, 0]);
    expect((await readersOf("b")).split(", ").sort()).toEqual(["four", "six", "three"]);
  });

  test("gives the error of one reader to that one alone", async () => {
    await ask(server.port, ["FLUSHALL"]);
    const replies = await inOneBatch([
      enters("r", "one"),
      enters("r", "two", "no ttl"),
      enters("r", "three"),
    ]);
    expect(replies.map((reply) => reply instanceof Error)).toEqual([false, true, false]);
    expect((await readersOf("r")).split(", ").sort()).toEqual(["one", "three"]);
  });

  test("goes on with what cannot be done together, and after it", async () => {
    await acquireAll(["a", "b"]);
    expect(
      await inOneBatch([
        [releaseScript, ["a"], ["of a"]],
        [releaseScript, ["a", "b"], ["of b"]],
        [acquireScript, ["a"], ["next", "60000"]],
        [acquireScript, ["a"], ["too late", "60000"]],
      ]),
    ).toEqual([1, 1, 1, 0]);
    expect(await ask(server.port, ["GET", "a"])).toBe("next");
  });
});
