import { afterAll, beforeAll, describe, expect, jest, test } from "@jest/globals";
import { Redis } from "ioredis";
import { type RedisServer, startServer, until } from "../docker/servers.js";
import { type Environment, systemEnvironment } from "../src/environment.js";
import { internalsKey } from "../src/internals.js";
import { checkEntry } from "../src/node/entry.js";
import { Redlock } from "../src/index.js";
import { connectAll, defined, disconnectAll, fresh, rejection } from "./support/nodes.js";

// Far above what it takes: how long is promised is asserted where it matters.
jest.setTimeout(60_000);

const TTL_MS = 60_000;

let server: RedisServer;

beforeAll(async () => {
  server = await startServer();
});

afterAll(async () => {
  await server.stop();
});

describe("the name of a node", () => {
  test("is that of its group, and of the first of its Sentinels, where it leads to a master through them", async () => {
    const groups = [
      {
        name: "first",
        sentinels: [
          { host: "127.0.0.1", port: 1 },
          { host: "127.0.0.1", port: 2 },
        ],
      },
      { name: "second", sentinels: [{ host: "127.0.0.1", port: 1 }] },
      { name: "second", sentinels: [{ host: "::1", port: 1 }] },
      { name: "third", sentinels: [{}] },
    ];
    const clients = groups.map((group) => {
      const client = new Redis({ ...group, lazyConnect: true });
      client.on("error", () => undefined);
      return client;
    });
    const redlock = new Redlock(clients, { nodeTimeout: 50, retryCount: 0 });
    const names = (await redlock.inspect(fresh())).map(({ node }) => node);
    expect(names).toEqual([
      "sentinel first@127.0.0.1:1",
      "sentinel second@127.0.0.1:1",
      "sentinel second@::1:1",
      "sentinel third@127.0.0.1:26379",
    ]);
    const { message } = await rejection(redlock.acquire(fresh(), TTL_MS));
    for (const name of names) expect(message).toContain(`${name} `);
    disconnectAll(clients);
  });
});

describe("a connection", () => {
  test("counts by the clocks of the Redlock that has it, also where another one has its client", async () => {
    const own = await startServer();
    const [client] = await connectAll([own]);
    // By another clock, as after a thousand hours.
    const environment: Environment = {
      ...systemEnvironment,
      now: () => ({ ...systemEnvironment.now(), monotonicMs: environment.monotonicMs() }),
      monotonicMs: () => systemEnvironment.monotonicMs() + 3_600_000_000,
    };
    const settings = { nodeTimeout: 5000, retryCount: 0, restartGuard: TTL_MS };
    const usual = new Redlock([defined(client)], settings);
    const other = new Redlock([defined(client)], {
      ...settings,
      [internalsKey]: { environment, checkNode: checkEntry },
    });
    try {
      for (const redlock of [usual, other]) await redlock.inspect(fresh());
      await own.kill();
      await own.restart();
      for (const redlock of [usual, other]) {
        await until(
          async () => (await redlock.inspect(fresh())).every(({ ok }) => ok),
          10_000,
          () => "the node did not come back",
        );
        const { message } = await rejection(redlock.acquire(fresh(), TTL_MS));
        expect(message).toMatch(
          /restarted or replaced \d.* ago: its votes count again in \d+\.\d s/,
        );
      }
    } finally {
      disconnectAll([defined(client)]);
      await own.stop();
    }
  });
});
