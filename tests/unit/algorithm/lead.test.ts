import { describe, expect, it } from "@jest/globals";
import { type Lock, LockLostError, type RedlockAbortSignal } from "../../../src/lock.js";
import type { Settings } from "../../../src/settings.js";
import { type Client, played, rejection, type Stage } from "../../virtual-world/stage.js";

const ALL = [0, 1, 2, 3, 4];
const MAJORITY = [0, 1, 2];
/** Also a majority. The nodes before them are asked in each round. */
const LAST = [2, 3, 4];
const ROUND_TRIP_MS = 2;
/** An event on one machine that begins another on the same machine. */
const SLACK_MS = 1;

interface Service {
  readonly controller: AbortController;
  readonly terms: { readonly fromMs: number; readonly lock: Lock; untilMs: number }[];
  readonly outcome: Promise<unknown>;
}

/** Leads until it is told to stop, and then works for another while. */
function serve(stage: Stage, { redlock }: Client, settings = {}, lateMs = 0): Service {
  const controller = new AbortController();
  const terms: Service["terms"] = [];
  const { signal } = controller;
  const outcome = redlock.lead("r", 1000, { ...settings, signal }, async (told, lock) => {
    const term = { fromMs: stage.nowMs, lock, untilMs: Infinity };
    terms.push(term);
    await aborted(told);
    term.untilMs = stage.nowMs;
    if (lateMs > 0) await stage.sleep(lateMs);
    return `term ${terms.length}`;
  });
  return { controller, terms, outcome };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => {
      resolve();
    });
  });
}

describe("lead", () => {
  it(
    "runs the routine while it leads, for many times the ttl, and resolves with its value",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      let value = "";
      const done = await redlock.lead("r", 1000, async (signal, lock) => {
        ({ value } = lock);
        await stage.sleep(10_000);
        expect(signal.aborted).toBe(false);
        expect(lock.valid).toBe(true);
        expect((await redlock.holder("r"))?.value).toBe(value);
        return "done";
      });
      expect(done).toBe("done");
      expect(stage.holders("r", value)).toEqual([]);
    }),
  );

  it(
    "rejects with what the routine throws, and releases",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const own = new Error("the work failed");
      expect(await rejection(redlock.lead("r", 1000, () => Promise.reject(own)))).toBe(own);
      const thrown = redlock.lead("r", 1000, () => {
        throw own;
      });
      expect(await rejection(thrown)).toBe(own);
      // Nothing has aborted its signal.
      const abort = new DOMException("a timeout of its own", "AbortError");
      const aborting = redlock.lead("r", 1000, () => Promise.reject(abort));
      expect(await aborting.catch((error: unknown) => error)).toBe(abort);
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors
      const nothing = redlock.lead("r", 1000, () => Promise.reject(undefined));
      expect(
        await nothing.then(
          () => "resolved",
          () => "rejected",
        ),
      ).toBe("rejected");
      expect(stage.remainingMs("r")).toEqual([0, 0, 0, 0, 0]);
    }),
  );

  it(
    "campaigns without end, whatever the retries of the constructor",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0, acquireTimeout: 50 });
      stage.occupy(ALL, "r", 20_000);
      const { ms, gives } = await stage.timed(redlock.lead("r", 1000, () => "elected"));
      expect(gives).toBe("elected");
      expect(ms).toBeGreaterThan(19_000);
    }),
  );

  it(
    "gives each term a larger fencing token than all before",
    played(async (stage) => {
      const a = await stage.connect({ queue: true, fencing: true });
      const b = await stage.connect({ queue: true, fencing: true });
      const services = [serve(stage, a, { maxHold: 500 }), serve(stage, b, { maxHold: 500 })];
      await stage.sleep(5000);
      for (const { controller } of services) controller.abort();
      await Promise.all(services.map(({ outcome }) => outcome));
      const tokens = services
        .flatMap(({ terms }) => terms)
        .sort((one, other) => one.fromMs - other.fromMs)
        .map(({ lock }) => lock.fence ?? 0);
      expect(tokens.length).toBeGreaterThan(8);
      expect(tokens).toEqual(tokens.toSorted((one, other) => one - other));
      expect(new Set(tokens).size).toBe(tokens.length);
    }),
  );

  it(
    "refuses bad input before anything is sent",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lead = redlock.lead.bind(redlock) as (...args: unknown[]) => Promise<unknown>;
      const nothing = (): undefined => undefined;
      for (const [args, words] of [
        [["r", 1000], "INVARIANT: routine is not a function. lead() needs one"],
        [["r", 1000, {}, "work"], "INVARIANT: routine is not a function. lead() needs one"],
        [["r", 1000, nothing, {}], "Pass settings before the routine: lead(name, ttl, settings"],
        [[["r"], 1000, nothing], "lead() is about one resource"],
        [["", 1000, nothing], "must be a non-empty string"],
        [["r", 0, nothing], "Duration must be an integer value in milliseconds. The ttl of lead()"],
        [["r", 1000, { acquireTimeout: 5 }, nothing], "lead() takes no acquireTimeout"],
        [["r", 1000, { retryCount: 3 }, nothing], "lead() takes no retryCount"],
        [["r", 1000, { automaticExtensionThreshold: 950 }, nothing], "at least 100ms greater"],
        [["r", 1000, null, nothing], "The settings of lead() must be an object"],
        [["r", 1000, { retrycount: 3 }, nothing], "lead() knows no setting retrycount"],
      ] as const) {
        const error = await rejection(lead(...args));
        expect(error.message).toContain(words);
        expect(error.code).toBe("ERR_REDLOCK_INVALID_ARGUMENT");
      }
      expect(stage.asked).toEqual([]);
      expect(await redlock.lead("r", 1000, { retryCount: -1 }, () => 7)).toBe(7);
    }),
  );
});

