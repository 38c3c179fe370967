import { expect, test } from "@jest/globals";
import * as ioredis6 from "ioredis";
import * as ioredis5 from "ioredis-5";
import * as iovalkey from "iovalkey";
import * as nodeRedis6 from "redis";
import * as nodeRedis4 from "redis-4";
import * as nodeRedis5 from "redis-5";
import { type NodeAddress, type NodeEntry, Redlock } from "../../src/index.js";

// Compiled, this shows that each client is a node without a cast, and that `clients` gives back its own type.

const LAZY = { lazyConnect: true };
const SENTINEL = { name: "locks", sentinelRootNodes: [{ host: "127.0.0.1", port: 1 }] };

test("a Redlock gives back the clients that were passed in, with their own types", async () => {
  const six = nodeRedis6.createClient();
  const [client] = new Redlock([six]).clients;
  const same: typeof six | undefined = client;
  expect(same).toBe(six);
  const valkey = new iovalkey.Redis(LAZY);
  const [first] = new Redlock([valkey]).clients;
  const status: string | undefined = first?.status;
  expect(status).toBe("wait");
  const ofUrl = new Redlock(["redis://127.0.0.1:1"]);
  const [address] = ofUrl.clients;
  const { name }: Partial<NodeAddress> = address ?? {};
  expect(name).toBe("127.0.0.1:1");
  await ofUrl.quit();
});

test("a client of each library is a node", async () => {
  const entries: NodeEntry[] = [
    new ioredis6.Redis(LAZY),
    new ioredis5.Redis(LAZY),
    new iovalkey.Redis(LAZY),
    nodeRedis4.createClient(),
    nodeRedis4.createCluster({ rootNodes: [{ url: "redis://127.0.0.1:1" }] }),
    nodeRedis5.createClient(),
    nodeRedis5.createCluster({ rootNodes: [{ url: "redis://127.0.0.1:1" }] }),
    nodeRedis5.createSentinel(SENTINEL),
    nodeRedis6.createClient(),
    nodeRedis6.createCluster({ rootNodes: [{ url: "redis://127.0.0.1:1" }] }),
    nodeRedis6.createSentinel(SENTINEL),
  ];
  for (const entry of entries) expect([...new Redlock([entry]).clients]).toEqual([entry]);
  // Two types of entries in one list: each client has one of their types.
  const mixed = new Redlock([nodeRedis6.createClient(), "redis://127.0.0.1:1"]);
  expect(mixed.clients.size).toBe(2);
  await mixed[Symbol.asyncDispose]();
});
