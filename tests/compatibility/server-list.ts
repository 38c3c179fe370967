import { InvalidArgumentError } from "commander";
import type { DebianServer } from "./debian-server.js";

/** The servers that the tests run on, each from the Debian release that has it. */
export const SERVERS: readonly DebianServer[] = [
  { id: "redis-6.0", suite: "bullseye", package: "redis-server" },
  { id: "redis-7.0", suite: "bookworm", package: "redis-server" },
  { id: "redis-8.0", suite: "trixie", package: "redis-server" },
  { id: "valkey-8.1", suite: "trixie", package: "valkey-server" },
  // Debian's unstable release: the version moves, and the table says which one ran.
  { id: "valkey-9", suite: "sid", package: "valkey-server" },
];

export const SERVER_IDS: readonly string[] = SERVERS.map(({ id }) => id);

/** Parses a list such as `redis-6.0,valkey-9`, or `all`, for an option of a command. */
export function serversNamed(names: string): readonly DebianServer[] {
  if (names === "all") return SERVERS;
  return names.split(",").map((name) => {
    const found = SERVERS.find(({ id }) => id === name);
    if (found !== undefined) return found;
    throw new InvalidArgumentError(`Allowed are all, or some of ${SERVER_IDS.join(", ")}.`);
  });
}
