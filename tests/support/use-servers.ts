import { afterAll, afterEach, beforeAll } from "@jest/globals";
import { Redlock, type RedlockSettings } from "../../src/index.js";
import { connectAll, disconnectAll, type RecordingClient } from "./nodes.js";
import { type RedisServer, type ServerOptions, startServers, stopAll } from "./servers.js";

interface Options extends Pick<ServerOptions, "args"> {
  /** Ends what still uses the servers. Jest runs a file's own `afterAll` only after they have stopped. */
  readonly beforeStop?: () => unknown;
}

/**
 * Starts servers before the tests of the file, or of the `describe` block, and stops them after
 * the tests. The array is filled when the servers have started, so read it in tests and hooks only.
 * Jest runs hooks in the order of their definition: call this above the hooks that use the servers.
 *
 * @example
 * let redlock: Redlock;
 * const servers = useServers(3, { beforeStop: () => redlock.quit() });
 *
 * beforeAll(() => {
 *   redlock = new Redlock(servers.map(({ url }) => url));
 * });
 */
export function useServers(
  count: number,
  { beforeStop, ...options }: Options = {},
): readonly RedisServer[] {
  const servers: RedisServer[] = [];
  beforeAll(async () => {
    servers.push(...(await startServers(count, options)));
  });
  afterAll(async () => {
    try {
      await beforeStop?.();
    } finally {
      await stopAll(servers);
    }
  });
  return servers;
}

/**
 * As `useServers`, with a connected client of each server. The clients are disconnected after
 * `beforeStop` and before the servers stop.
 *
 * @example
 * const { servers, clients } = useServersAndClients(5);
 */
export function useServersAndClients(
  count: number,
  { beforeStop, ...options }: Options = {},
): { readonly servers: readonly RedisServer[]; readonly clients: readonly RecordingClient[] } {
  const clients: RecordingClient[] = [];
  const servers = useServers(count, {
    ...options,
    beforeStop: async () => {
      await beforeStop?.();
      disconnectAll(clients);
    },
  });
  beforeAll(async () => {
    clients.push(...(await connectAll(servers)));
  });
  return { servers, clients };
}

/**
 * Returns what makes another Redlock of the same nodes, with connections of its own, as another process has it. Each is
 * closed after its test.
 *
 * @param usual settings that each has, unless it is made with others
 */
export function useOthers(
  servers: readonly RedisServer[],
  usual: RedlockSettings,
): (settings?: RedlockSettings, urlOf?: (server: RedisServer) => string) => Redlock {
  const others: Redlock[] = [];
  afterEach(async () => {
    await Promise.all(others.splice(0).map((other) => other.quit()));
  });
  return (settings = {}, urlOf = ({ url }) => url) => {
    const other = new Redlock(servers.map(urlOf), { ...usual, ...settings });
    others.push(other);
    return other;
  };
}
