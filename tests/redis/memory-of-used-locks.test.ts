import { describe, expect, test } from "@jest/globals";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { useServers } from "../support/use-servers.js";
import { Programs } from "../support/programs.js";

const programs = new Programs();

/** Far above what a heap differs by from one measurement to the next; each attempt that is kept takes 3 KB and more. */
const NOISE_BYTES = 500_000;

const servers = useServers(3);

/** By how much the heap of a program of its own grew from one batch of locks to the next, in bytes. */
async function growthOf(uses: number, useOne: string): Promise<number> {
  const program = `
    import { setImmediate as turn } from "node:timers/promises";
    import { Redlock } from "./src/index.ts";
    const redlock = new Redlock(${JSON.stringify(servers.map(({ url }) => url))}, { nodeTimeout: 5000 });
    const useOne = async (index) => { ${useOne} };
    const heapAfter = async () => {
      for (let index = 0; index < ${uses}; index++) await useOne(index);
      // The slowest node's answers to the last of them.
      for (const { ok } of await redlock.inspect("r")) if (!ok) throw new Error("a node is gone");
      for (let count = 0; count < 10; count++) {
        await turn();
        global.gc();
      }
      return process.memoryUsage().heapUsed;
    };
    await redlock.inspect("r");
    // The first is for the code that is compiled, and for buffers that grow.
    await heapAfter();
    const before = await heapAfter();
    console.log(await heapAfter() - before);
    await redlock.quit();
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
    [
      "of locks on a resource for which somebody waits all the time",
      300,
      `const others = () => redlock.using("d", 60_000, () => undefined).then(others, () => undefined);
       globalThis.waiting ??= [1, 2, 3].map(others);
       await redlock.using("d", 60_000, () => undefined);`,
    ],
  ])("%s", async (_, uses, useOne) => {
    const signal = "const { signal } = globalThis.controller ??= new AbortController();";
    expect(await growthOf(uses, signal + useOne)).toBeLessThan(NOISE_BYTES);
  });
});