describe("a resignation", () => {
  it(
    "tells the routine before anything is released, and hands over within three round trips",
    played(async (stage) => {
      const a = serve(stage, await stage.connect({ queue: true }), {}, 200);
      await stage.sleep(100);
      const b = serve(stage, await stage.connect({ queue: true }));
      await stage.sleep(500);
      expect(b.terms).toEqual([]);
      const resignedMs = stage.nowMs;
      a.controller.abort();
      // A routine that heeds the signal has ended its work here, and nothing was sent.
      expect(a.terms[0]?.lock.valid).toBe(false);
      expect(stage.questions("handOver", resignedMs)).toEqual([]);
      await stage.sleep(3 * ROUND_TRIP_MS + SLACK_MS);
      expect(a.terms[0]?.untilMs).toBe(resignedMs);
      expect(b.terms).toHaveLength(1);
      // It resolves when its routine has ended.
      expect(await stage.timed(a.outcome)).toEqual({
        ms: 200 - 3 * ROUND_TRIP_MS - SLACK_MS,
        gives: "term 1",
      });
      b.controller.abort();
      expect(await b.outcome).toBe("term 1");
    }),
  );

  it(
    "is no error, also where the routine throws because of it",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const reason = new Error("the service stops");
      const ways: ((signal: RedlockAbortSignal) => unknown)[] = [
        (signal) => signal.reason as unknown,
        (signal) => signal.error,
        () => new DOMException("The operation was aborted", "AbortError"),
        (signal) => Object.assign(new Error("aborted", { cause: signal.reason }), { code: "X" }),
        () => Object.assign(new Error("canceled"), { name: "CanceledError" }),
      ];
      for (const way of ways) {
        const controller = new AbortController();
        const { signal } = controller;
        const leading: Promise<unknown> = redlock.lead("r", 1000, { signal }, async (told) => {
          await aborted(told);
          throw way(told);
        });
        await stage.sleep(20);
        controller.abort(reason);
        expect(await leading).toBeUndefined();
      }
      const controller = new AbortController();
      const own = new Error("it cannot write its log", { cause: new Error("disk full") });
      const leading = redlock.lead("r", 1000, { signal: controller.signal }, async (told) => {
        await aborted(told);
        throw own;
      });
      await stage.sleep(20);
      controller.abort(reason);
      expect(await rejection(leading)).toBe(own);
      const text = new AbortController();
      const told: Promise<unknown> = redlock.lead(
        "r",
        1000,
        { signal: text.signal },
        async (signal) => {
          await aborted(signal);
          expect(signal.reason).toBe("stop");
          expect(signal.error?.message).toBe("stop");
          throw signal.error ?? new Error("not told");
        },
      );
      await stage.sleep(20);
      text.abort("stop");
      expect(await told).toBeUndefined();
    }),
  );

  it(
    "ends a campaign, and asks nothing if it comes before",
    played(async (stage) => {
      const { redlock } = await stage.connect({ queue: true });
      let runs = 0;
      const routine = (): number => (runs += 1);
      const before = { signal: AbortSignal.abort() };
      expect(await redlock.lead("r", 1000, before, routine)).toBeUndefined();
      expect(stage.asked).toEqual([]);
      stage.occupy(ALL, "r");
      const controller = new AbortController();
      const campaign = redlock.lead("r", 1000, { signal: controller.signal }, routine);
      await stage.sleep(3000);
      controller.abort();
      expect((await stage.timed(campaign)).ms).toBe(0);
      expect(await campaign).toBeUndefined();
      // It has left the queue.
      await stage.sleep(10);
      const [node] = await redlock.inspect("r");
      expect(node?.resources[0]?.waiters).toEqual([]);
      expect(runs).toBe(0);
    }),
  );

  it(
    "that meets the grant leaves nothing behind, and runs nothing",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      let runs = 0;
      for (const afterMs of [0.5, 1, 1.5, ROUND_TRIP_MS]) {
        const controller = new AbortController();
        const leading = redlock.lead("r", 1000, { signal: controller.signal }, () => (runs += 1));
        await stage.sleep(afterMs);
        const wasRun = runs > 0;
        controller.abort();
        await leading;
        expect(runs > 0).toBe(wasRun);
        await stage.sleep(20);
        expect(stage.remainingMs("r")).toEqual([0, 0, 0, 0, 0]);
        runs = 0;
      }
    }),
  );

  it(
    "in the event of the grant runs nothing, and releases",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const controller = new AbortController();
      redlock.on("acquired", () => {
        controller.abort();
      });
      let runs = 0;
      const { signal } = controller;
      const leading = redlock.lead("r", 1000, { signal }, () => (runs += 1));
      expect(await leading).toBeUndefined();
      expect(runs).toBe(0);
      await stage.sleep(20);
      expect(stage.remainingMs("r")).toEqual([0, 0, 0, 0, 0]);
    }),
  );
});

