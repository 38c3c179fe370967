import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { ask, type RedisServer, startServer } from "../support/servers.js";
import { acquireFencedScript } from "../../src/operations/acquire-fenced.js";
import { acquireScript } from "../../src/operations/acquire.js";
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
