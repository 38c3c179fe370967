import { describe, expect, it } from "@jest/globals";
import type { Settings } from "../../../src/settings.js";
import { type Client, played, rejection, type Stage } from "../../virtual-world/stage.js";

const ALL = [0, 1, 2, 3, 4];
const MAJORITY = [0, 1, 2];
const TTL_MS = 5000;
const PATIENT = { queue: true, retryCount: -1 };

/** Holds the lock for so long, and notes whose turn it was. */
async function takeTurn(
  stage: Stage,
  { redlock }: Client,
  turns: string[],
  name: string,
  holdMs: number,
): Promise<void> {
  const lock = await redlock.acquire("r", TTL_MS);
  turns.push(name);
  await stage.sleep(holdMs);
  await lock.release();
}

describe("a caller behind another one of its process", () => {
  const unlike: [string, number, Settings][] = [
    ["a ttl that is too short for the network", 150, {}],
    ["a nodeTimeout that is too short for the network", TTL_MS, { nodeTimeout: 50 }],
    ["a driftFactor that leaves no validity", 170, { driftFactor: 0.2 }],
  ];

  it.each(unlike)("gets a free lock although that one has %s", (_, ttlMs, settings) =>
    played(async (stage) => {
      const client = await stage.connect({ ...PATIENT, nodeTimeout: 1000 });
      for (const link of client.links) link.extraDelayMs = 75;
      const { redlock } = client;
      const over = new AbortController();
      const hopeless = rejection(redlock.acquire("r", ttlMs, { ...settings, signal: over.signal }));
      await stage.sleep(400);
      const lock = await redlock.acquire("r", TTL_MS, { acquireTimeout: 4000 });
      expect(lock.valid).toBe(true);
      await lock.release();
      over.abort(new Error("enough"));
      await hopeless;
    })(),
  );

  it(
    "gets a free lock although that one takes a fence that cannot be read",
    played(async (stage) => {
      const { redlock } = await stage.connect(PATIENT);
      for (const { redis, clockMs } of stage.servers) {
        redis.execute("set", ["{r}:redlock:fence", "no number"], clockMs);
      }
      const over = new AbortController();
      const hopeless = rejection(
        redlock.acquire("r", TTL_MS, { fencing: true, signal: over.signal }),
      );
      await stage.sleep(400);
      await (await redlock.acquire("r", TTL_MS, { acquireTimeout: 4000 })).release();
      over.abort(new Error("enough"));
      await hopeless;
    }),
  );

  it(
    "does not wait for the retry timer of that one",
    played(async (stage) => {
      const client = await stage.connect({ ...PATIENT, retryJitter: 0 });
      for (const link of client.links) {
        link.subscribe = () => {
          throw new Error("no subscriptions");
        };
      }
      stage.occupy(ALL, "r", 300);
      const over = new AbortController();
      const rare = client.redlock
        .acquire("r", TTL_MS, { retryDelay: 900_000, signal: over.signal })
        .then((lock) => lock.release());
      await stage.sleep(100);
      stage.crash(MAJORITY);
      await stage.sleep(1000);
      await stage.restart(MAJORITY);
      const settings = { retryDelay: 100, acquireTimeout: 9000 };
      await (await client.redlock.acquire("r", TTL_MS, settings)).release();
      over.abort(new Error("enough"));
      await rare.catch(() => undefined);
    }),
  );

  it.each([-3_600_000, 3_600_000])(
    "keeps its place before and behind others where the wall clock is set by %d ms",
    (stepMs) =>
      played(async (stage) => {
        const turns: string[] = [];
        const ours = await stage.connect(PATIENT);
        const others = await stage.connect(PATIENT);
        const before = await stage.connect(PATIENT);
        const first = await others.redlock.acquire("r", TTL_MS);
        const all = [takeTurn(stage, ours, turns, "1", 600)];
        await stage.sleep(50);
        all.push(takeTurn(stage, before, turns, "2", 10));
        await stage.sleep(50);
        all.push(takeTurn(stage, ours, turns, "3", 10));
        await stage.sleep(50);
        ours.host.stepWall(stepMs);
        await stage.sleep(50);
        all.push(takeTurn(stage, others, turns, "4", 10));
        await stage.sleep(50);
        await first.release();
        await Promise.all(all);
        expect(turns).toEqual(["1", "2", "3", "4"]);
      })(),
  );
});

it(
  "who calls after its host was suspended passes nobody who has waited meanwhile",
  played(async (stage) => {
    const turns: string[] = [];
    const ours = await stage.connect(PATIENT);
    const others = await stage.connect(PATIENT);
    const holder = await stage.connect(PATIENT);
    const first = await holder.redlock.acquire("r", 600_000);
    // It knows the clocks of the nodes.
    stage.occupy(ALL, "s", 400);
    await (await ours.redlock.acquire("s", TTL_MS)).release();
    ours.host.suspend(30_000);
    await stage.sleep(10_000);
    const before = takeTurn(stage, others, turns, "before", 10);
    await stage.sleep(25_000);
    const later = takeTurn(stage, ours, turns, "later", 10);
    await stage.sleep(1000);
    await first.release();
    await Promise.all([before, later]);
    expect(turns).toEqual(["before", "later"]);
  }),
);

it(
  "whose retryDelay is 0 lets the event loop run while a majority is down",
  played(async (stage) => {
    const { redlock } = await stage.connect({ ...PATIENT, retryDelay: 0, retryJitter: 0 });
    const kept = await redlock.acquire("kept", 8000, { autoExtend: true });
    stage.crash(MAJORITY);
    await stage.sleep(10);
    const over = new AbortController();
    const waiting = [1, 2].map(() =>
      rejection(redlock.acquire("r", TTL_MS, { signal: over.signal })),
    );
    await stage.sleep(100);
    over.abort(new Error("enough"));
    for (const error of await Promise.all(waiting)) expect(error.message).toBe("enough");
    // The extensions that fail let it run, too.
    await stage.sleep(7000);
    expect(kept.signal.aborted).toBe(false);
    await stage.restart(MAJORITY);
    await kept.release().catch(() => undefined);
  }),
);

it(
  "who is handed a permit of a resource with spaces takes that permit at once",
  played(async (stage) => {
    const settings = { ...PATIENT, retryDelay: 100_000, retryJitter: 0, permits: 50 };
    const { redlock } = await stage.connect(settings);
    const other = await stage.connect(settings);
    const held = await Promise.all(
      Array.from({ length: 50 }, () => redlock.acquire("a  job for\nall", 20_000)),
    );
    for (const lock of held.slice(-5)) {
      const next = other.redlock.acquire("a  job for\nall", 20_000);
      await stage.sleep(100);
      await lock.release();
      const given = await next;
      expect(given.permit).toBe(lock.permit);
      expect(given.attempts).toHaveLength(2);
    }
  }),
);