it(
  "ends by a reason that cannot be made a text, and releases",
  played(async (stage) => {
    const { redlock } = await stage.connect();
    const controller = new AbortController();
    const leading = redlock.lead("r", 1000, { signal: controller.signal }, async (told) => {
      await aborted(told);
      return told.error?.message;
    });
    await stage.sleep(100);
    controller.abort(Object.create(null));
    expect((await stage.timed(leading)).ms).toBeLessThanOrEqual(ROUND_TRIP_MS);
    expect(await leading).toBe("[object Object]");
    expect(stage.remainingMs("r")).toEqual([0, 0, 0, 0, 0]);
  }),
);

it(
  "has the settings of its call in each campaign, whatever becomes of the object",
  played(async (stage) => {
    const { redlock } = await stage.connect();
    const controller = new AbortController();
    const settings: Settings = { signal: controller.signal };
    const leading = redlock.lead("r", 1000, settings, aborted);
    await stage.sleep(100);
    Object.assign(settings, { signal: new AbortController().signal, acquireTimeout: -1 });
    stage.forget(ALL, "r");
    await stage.sleep(3000);
    expect((await redlock.holder("r"))?.remainingMs).toBeGreaterThan(0);
    controller.abort(new Error("enough"));
    expect((await stage.timed(leading)).ms).toBeLessThanOrEqual(ROUND_TRIP_MS);
    expect(stage.remainingMs("r")).toEqual([0, 0, 0, 0, 0]);
  }),
);

