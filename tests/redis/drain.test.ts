import { describe, expect, test } from "@jest/globals";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { Redlock } from "../../src/index.js";
import { defined, fresh, rejection, valuesOn } from "../support/nodes.js";
import { slowness, until } from "../support/servers.js";
import { useServers } from "../support/use-servers.js";
import { Programs } from "../support/programs.js";

const programs = new Programs();

const root = join(import.meta.dirname, "..", "..");
/** What a process may take beyond what it promises, on a busy machine. */
const MARGIN_MS = 5000;

const servers = useServers(5);

interface Running {
  readonly child: ChildProcess;
  readonly lines: string[];
  /** When each line was read. */
  readonly times: number[];
  /** Resolves with the exit code and the signal once the process is gone. */
  readonly ended: Promise<unknown[]>;
}

/** Runs a program that has a Redlock. Each line that it prints is kept. */
function run(work: string): Running {
  const program = `
    import { setTimeout as sleep } from "node:timers/promises";
    import { Redlock } from "./src/index.ts";
    const redlock = new Redlock(${JSON.stringify(servers.map(({ url }) => url))}, { nodeTimeout: 5000 });
    ${work}
  `;
  const child = spawn(process.execPath, programs.args(program), {
    cwd: root,
    env: { ...process.env, NODE_OPTIONS: "" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines: string[] = [];
  const times: number[] = [];
  let rest = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    for (const line of parts) {
      lines.push(line);
      times.push(performance.now());
    }
  });
  return { child, lines, times, ended: once(child, "close") };
}

async function untilSays({ lines }: Running, line: string): Promise<void> {
  await until(
    () => lines.includes(line),
    60_000,
    () => `the process has not said ${line}, but: ${lines.join(" / ")}`,
  );
}

async function expectNothingHeld(resources: readonly string[]): Promise<void> {
  for (const resource of resources) {
    expect(await valuesOn(servers, resource)).toEqual(Array(5).fill(null));
  }
}

describe("quit({ drain })", () => {
  test("lets 100 running using calls of 1 s end well; nothing is held after, and the process exits", async () => {
    const prefix = fresh();
    const drainMs = Math.ceil(5000 * slowness());
    const process_ = run(`
      let began = 0;
      const calls = Array.from({ length: 100 }, (_, index) =>
        redlock.using("${prefix}-" + index, 30_000, async (signal) => {
          began += 1;
          await sleep(1000);
          signal.throwIfAborted();
          return "well";
        }),
      );
      while (began < 100) await sleep(1);
      const start = performance.now();
      const quit = redlock.quit({ drain: ${drainMs} });
      const refused = await redlock.acquire("${prefix}-new", 30_000).catch(({ code }) => code);
      const results = await Promise.allSettled(calls);
      await quit;
      console.log(JSON.stringify({
        refused,
        well: results.filter(({ value }) => value === "well").length,
        isCut: performance.now() - start >= ${drainMs},
      }));
    `);
    expect(await process_.ended).toEqual([0, null]);
    expect(JSON.parse(defined(process_.lines[0]))).toEqual({
      refused: "ERR_REDLOCK_CLOSED",
      well: 100,
      isCut: false,
    });
    // It exits by itself: ioredis gives a socket two seconds to close.
    await expectNothingHeld(Array.from({ length: 100 }, (_, index) => `${prefix}-${index}`));
  });

  test("by SIGTERM is a graceful shutdown: the work ends, the lock is released, the process exits", async () => {
    const resource = fresh();
    // What a lock outlives on a busy machine: an extension has a third of it.
    const ttlMs = Math.round(2000 * slowness());
    const process_ = run(`
      process.once("SIGTERM", () => {
        console.log("told");
        void redlock.quit({ drain: ${30 * ttlMs} });
      });
      await redlock.using("${resource}", ${ttlMs}, async (signal) => {
        console.log("held");
        // For longer than the ttl: the library goes on extending while it drains.
        await sleep(${1.5 * ttlMs});
        console.log(signal.aborted ? "aborted" : "well");
      });
    `);
    await untilSays(process_, "held");
    process_.child.kill("SIGTERM");
    expect(await process_.ended).toEqual([0, null]);
    expect(process_.lines).toEqual(["held", "told", "well"]);
    await expectNothingHeld([resource]);
  });

  test("ends what is left when its time is over: signals abort, locks are released, the process exits", async () => {
    const [worked, kept, plain, expired] = [fresh(), fresh(), fresh(), fresh()];
    const process_ = run(`
      const reasonOf = (signal) =>
        new Promise((resolve) => signal.addEventListener("abort", () => resolve(signal.reason)));
      const calls = redlock.using("${worked}", 60_000, async (signal) => {
        const { code, reason } = await reasonOf(signal);
        console.log("using", code, reason);
      }).catch(({ code }) => console.log("rejected", code));
      const kept = await redlock.acquire("${kept}", 60_000, { autoExtend: true });
      void reasonOf(kept.signal).then(({ code, reason }) => console.log("kept", code, reason));
      const plain = await redlock.acquire("${plain}", 60_000);
      void reasonOf(plain.signal).then(({ code, reason }) => console.log("plain", code, reason));
      await redlock.acquire("${expired}", 100);
      const start = performance.now();
      await redlock.quit({ drain: 700 });
      console.log("took its time:", performance.now() - start >= 700 - 5);
      await calls;
    `);
    expect(await process_.ended).toEqual([0, null]);
    expect(process_.lines.toSorted()).toEqual(
      [
        "using ERR_REDLOCK_LOST closed",
        "kept ERR_REDLOCK_LOST closed",
        "plain ERR_REDLOCK_LOST closed",
        "took its time: true",
        "rejected ERR_REDLOCK_LOST",
      ].toSorted(),
    );
    await expectNothingHeld([worked, kept, plain]);
  });

  test("waits for a call's own release, and not for locks that have ended or were passed on", async () => {
    const [resource, passed] = [fresh(), fresh()];
    const process_ = run(`
      await redlock.acquire("${fresh()}", 100);
      const lock = await redlock.acquire("${passed}", 60_000);
      JSON.stringify(lock);
      const plain = await redlock.acquire("${resource}", 60_000);
      const quit = redlock.quit({ drain: 60_000 });
      await sleep(300);
      await plain.extend(60_000);
      await plain.release();
      const start = performance.now();
      await quit;
      console.log(performance.now() - start < 30_000);
    `);
    expect(await process_.ended).toEqual([0, null]);
    expect(process_.lines).toEqual(["true"]);
    await expectNothingHeld([resource]);
    expect((await valuesOn(servers, passed)).filter((value) => value !== null)).not.toEqual([]);
  });

  test("refuses waiters at once, and is cut short by another quit()", async () => {
    const resource = fresh();
    const urls = servers.map(({ url }) => url);
    const [holder, draining] = [new Redlock(urls), new Redlock(urls)];
    const lock = await holder.acquire(resource, 60_000, { nodeTimeout: 5000 });
    const own = await draining.acquire(fresh(), 60_000, { nodeTimeout: 5000 });
    const waiting = rejection(draining.acquire(resource, 60_000, { retryCount: -1 }));
    const start = performance.now();
    const quit = draining.quit({ drain: 600_000 });
    expect(await waiting).toMatchObject({ code: "ERR_REDLOCK_CLOSED", reason: "closed" });
    expect(own.valid).toBe(true);
    await draining.quit();
    await quit;
    expect(performance.now() - start).toBeLessThan(60_000);
    await lock.release();
    await holder.quit();
  });

  test("ends in time although a majority of the servers is frozen", async () => {
    const process_ = run(`
      let began = 0;
      const calls = [1, 2, 3].map((index) =>
        redlock.using("${fresh()}-" + index, 60_000, { nodeTimeout: 500, retryCount: -1 }, (signal) => {
          began += 1;
          return sleep(60_000, undefined, { signal }).catch(() => undefined);
        }).catch(({ code }) => console.log(code)),
      );
      const lock = await redlock.acquire("${fresh()}", 60_000);
      // On a busy machine, their first attempts may be too late.
      while (began < 3) await sleep(1);
      process.once("SIGTERM", async () => {
        await redlock.quit({ drain: 500 });
        console.log("closed");
      });
      console.log("held");
      setTimeout(() => undefined, 2 ** 30).unref();
      await Promise.all(calls);
    `);
    await untilSays(process_, "held");
    const frozen = servers.slice(0, 3);
    for (const server of frozen) await server.freeze();
    try {
      const start = performance.now();
      process_.child.kill("SIGTERM");
      expect(await process_.ended).toEqual([0, null]);
      // The drain, then a nodeTimeout for the connections' last replies, then the sockets.
      const mostMs = 500 + 5000 + 2000 + MARGIN_MS * slowness();
      expect(performance.now() - start).toBeLessThan(mostMs);
      expect(process_.lines.filter((line) => line === "ERR_REDLOCK_LOST")).toHaveLength(3);
      expect(process_.lines).toContain("closed");
    } finally {
      for (const server of frozen) server.thaw();
    }
  });

  test.each([[-1], [1.5], ["5000"], [NaN], [Infinity]])("refuses a drain of %p", async (drain) => {
    const redlock = new Redlock(servers.map(({ url }) => url));
    const error = await rejection(redlock.quit({ drain: drain as number }));
    expect(error.code).toBe("ERR_REDLOCK_INVALID_ARGUMENT");
    expect(error.message).toContain("drain");
    await redlock.quit();
  });

  test("refuses an option that it does not know", async () => {
    const redlock = new Redlock(servers.map(({ url }) => url));
    const error = await rejection(redlock.quit({ timeout: 5 } as object));
    expect(error.message).toContain("knows no option timeout");
    await redlock.quit();
  });
});

test("a signal that was read does not keep the process alive, once the connections are closed", async () => {
  const process_ = run(`
    const lock = await redlock.acquire("${fresh()}", 600_000);
    lock.signal.addEventListener("abort", () => console.log("aborted"));
    await redlock.quit();
    console.log("closed");
  `);
  await untilSays(process_, "closed");
  const start = performance.now();
  expect(await process_.ended).toEqual([0, null]);
  expect(performance.now() - start).toBeLessThan(2000 + MARGIN_MS * slowness());
  expect(process_.lines).toEqual(["closed"]);
});
