import { describe, expect, test } from "@jest/globals";
import { spawn } from "node:child_process";
import net from "node:net";
import { join } from "node:path";
import { startServer } from "../support/servers.js";
import { startStubbornServer } from "../support/proxy.js";
import { useServers } from "../support/use-servers.js";
import { Programs } from "../support/programs.js";

const programs = new Programs();

const root = join(import.meta.dirname, "..", "..");

/** Prints by how many bytes the heap in use grew over 6000 operations: over the last of three such runs, if need be. */
const program = `
  import { Redlock } from "./src/index.ts";
  const { urls, answering, operation, most } = JSON.parse(process.env.REDLOCK_TEST);
  const settings = { retryCount: 0, nodeTimeout: 50, restartGuard: false };
  const redlock = new Redlock(urls, settings);
  // Long, so that no pending release expires.
  const ttl = 600_000;
  const operations = {
    acquire: async (resource) => (await redlock.acquire(resource, ttl)).release(),
    using: (resource) => redlock.using(resource, ttl, () => undefined),
  };
  const isConnected = async () =>
    (await redlock.inspect("r")).filter(({ ok }) => ok).length === answering;
  while (!(await isConnected()));
  const perform = async (count) => {
    for (let index = 0; index < count; index += 20) {
      const some = Array.from({ length: 20 }, (_, other) => operations[operation]("r" + index + other));
      await Promise.allSettled(some);
    }
    for (let times = 0; times < 4; times++) gc();
    return process.memoryUsage().heapUsed;
  };
  // What is used once, such as buffers and compiled code, may come late; what grows with the operations grows again.
  let heap = await perform(3000);
  let growth = Infinity;
  for (let times = 0; times < 3 && growth >= most; times++) {
    const next = await perform(6000);
    growth = next - heap;
    heap = next;
  }
  console.log(growth);
  process.exit();
`;

function growthBytes(
  answering: readonly { readonly url: string }[],
  silent: readonly { readonly url: string }[],
  operation: string,
): Promise<number> {
  const urls = [...answering, ...silent].map(({ url }) => url);
  const task = JSON.stringify({
    urls,
    answering: answering.length,
    operation,
    most: MOST_GROWTH_BYTES,
  });
  const args = ["--expose-gc", ...programs.args(program)];
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: { ...process.env, NODE_OPTIONS: "", REDLOCK_TEST: task },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", () => {
      resolve(output === "" ? NaN : Number(output));
    });
  });
}

interface Silent {
  readonly url: string;
  close(): Promise<void>;
}

/** A server whose queue of connections is full: the kernel drops each SYN. */
async function startUnreachableServer(): Promise<Silent> {
  const server = await startServer({ args: ["--tcp-backlog", "1"] });
  await server.freeze();
  const queued = Array.from({ length: 5 }, () =>
    net.connect(server.port, "127.0.0.1").on("error", () => undefined),
  );
  return {
    url: server.url,
    close: async () => {
      for (const socket of queued) socket.destroy();
      await server.stop();
    },
  };
}

/** Less than a statistic of each of the 6000 operations would take. */
const MOST_GROWTH_BYTES = 1_000_000;

describe("the heap does not grow with the number of operations", () => {
  const servers = useServers(3);

  const kinds: [string, () => Promise<Silent>][] = [
    ["accept connections and never answer", () => startStubbornServer()],
    ["drop each SYN", startUnreachableServer],
  ];
  const cases = kinds.flatMap(([kind, start]) =>
    [2, 3].map((count) => ({ kind, start, count, operation: count === 2 ? "using" : "acquire" })),
  );

  test.each(cases)(
    "of $operation where $count of five nodes $kind",
    async ({ start, count, operation }) => {
      const silent = await Promise.all(Array.from({ length: count }, start));
      try {
        expect(await growthBytes(servers.slice(count - 2), silent, operation)).toBeLessThan(
          MOST_GROWTH_BYTES,
        );
      } finally {
        await Promise.all(silent.map((server) => server.close()));
      }
    },
  );
});
