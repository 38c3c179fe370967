import { tracingChannel } from "node:diagnostics_channel";
import { afterEach, describe, expect, test } from "@jest/globals";
import { Redis } from "ioredis";
import { Redis as Redis5 } from "ioredis-5";
import { Redlock } from "../../src/index.js";
import { defined, fresh, untilFree, valuesOn } from "../support/nodes.js";
import { useServers } from "../support/use-servers.js";

const servers = useServers(3);
const opened: { disconnect: () => void }[] = [];

afterEach(() => {
  for (const client of opened.splice(0)) client.disconnect();
});

interface Options {
  readonly keyPrefix?: string;
  readonly enableAutoPipelining?: boolean;
  readonly showFriendlyErrorStack?: boolean;
}

/** Connects to each server, and keeps what is written to each socket. */
async function connect(
  Client: typeof Redis,
  options: Options = {},
): Promise<{ clients: Redis[]; written: unknown[][] }> {
  const clients = servers.map(({ port }) => new Client(port, "127.0.0.1", options));
  opened.push(...clients);
  const written = await Promise.all(
    clients.map(async (client) => {
      await client.ping();
      const chunks: unknown[] = [];
      const { stream } = client as unknown as { stream: { write: (chunk: unknown) => boolean } };
      const write = stream.write.bind(stream);
      stream.write = (chunk) => {
        // The restart guard asks each node by itself.
        if (!String(chunk).includes("info")) chunks.push(chunk);
        return write(chunk);
      };
      return chunks;
    }),
  );
  return { clients, written };
}

/** Acquires, extends and releases, alone and beside others. */
async function use(redlock: Redlock, resource = fresh()): Promise<void> {
  const lock = await redlock.acquire(resource, 10_000);
  await Promise.all(lock.attempts);
  expect(await valuesOn(servers, resource)).toEqual(Array(3).fill(lock.value));
  await lock.extend(20_000);
  const others = await Promise.all([0, 1].map((i) => redlock.acquire(`${resource}:${i}`, 10_000)));
  await Promise.all([lock, ...others].map((one) => one.release()));
  await untilFree(servers, resource);
}

function isSharedByAll(written: readonly unknown[][]): boolean {
  const [first = [], ...others] = written;
  return (
    first.length > 0 &&
    first.every((chunk, index) => others.every((chunks) => chunks[index] === chunk))
  );
}

describe.each([
  ["ioredis 6", Redis],
  ["ioredis 5", Redis5 as unknown as typeof Redis],
])("a command to clients of %s", (_, Client) => {
  test("is encoded once, and every socket is given the same bytes", async () => {
    const { clients, written } = await connect(Client);
    await use(new Redlock(clients));
    for (const chunks of written) chunks.length = 0;
    await use(new Redlock(clients));
    expect(written.every((chunks) => chunks.every((chunk) => Buffer.isBuffer(chunk)))).toBe(true);
    expect(isSharedByAll(written)).toBe(true);
  });

  test("arrives as it is, whatever the characters of the resource", async () => {
    const { clients } = await connect(Client);
    const redlock = new Redlock(clients);
    for (const name of ["ключ", "🔒", "a b\r\nc", "é".repeat(500), "\ud83d"]) {
      const resource = fresh(name);
      const lock = await redlock.acquire(resource, 10_000);
      await Promise.all(lock.attempts);
      const holders = await Promise.all(clients.map((client) => client.get(resource)));
      expect(holders).toEqual(Array(3).fill(lock.value));
      await lock.release();
    }
  });

  test.each<[string, Options]>([
    ["keyPrefix", { keyPrefix: "app:" }],
    ["enableAutoPipelining", { enableAutoPipelining: true }],
    ["showFriendlyErrorStack", { showFriendlyErrorStack: true }],
  ])("is left to a client with the option %s", async (name, options) => {
    const { clients, written } = await connect(Client, options);
    const redlock = new Redlock(clients);
    const resource = fresh();
    const lock = await redlock.acquire(resource, 10_000);
    await Promise.all(lock.attempts);
    const stored = `${name === "keyPrefix" ? "app:" : ""}${resource}`;
    expect(await valuesOn(servers, stored)).toEqual(Array(3).fill(lock.value));
    await lock.release();
    expect(written.flat().some((chunk) => Buffer.isBuffer(chunk))).toBe(false);
  });

  test("goes through a `call` that was replaced, and through a `sendCommand` that was", async () => {
    const { clients } = await connect(Client);
    const redlock = new Redlock(clients);
    await use(redlock);
    const seen: string[] = [];
    const [first] = clients;
    const sendCommand = defined(first).sendCommand.bind(first);
    defined(first).sendCommand = (command, ...others) => {
      seen.push(`sendCommand ${command.name} ${String(command.args[0])}`);
      return sendCommand(command, ...others);
    };
    const resource = fresh();
    await (await redlock.acquire(resource, 10_000)).release();
    expect(seen[0]).toBe(`sendCommand set ${resource}`);
    seen.length = 0;
    const call = defined(first).call.bind(first) as (...args: unknown[]) => Promise<unknown>;
    defined(first).call = (...args: unknown[]) => {
      seen.push(`call ${String(args[0])} ${String(args[1])}`);
      return call(...args);
    };
    await (await redlock.acquire(resource, 10_000)).release();
    expect(seen.slice(0, 2)).toEqual([`call set ${resource}`, `sendCommand set ${resource}`]);
  });

  test("that waits for a connection is sent once there is one", async () => {
    const clients = servers.map(({ port }) => new Client(port, "127.0.0.1", { lazyConnect: true }));
    opened.push(...clients);
    await use(new Redlock(clients));
  });
});

test("ioredis' own tracing tells of the commands as ever", async () => {
  const { clients } = await connect(Redis);
  const redlock = new Redlock(clients);
  const traced: string[] = [];
  const channel = tracingChannel<"ioredis:command", { command: string; args: string[] }>(
    "ioredis:command",
  );
  const listeners = {
    start: ({ command, args }: { command: string; args: string[] }) => {
      traced.push(`${command} ${args[0] ?? ""}`);
    },
    end: () => undefined,
    asyncStart: () => undefined,
    asyncEnd: () => undefined,
    error: () => undefined,
  };
  channel.subscribe(listeners);
  const resource = fresh();
  await (await redlock.acquire(resource, 10_000)).release();
  channel.unsubscribe(listeners);
  expect(traced.filter((line) => line === `set ${resource}`)).toHaveLength(3);
});
