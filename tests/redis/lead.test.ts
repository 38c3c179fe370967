import { afterEach, describe, expect, test } from "@jest/globals";
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { Redlock, type RedlockSettings } from "../../src/index.js";
import { movableClocks } from "../support/environment.js";
import { untilWaiting } from "../support/line.js";
import { defined, fresh, untilFree } from "../support/nodes.js";
import { type Proxy, startProxy } from "../support/proxy.js";
import { slowness, until } from "../support/servers.js";
import { useServers } from "../support/use-servers.js";
import { Programs } from "../support/programs.js";

const programs = new Programs();

// Leaders in processes of their own, which resign, die and stop.

const root = join(import.meta.dirname, "..", "..");
const TTL_MS = 3000;
/** What a step may take beyond what it promises, on a busy machine. */
const MARGIN_MS = 400;

const servers = useServers(5);
const redlocks: Redlock[] = [];
const proxies: Proxy[] = [];
const processes: ChildProcessByStdio<null, Readable, null>[] = [];

afterEach(async () => {
  for (const child of processes.splice(0)) child.kill("SIGKILL");
  await Promise.all(redlocks.splice(0).map((redlock) => redlock.quit()));
  await Promise.all(proxies.splice(0).map((proxy) => proxy.close()));
});

function connect(settings: RedlockSettings = {}, urls = servers.map(({ url }) => url)): Redlock {
  const redlock = new Redlock(urls, { nodeTimeout: 5000, ...settings });
  redlocks.push(redlock);
  return redlock;
}

interface Candidate {
  readonly redlock: Redlock;
  readonly controller: AbortController;
  /** When it was elected, in ms, and the token of the term. */
  readonly terms: { readonly fromMs: number; readonly fence: number }[];
  readonly outcome: Promise<unknown>;
}

/** Leads until it is told to stop. */
function campaign(name: string, redlock = connect(), ttlMs = TTL_MS): Candidate {
  const controller = new AbortController();
  const { signal } = controller;
  const terms: Candidate["terms"] = [];
  const settings = { signal, fencing: true };
  const outcome = redlock.lead(name, ttlMs, settings, async (told, lock) => {
    terms.push({ fromMs: machineMs(), fence: defined(lock.fence) });
    if (!told.aborted) await once(told, "abort");
  });
  return { redlock, controller, terms, outcome };
}

function untilLeading({ terms }: Candidate, limitMs = 10_000): Promise<void> {
  return until(
    () => terms.length > 0,
    limitMs,
    () => "it does not lead",
  );
}

/** By the clock that all processes of the machine share: that of `performance` begins with each of them. */
function machineMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

interface Leader {
  readonly child: (typeof processes)[0];
  /** The next line that it prints: what happened, when, in ms, and the token of the term. */
  readonly next: () => Promise<{
    readonly what: string;
    readonly atMs: number;
    readonly fence: number;
  }>;
}

