import { describe, expect, test } from "@jest/globals";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { startServer } from "../support/servers.js";
import { useServers } from "../support/use-servers.js";
import { Programs } from "../support/programs.js";

const programs = new Programs();

/** Far above what a heap differs by from one measurement to the next; each attempt that is kept takes 3 KB and more. */
const NOISE_BYTES = 500_000;

const servers = useServers(3);

const WAITED_FOR = `
  const others = () => redlock.using("d", 60_000, () => undefined).then(others, () => undefined);
  globalThis.waiting ??= [1, 2, 3].map(others);
  await redlock.using("d", 60_000, () => undefined);`;

/**
 * By how much the heap of a program of its own grew from one batch of locks to the next, in bytes.
 *
 * @param hangs one more server, which the program freezes; the nodes are then clients, whose connection to it stays open
 */
async function growthOf(
  uses: number,
  useOne: string,
  hangs?: { readonly url: string; readonly pid: number | undefined },
): Promise<number> {
  const urls = [...servers, ...(hangs === undefined ? [] : [hangs])].map(({ url }) => url);
  const program = `
    import { setImmediate as turn } from "node:timers/promises";
    import { Redis } from "ioredis";
    import { Redlock } from "./src/index.ts";
    const nodes = ${JSON.stringify(urls)}.map((url) => ${hangs === undefined ? "url" : "new Redis(url)"});
    const redlock = new Redlock(nodes, { nodeTimeout: ${hangs === undefined ? 5000 : 500} });
    const useOne = async (index) => { ${useOne} };
    const heapAfter = async () => {
      for (let index = 0; index < ${uses}; index++) await useOne(index);
      // The slowest node's answers to the last of them.
      const seen = await redlock.inspect("r");
      if (seen.filter(({ ok }) => ok).length < ${servers.length}) throw new Error("a node is gone");
      for (let count = 0; count < 10; count++) {
        await turn();
        global.gc();
      }
      return process.memoryUsage().heapUsed;
    };
    await redlock.inspect("r");
    ${hangs === undefined ? "" : `process.kill(${hangs.pid}, "SIGSTOP");`}
    // The first is for the code that is compiled, and for buffers that grow.
    await heapAfter();
    const before = await heapAfter();
    console.log(await heapAfter() - before);
    ${hangs === undefined ? "await redlock.quit();" : "process.exit();"}
  `;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--expose-gc", ...programs.args(program)],
    { env: { ...process.env, NODE_OPTIONS: "" } },
  );
  return Number(stdout);
}

describe("nothing is kept", () => {
  test.each([
    [
      "of locks that were acquired and released",
      1000,
      "await (await redlock.acquire('a', 60_000)).release();",
    ],
    [
      "of locks that were extended, and of attempts that were refused",
      500,
      `const lock = await redlock.acquire("b", 60_000, { fencing: true });
       await lock.extend(60_000);
       if (await redlock.tryAcquire("b", 60_000) !== null) throw new Error("held twice");
       await lock.release();`,
    ],
    [
      "of work under a lock, one user after the other",
      300,
      `await Promise.all([1, 2].map(() => redlock.using("c", 60_000, { signal }, () => undefined)));`,
    ],
    ["of locks on a resource for which somebody waits all the time", 300, WAITED_FOR],
  ])("%s", async (_, uses, useOne) => {
    const signal = "const { signal } = globalThis.controller ??= new AbortController();";
    expect(await growthOf(uses, signal + useOne)).toBeLessThan(NOISE_BYTES);
  });

  test("of such locks while a node hangs", async () => {
    const hanging = await startServer();
    try {
      expect(await growthOf(300, WAITED_FOR, hanging)).toBeLessThan(NOISE_BYTES);
    } finally {
      hanging.thaw();
      await hanging.stop();
    }
  });
});
