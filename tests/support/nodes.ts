import type { ExecutionError, Lock } from "../../src/index.js";
import type { Redis } from "ioredis";
import { ask, type RedisServer, until } from "./servers.js";
import { takeScript } from "../../src/operations/take.js";
import { isLikeIoredis, makeClient } from "./clients.js";

/** What each server holds under the key; null where it holds nothing. */
export function valuesOn(servers: readonly RedisServer[], key: string): Promise<(string | null)[]> {
  return Promise.all(
    servers.map(async ({ port }) => {
      const value = await ask(port, ["EVAL", "return redis.call('GET', KEYS[1]) or ''", "1", key]);
      return value === "" ? null : value;
    }),
  );
}

/** Puts a key of somebody else's on these servers. */
export async function occupy(
  servers: readonly RedisServer[],
  key: string,
  value = "somebody else's",
): Promise<void> {
  await Promise.all(servers.map(({ port }) => ask(port, ["SET", key, value])));
}

export async function untilFree(servers: readonly RedisServer[], key: string): Promise<void> {
  await until(
    async () => (await valuesOn(servers, key)).every((value) => value === null),
    5000,
    () => `${key} is still there`,
  );
}

/** A lock is given to every node; on those that were late it is a moment after the grant. */
export async function untilHeld(
  servers: readonly RedisServer[],
  { resources, value }: Pick<Lock, "resources" | "value">,
): Promise<void> {
  for (const resource of resources) {
    await until(
      async () => (await valuesOn(servers, resource)).every((found) => found === value),
      5000,
      () => `${resource} is not held on every server`,
    );
  }
}

/**
 * A connected client that keeps a list of what it was asked to send. Probes of subscriptions are left out: a timer
 * sends them, at any moment of a test.
 */
export interface RecordingClient extends Redis {
  sent: string[];
}

/** A Redlock publishes nothing to the channel that bears its own id. */
const PROBE = /^publish redlock:[0-9a-f]{32} $/;

export async function connectAll(
  servers: readonly { readonly port: number }[],
): Promise<RecordingClient[]> {
  return Promise.all(servers.map(({ port }) => connectClient(port)));
}

interface IoredisCommand {
  readonly name: string;
  readonly args: readonly unknown[];
}

function wordsOf({ name, args }: IoredisCommand): unknown[] {
  return [name, ...args];
}

async function connectClient(port: number): Promise<RecordingClient> {
  const client = Object.assign(await makeClient(port), { sent: [] as string[] });
  client.on("error", () => undefined);
  if (!isLikeIoredis) addStatus(client);
  const methods = client as unknown as Record<string, (...args: unknown[]) => unknown>;
  const send = defined(methods["sendCommand"]).bind(client);
  methods["sendCommand"] = (...args) => {
    const words = isLikeIoredis ? wordsOf(args[0] as IoredisCommand) : (args[0] as unknown[]);
    const line = words.map(String).join(" ");
    if (!PROBE.test(line)) client.sent.push(line);
    return send(...args);
  };
  await client.ping();
  return client as RecordingClient;
}

/** The values under which this client asked for the resource: plainly, or as one who stands in line. */
export function valuesAskedFor(client: RecordingClient | undefined, resource: string): string[] {
  return defined(client).sent.flatMap((line) => {
    const [command = "", ...args] = line.split(" ");
    if (command === "set" && args[0] === resource) return [defined(args[1])];
    const isTake = command === "evalsha" && args[0] === takeScript.sha1 && args[2] === resource;
    return isTake ? [defined(args[5])] : [];
  });
}

/** Gives a client of node-redis its state in ioredis' words. */
export function addStatus(client: object): void {
  const get = (): string => {
    const { isOpen, isReady } = client as { isOpen: boolean; isReady: boolean };
    if (isReady) return "ready";
    return isOpen ? "reconnecting" : "end";
  };
  Object.defineProperty(client, "status", { get });
}

export function disconnectAll(clients: readonly Pick<Redis, "status" | "disconnect">[]): void {
  for (const client of clients) {
    // A client of node-redis 4 rejects where it is closed already.
    if (client.status !== "end" || isLikeIoredis) client.disconnect();
  }
}

let count = 0;

/** A resource name that no other test uses. */
export function fresh(name = "resource"): string {
  count += 1;
  return `${name}-${process.pid}-${count}`;
}

export function defined<T>(value: T | undefined | null): T {
  if (value === undefined || value === null) throw new Error("expected a value");
  return value;
}

/** The error that the promise rejects with. */
export async function rejection(promise: Promise<unknown>): Promise<ExecutionError> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (outcome === undefined) throw new Error("expected a rejection");
  return outcome as ExecutionError;
}
