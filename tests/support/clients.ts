// The clients that the tests on real servers run with. REDLOCK_TEST_CLIENT names another than ioredis.

import type { Redis } from "ioredis";
import type { createClient } from "redis";
import type { NodeEntry } from "../../src/index.js";

/** A connected client. Its methods are those that ioredis and node-redis have in common. */
export type TestClient = NodeEntry &
  Pick<Redis, "ping" | "disconnect" | "info"> & {
    on(event: "error", listener: () => void): unknown;
  };

type Make = (port: number) => Promise<unknown>;

function nodeRedis(load: () => Promise<unknown>): Make {
  return async (port) => {
    const library = (await load()) as { createClient: typeof createClient };
    const client = library.createClient({ socket: { host: "127.0.0.1", port } });
    client.on("error", () => undefined);
    return client.connect();
  };
}

function likeIoredis(load: () => Promise<{ Redis: unknown }>): Make {
  return async (port) => {
    const library = (await load()) as { Redis: typeof Redis };
    return new library.Redis(port, "127.0.0.1");
  };
}

/** Each client that `npm run test:clients` runs the tests with. */
export const CLIENTS: Readonly<Record<string, Make>> = {
  "ioredis-6": likeIoredis(() => import("ioredis")),
  "ioredis-5": likeIoredis(() => import("ioredis-5")),
  iovalkey: likeIoredis(() => import("iovalkey")),
  "node-redis-6": nodeRedis(() => import("redis")),
  "node-redis-5": nodeRedis(() => import("redis-5")),
  "node-redis-4": nodeRedis(() => import("redis-4")),
};

export const CLIENT_VARIABLE = "REDLOCK_TEST_CLIENT";
const name = process.env[CLIENT_VARIABLE] ?? "ioredis-6";

/** Whether the clients have what only ioredis and its fork have, such as a `keyPrefix` of their own. */
export const isLikeIoredis = name.startsWith("io");

export async function makeClient(port: number): Promise<TestClient> {
  const make = CLIENTS[name];
  if (make === undefined) {
    throw new Error(
      `${CLIENT_VARIABLE} is ${name}. Set it to one of ${Object.keys(CLIENTS).join(", ")}.`,
    );
  }
  return (await make(port)) as TestClient;
}