describe("a loss", () => {
  it(
    "is told before the validity ends, and followed by another campaign once the routine has ended",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const controller = new AbortController();
      const runs: { fromMs: number; endMs: number; toldMs: number; untilMs: number }[] = [];
      const { signal } = controller;
      const leading = redlock.lead("r", 1000, { signal }, async (told, lock) => {
        const run = {
          fromMs: stage.nowMs,
          endMs: lock.expiration - 1_000_000,
          toldMs: 0,
          untilMs: 0,
        };
        runs.push(run);
        if (runs.length > 1) return "second term";
        stage.freeze(MAJORITY, 3000);
        await aborted(told);
        run.toldMs = stage.nowMs;
        expect(told.reason).toBeInstanceOf(LockLostError);
        expect(told.error).toBe(told.reason);
        await stage.sleep(5000);
        run.untilMs = stage.nowMs;
        return "of a lost term";
      });
      expect(await leading).toBe("second term");
      const [first, second] = runs;
      expect(first?.toldMs).toBeLessThan(first?.endMs ?? 0);
      expect(second?.fromMs).toBeGreaterThanOrEqual(first?.untilMs ?? Infinity);
      expect(second?.fromMs).toBeLessThan((first?.untilMs ?? 0) + 10 * ROUND_TRIP_MS);
    }),
  );

  it(
    "is a loss also where the routine throws because of it, and where nobody has noticed it yet",
    played(async (stage) => {
      const { redlock, host } = await stage.connect();
      let term = 0;
      const ways: ((told: RedlockAbortSignal, lock: Lock) => Promise<unknown>)[] = [
        (told) => Promise.reject(told.error ?? new Error("not told")),
        () => Promise.reject(new DOMException("aborted", "AbortError")),
        (told) => Promise.reject(new Error("fetch failed", { cause: told.reason })),
        (_, lock) => lock.extend(1000),
      ];
      const done = await redlock.lead("r", 1000, async (told, lock) => {
        const way = ways[term];
        term += 1;
        if (way !== undefined) {
          stage.forget(ALL, "r");
          await aborted(told);
          return way(told, lock);
        }
        if (term > ways.length + 1) return "done";
        host.stepWall(10_000);
        return "too late";
      });
      expect(done).toBe("done");
      expect(term).toBe(ways.length + 2);
    }),
  );

  it(
    "does not hide what the routine threw",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const own = new Error("the work failed");
      const leading = redlock.lead("r", 1000, async (told) => {
        stage.forget(ALL, "r");
        await aborted(told);
        throw own;
      });
      expect(await rejection(leading)).toBe(own);
    }),
  );

  it(
    "after which it resigns is the end",
    played(async (stage) => {
      const a = serve(stage, await stage.connect(), {}, 300);
      await stage.sleep(50);
      stage.forget(ALL, "r");
      while (a.terms[0]?.untilMs === Infinity) await stage.sleep(1);
      a.controller.abort();
      expect(await a.outcome).toBeUndefined();
      expect(a.terms).toHaveLength(1);
    }),
  );

  it(
    "of a leader that crashed is made good within the ttl",
    played(async (stage) => {
      const a = await stage.connect({ queue: true });
      void serve(stage, a).outcome;
      await stage.sleep(100);
      const b = serve(stage, await stage.connect({ queue: true }));
      await stage.sleep(2000);
      a.host.dead = true;
      const crashedMs = stage.nowMs;
      while (b.terms.length === 0) await stage.sleep(1);
      expect(stage.nowMs - crashedMs).toBeLessThanOrEqual(1000 + 50);
      b.controller.abort();
      await b.outcome;
      a.host.timers.clear();
    }),
  );
});

