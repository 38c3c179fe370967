import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { ask, type RedisServer, startServer } from "../support/servers.js";
import { acquireFencedScript } from "../../src/operations/acquire-fenced.js";
import { acquireScript } from "../../src/operations/acquire.js";
import { batchOf, batchScript, repliesOf } from "../../src/operations/batch.js";
import { Operation } from "../../src/operations/operation.js";
import { releaseScript } from "../../src/operations/release.js";
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

describe("the script of a batch", () => {
  test("goes on after each operation that raises an error, with the keys and arguments of the next", async () => {
    const shapes: [OperationScript, string[], string[]][] = [
      [acquireScript, ["a"], ["of a", "60000"]],
      [acquireScript, ["b"], ["of b", "no ttl"]],
      [acquireScript, ["c"], ["of c", "no ttl"]],
      [acquireScript, ["d"], ["of d", "60000"]],
      [releaseScript, ["a"], ["of a"]],
      [acquireScript, ["e"], ["of e", "no ttl"]],
      [acquireScript, ["f", "g"], ["of both", "60000"]],
    ];
    const operations = shapes.map(([script, keys, args]) => new Operation(script, keys, args));
    const [, ...args] = batchOf(operations).args.map(String);
    await ask(server.port, ["FLUSHALL"]);
    const replies = repliesOf(await ask(server.port, ["EVAL", batchScript.text, ...args]));
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
});