/** A leader in a process of its own. It prints when its terms begin, when it is told of their end, and whether in time. */
function leaderProcess(name: string): Leader {
  const text = `
    import { setTimeout as sleep } from "node:timers/promises";
    import { Redlock } from "./src/index.ts";
    const { urls, name } = JSON.parse(process.env.REDLOCK_TEST);
    const redlock = new Redlock(urls, { nodeTimeout: 5000, fencing: true });
    const say = (what, lock) =>
      console.log(what, Number(process.hrtime.bigint()) / 1e6, lock.fence);
    await redlock.lead(name, ${TTL_MS}, async (signal, lock) => {
      say("leads", lock);
      while (lock.valid) await sleep(10);
      say(signal.aborted ? "told" : "untold", lock);
    });
  `;
  const child = spawn(process.execPath, programs.args(text), {
    cwd: root,
    env: {
      ...process.env,
      NODE_OPTIONS: "",
      REDLOCK_TEST: JSON.stringify({ urls: servers.map(({ url }) => url), name }),
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  processes.push(child);
  const printed = createInterface(child.stdout)[Symbol.asyncIterator]();
  return {
    child,
    next: async () => {
      const { value } = (await printed.next()) as { value?: string };
      const [what = "", atMs, fence] = defined(value).split(" ");
      return { what, atMs: Number(atMs), fence: Number(fence) };
    },
  };
}

describe("a leader", () => {
  test("leads alone, is the holder, and is followed within three round trips of its resignation", async () => {
    const ROUND_TRIP_MS = 200;
    const name = fresh();
    const slowRedlock = async (): Promise<Redlock> => {
      const own = await Promise.all(servers.map(({ port }) => startProxy(port)));
      proxies.push(...own);
      return connect(
        {},
        own.map(({ url }) => url),
      );
    };
    // No term ends by itself here, also on a machine that stops for seconds.
    const first = campaign(name, await slowRedlock(), 60_000);
    await untilLeading(first);
    const observer = connect({ owner: "observer" });
    const second = campaign(name, await slowRedlock(), 60_000);
    await untilWaiting(observer, name, 1);
    expect((await observer.holder(name))?.owner).toBe(first.redlock.settings.owner);
    expect((await observer.holder(name))?.fence).toBe(first.terms[0]?.fence);
    expect(second.terms).toEqual([]);
    for (const proxy of proxies) proxy.replyDelayMs = ROUND_TRIP_MS;
    const resignedMs = machineMs();
    first.controller.abort();
    await untilLeading(second);
    const { fromMs, fence } = defined(second.terms[0]);
    expect(fromMs - resignedMs).toBeLessThan(3 * ROUND_TRIP_MS * slowness());
    expect(fence).toBeGreaterThan(defined(first.terms[0]).fence);
    expect(await first.outcome).toBeUndefined();
    second.controller.abort();
    await second.outcome;
    await untilFree(servers, name);
  });

  test("whose process is killed is followed within the ttl and 50 ms", async () => {
    const name = fresh();
    const { child, next } = leaderProcess(name);
    expect((await next()).what).toBe("leads");
    const other = campaign(name);
    await untilWaiting(other.redlock, name, 1);
    const exit = once(child, "exit");
    const killedMs = machineMs();
    child.kill("SIGKILL");
    await exit;
    await untilLeading(other, 2 * TTL_MS);
    expect(defined(other.terms[0]).fromMs - killedMs).toBeLessThan(
      TTL_MS + 50 + MARGIN_MS * slowness(),
    );
    other.controller.abort();
    await other.outcome;
  });

  test("whose process is frozen is followed in time, told when it wakes, and campaigns again", async () => {
    const name = fresh();
    const { child, next } = leaderProcess(name);
    const first = await next();
    expect(first.what).toBe("leads");
    const other = campaign(name);
    await untilWaiting(other.redlock, name, 1);
    const frozenMs = machineMs();
    child.kill("SIGSTOP");
    await untilLeading(other, 2 * TTL_MS);
    const { fromMs, fence } = defined(other.terms[0]);
    expect(fromMs - frozenMs).toBeLessThan(TTL_MS + 50 + MARGIN_MS * slowness());
    expect(fence).toBeGreaterThan(first.fence);
    // It must not find the lock free when it wakes.
    expect((await other.redlock.holder(name))?.fence).toBe(fence);
    const wokenMs = machineMs();
    child.kill("SIGCONT");
    const second = await next();
    expect(second.what).toBe("told");
    expect(second.fence).toBe(first.fence);
    expect(second.atMs - wokenMs).toBeLessThan(MARGIN_MS * slowness());
    other.controller.abort();
    await other.outcome;
    const third = await next();
    expect(third.what).toBe("leads");
    expect(third.fence).toBeGreaterThan(fence);
  });

  test("whose process is frozen for less than its validity leads on", async () => {
    const name = fresh();
    const { child, next } = leaderProcess(name);
    const first = await next();
    const other = campaign(name);
    await untilWaiting(other.redlock, name, 1);
    child.kill("SIGSTOP");
    await new Promise((resolve) => setTimeout(resolve, TTL_MS / 10));
    child.kill("SIGCONT");
    await until(
      async () => {
        const holder = await other.redlock.holder(name);
        expect(holder?.fence).toBe(first.fence);
        // It was extended after it woke.
        return (holder?.remainingMs ?? 0) > (TTL_MS * 9) / 10 && machineMs() - first.atMs > TTL_MS;
      },
      3 * TTL_MS,
      () => "it is not extended",
    );
    expect(other.terms).toEqual([]);
    other.controller.abort();
    await other.outcome;
  });

  test("knows the end of its term when it asks the signal, ahead of every timer", async () => {
    const clocks = movableClocks();
    const redlock = connect(clocks.settings);
    const resigned = new AbortController();
    const asked: boolean[] = [];
    await redlock.lead(fresh(), 60_000, { signal: resigned.signal }, (signal) => {
      if (asked.length > 0) {
        resigned.abort();
        return;
      }
      asked.push(signal.aborted);
      clocks.monotonicStepMs = 60_000;
      asked.push(signal.aborted);
      signal.throwIfAborted();
    });
    expect(asked).toEqual([false, true]);
  });

  test("leads on while a server is killed and comes back, and while another is frozen", async () => {
    const name = fresh();
    const only = campaign(name);
    await untilLeading(only);
    const [one, other] = [defined(servers[0]), defined(servers[1])];
    await one.kill();
    await until(
      async () =>
        machineMs() - defined(only.terms[0]).fromMs > TTL_MS && (await isHeld(only, name)),
      3 * TTL_MS,
      () => "it is not extended",
    );
    await one.restart();
    await other.freeze();
    const thenMs = machineMs();
    await until(
      async () => machineMs() - thenMs > TTL_MS && (await isHeld(only, name)),
      3 * TTL_MS,
      () => "it is not extended",
    );
    other.thaw();
    expect(only.terms).toHaveLength(1);
    only.controller.abort();
    await only.outcome;
  });

  test("is elected again after most servers were gone for longer than its ttl", async () => {
    const name = fresh();
    const only = campaign(name);
    await untilLeading(only);
    const gone = servers.slice(0, 3);
    await Promise.all(gone.map((server) => server.freeze()));
    await until(
      () => only.terms.length === 1 && machineMs() - defined(only.terms[0]).fromMs > 2 * TTL_MS,
      5 * TTL_MS,
      () => "no time passes",
    );
    for (const server of gone) server.thaw();
    await until(
      () => only.terms.length === 2,
      10_000,
      () => "it is not elected again",
    );
    only.controller.abort();
    await only.outcome;
  });

  test("ends with a drain: it is told, holds the lock until its routine has ended, and hands over", async () => {
    const name = fresh();
    const redlock = connect();
    const end = new AbortController();
    let hasBegun = false;
    const leading = redlock.lead(name, TTL_MS, async (signal, lock) => {
      hasBegun = true;
      await once(signal, "abort");
      await once(end.signal, "abort");
      return lock.valid;
    });
    await until(
      () => hasBegun,
      10_000,
      () => "it does not lead",
    );
    const other = campaign(name);
    await untilWaiting(other.redlock, name, 1);
    const draining = redlock.quit({ drain: 60_000 });
    expect((await other.redlock.holder(name))?.owner).toBe(redlock.settings.owner);
    expect(other.terms).toEqual([]);
    end.abort();
    expect(await leading).toBe(true);
    await draining;
    await untilLeading(other);
    other.controller.abort();
    await other.outcome;
  });
});

async function isHeld({ redlock }: Candidate, name: string): Promise<boolean> {
  return (await redlock.holder(name)) !== null;
}