describe("maxHold", () => {
  it(
    "lasts as long as it says, also where one timer does not",
    played(async (stage) => {
      const client = await stage.connect();
      const { environment } = client.internals;
      // As Node's timers do after 2 ** 31 ms.
      const setTimer: typeof environment.setTimer = environment.setTimer.bind(environment);
      environment.setTimer = (callback, delayMs) => setTimer(callback, Math.min(delayMs, 400));
      let heldMs = 0;
      const controller = new AbortController();
      const { signal } = controller;
      const leading = client.redlock.lead("r", 1000, { maxHold: 1500, signal }, async (told) => {
        const fromMs = stage.nowMs;
        await aborted(told);
        heldMs ||= stage.nowMs - fromMs;
        controller.abort(new Error("enough"));
      });
      await leading;
      expect(heldMs).toBeGreaterThanOrEqual(1500);
      expect(heldMs).toBeLessThan(1500 + 2 * SLACK_MS);
    }),
  );

  it.each([true, false])(
    "lets the others lead in turn, each only after the routine before it has ended (queue: %s)",
    async (queue) =>
      played(async (stage) => {
        const settings = { maxHold: 1500 };
        const services: Service[] = [];
        for (let index = 0; index < 3; index++) {
          services.push(serve(stage, await stage.connect({ queue }), settings, 100));
        }
        await stage.sleep(15_000);
        for (const { controller } of services) controller.abort();
        await Promise.all(services.map(({ outcome }) => outcome));
        const terms = services
          .flatMap((service) => service.terms.map((term) => ({ ...term, service })))
          .sort((a, b) => a.fromMs - b.fromMs);
        expect(terms.length).toBeGreaterThan(5);
        for (const [index, term] of terms.slice(0, -1).entries()) {
          const next = terms[index + 1];
          expect(next?.service).not.toBe(term.service);
          // The lock is held until the routine has ended.
          expect(next?.fromMs).toBeGreaterThanOrEqual(term.untilMs + 100);
          expect(term.untilMs - term.fromMs).toBeLessThanOrEqual(1500);
        }
        for (const { terms: own } of services) expect(own.length).toBeGreaterThan(1);
      })(),
  );

  it(
    "says so as the cause of the loss, and leads on where nobody else campaigns",
    played(async (stage) => {
      const { redlock } = await stage.connect({ queue: true });
      const reasons: unknown[] = [];
      let fromMs = 0;
      await redlock.lead("r", 1000, { maxHold: 1500 }, async (signal, lock) => {
        if (reasons.length === 2) return;
        fromMs = stage.nowMs;
        await aborted(signal);
        expect(lock.valid).toBe(true);
        expect(stage.nowMs - fromMs).toBe(1500);
        reasons.push(signal.reason);
      });
      for (const reason of reasons as LockLostError[]) {
        expect(reason).toBeInstanceOf(LockLostError);
        expect(reason.message).toBe(
          "The term as leader of r is over: it was held for its maxHold of 1.5 s, after which the library does not extend it.",
        );
      }
    }),
  );

  it(
    "frees the lock by its validity where the routine does not end",
    played(async (stage) => {
      const a = serve(stage, await stage.connect({ queue: true }), { maxHold: 1500 }, 20_000);
      await stage.sleep(100);
      const b = serve(stage, await stage.connect({ queue: true }));
      while (b.terms.length === 0) await stage.sleep(1);
      expect(stage.nowMs).toBeLessThan(1500 + 1000 + 100);
      await stage.sleep(25_000);
      expect(a.terms).toHaveLength(1);
      for (const { controller } of [a, b]) controller.abort();
      expect(await a.outcome).toBeUndefined();
      await b.outcome;
    }),
  );
});

