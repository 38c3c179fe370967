import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Redis } from "ioredis";
import { ask, type RedisServer, startServer } from "../support/servers.js";
import { Redlock } from "../../src/index.js";
import { startClusterOfOne } from "../support/cluster-mode.js";
import { cacheQueueScripts, untilWaiting } from "../support/line.js";
import { fresh } from "../support/nodes.js";

// A client that puts a prefix of its own before every key that it knows to be one.

const TTL_MS = 60_000;
/** No retry timer helps a waiter along. */
const SETTINGS = { nodeTimeout: 5000, retryDelay: 50_000, retryJitter: 0, acquireTimeout: 20_000 };

let plain: RedisServer;
let clustered: RedisServer;

beforeAll(async () => {
  [plain, clustered] = [await startServer(), await startClusterOfOne()];
  await cacheQueueScripts([plain, clustered]);
});

afterAll(async () => {
  await Promise.all([plain.stop(), clustered.stop()]);
});

async function keysOn({ port }: RedisServer): Promise<string[]> {
  const keys = await ask(port, ["EVAL", "return table.concat(redis.call('KEYS', '*'), ' ')", "0"]);
  return keys.split(" ").sort();
}

describe.each([
  ["a plain server", "app:", "", () => plain],
  ["a plain server", "a{b}:", "", () => plain],
  ["a plain server", "a{", "", () => plain],
  ["a plain server", "app:", "{tag}:", () => plain],
  ["a server in cluster mode", "{app}:", "", () => clustered],
  ["a server in cluster mode", "app:", "{tag}:", () => clustered],
])("on %s, the client's prefix %s", (_, keyPrefix, tag, serverOf) => {
  test(`stands before the keys of the line and of the fence, and the line works (${tag}name)`, async () => {
    const server = serverOf();
    await ask(server.port, ["FLUSHALL"]);
    const client = new Redis(server.port, "127.0.0.1", { keyPrefix });
    const redlock = new Redlock([client], { ...SETTINGS, fencing: true });
    const complaints: string[] = [];
    redlock.on("error", ({ name, message }: Error) => {
      if (name !== "ResourceLockedError") complaints.push(message);
    });
    const name = fresh();
    const resource = tag + name;
    const beside = tag === "" ? `{${name}}` : `${resource}:`;
    try {
      const holder = await redlock.acquire(resource, TTL_MS);
      const waiting = redlock.acquire(resource, TTL_MS);
      await untilWaiting(redlock, resource, 1);
      expect(await keysOn(server)).toEqual(
        ["alive", "fence", "line"]
          .map((companion) => `${keyPrefix}${beside}:redlock:${companion}`)
          .concat(keyPrefix + resource)
          .sort(),
      );
      await holder.release();
      await (await waiting).release();
      expect(complaints).toEqual([]);
      expect(await keysOn(server)).toEqual([`${keyPrefix}${beside}:redlock:fence`]);
    } finally {
      client.disconnect();
    }
  });
});