describe("closing", () => {
  it(
    "ends a campaign and a term, without an error",
    played(async (stage) => {
      const a = await stage.connect({ queue: true });
      const b = await stage.connect({ queue: true });
      const leading = serve(stage, a, {}, 50);
      await stage.sleep(50);
      const campaigning = serve(stage, b);
      await stage.sleep(500);
      await b.redlock.quit();
      expect(await campaigning.outcome).toBeUndefined();
      const reasons: unknown[] = [];
      const { lock } = leading.terms[0] ?? {};
      const quitting = a.redlock.quit();
      expect(leading.terms[0]?.untilMs).toBe(Infinity);
      await quitting;
      expect(await leading.outcome).toBe("term 1");
      expect(lock?.valid).toBe(false);
      expect(stage.remainingMs("r")).toEqual([0, 0, 0, 0, 0]);
      const error = await rejection(a.redlock.lead("r", 1000, () => reasons.push(1)));
      expect(error.code).toBe("ERR_REDLOCK_CLOSED");
      expect(reasons).toEqual([]);
    }),
  );

  it(
    "with a drain tells the leader at once, and holds the lock until its routine has ended",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      let told: RedlockAbortSignal | undefined;
      let value = "";
      const leading: Promise<unknown> = redlock.lead("r", 1000, async (signal, lock) => {
        told = signal;
        ({ value } = lock);
        await aborted(signal);
        await stage.sleep(4000);
        expect(lock.valid).toBe(true);
        expect(stage.holders("r", value)).toEqual(ALL);
        throw signal.error as Error;
      });
      await stage.sleep(50);
      const draining = stage.timed(redlock.quit({ drain: 60_000 }));
      expect(told?.aborted).toBe(true);
      expect((told?.reason as { code?: unknown }).code).toBe("ERR_REDLOCK_CLOSED");
      expect(await leading).toBeUndefined();
      expect((await draining).ms).toBeLessThan(4000 + 10 * ROUND_TRIP_MS);
      expect(stage.holders("r", value)).toEqual([]);
    }),
  );
});

/** The times of a client's attempts that the third node refuses, or cannot be asked for. */
function refusalsOf(stage: Stage, { redlock, links }: Client): number[] {
  const times: number[] = [];
  redlock.on("error", (_, node) => {
    if (node === links[2]?.name) times.push(stage.nowMs);
  });
  return times;
}

describe("while too few nodes answer", () => {
  it.each([true, false])(
    "it campaigns on, less and less often, and leads soon after they are back (queue: %s)",
    async (queue) =>
      played(async (stage) => {
        const client = await stage.connect({ queue, retryJitter: 0 });
        const states: string[] = [];
        client.redlock.on("node:down", ({ node }) => states.push(`${node} down`));
        stage.crash(LAST);
        await stage.sleep(20);
        const times = refusalsOf(stage, client);
        const a = serve(stage, client);
        await stage.sleep(1000);
        times.length = 0;
        await stage.sleep(9000);
        // It began with 200 ms; a third of the ttl is 333 ms.
        expect(times.length).toBeLessThanOrEqual(Math.ceil(9000 / 333));
        expect(times.length).toBeGreaterThanOrEqual(Math.floor(9000 / 340));
        expect(states).toHaveLength(3);
        await stage.restart(LAST);
        const backMs = stage.nowMs;
        while (a.terms.length === 0) await stage.sleep(1);
        // It takes 50 ms until the client is connected.
        expect(stage.nowMs - backMs).toBeLessThanOrEqual(50 + 333 + 20);
        a.controller.abort();
        await a.outcome;
      })(),
  );

  it(
    "the pause grows up to 5 s, and is the usual one where others hold the lock",
    played(async (stage) => {
      const client = await stage.connect({ retryJitter: 0 });
      const times = refusalsOf(stage, client);
      stage.occupy(ALL, "r", 200_000);
      const controller = new AbortController();
      const { signal } = controller;
      const settings = { signal, nodeTimeout: 50 };
      const campaign = client.redlock.lead("r", 60_000, settings, () => "elected");
      await stage.sleep(10_000);
      expect(times.length).toBeGreaterThanOrEqual(Math.floor(10_000 / 203));
      stage.freeze(LAST, 50_000);
      await stage.sleep(20_000);
      times.length = 0;
      await stage.sleep(20_000);
      expect(times.length).toBe(4);
      await stage.sleep(11_000 + 5000);
      times.length = 0;
      // They are back, and refuse it.
      await stage.sleep(2000);
      expect(times.length).toBeGreaterThanOrEqual(9);
      controller.abort();
      expect(await campaign).toBeUndefined();
    }),
  );
});
