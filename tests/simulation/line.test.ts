import { describe, expect, it } from "@jest/globals";
import { crowd, quantile, SIXTEEN } from "./crowd.js";
import { library } from "../virtual-world/library.js";
import { LINE_RULES, measured } from "./line-rules.js";
import { turn } from "../virtual-world/turn.js";

describe("a rule of the line", () => {
  for (const rule of LINE_RULES.filter(({ isLong }) => isLong !== true)) {
    it(`keeps its bound: ${rule.name}`, async () => {
      expect(await turn(() => measured(rule, library))).toBeLessThanOrEqual(rule.atMost);
    });
  }
});

const ROUND_TRIP_MS = 0.3;

describe("a line", () => {
  it("gives everyone its turn in order, in three round trips", async () => {
    const { turns, waitsMs, handOversMs, errors } = await turn(() =>
      crowd({ members: SIXTEEN, forMs: 4000 }, library),
    );
    const all = turns.flat();
    expect(Math.min(...all)).toBeGreaterThanOrEqual(0.9 * Math.max(...all));
    expect(quantile(waitsMs, 0.99)).toBeLessThanOrEqual(1.5 * quantile(waitsMs, 0.5));
    expect(quantile(handOversMs, 0.5)).toBeLessThanOrEqual(3 * ROUND_TRIP_MS);
    expect(errors).toEqual([]);
  });

  it("goes on where wake-ups are lost, by the retry timer", async () => {
    const { turns } = await turn(() =>
      crowd({ members: SIXTEEN, forMs: 5000, lostWakeUps: 0.5 }, library),
    );
    expect(Math.min(...turns.flat())).toBeGreaterThan(25);
  });

  it("lets the next run within the ttl and 50 ms of a holder's death", async () => {
    const { handOversMs } = await turn(() =>
      crowd(
        {
          members: [{ workMs: 100_000 }, { fromMs: 5 }, { fromMs: 5 }],
          forMs: 3000,
          ttlMs: 1000,
          events: [
            {
              atMs: 300,
              run: (all) => {
                all.kill(0);
              },
            },
          ],
        },
        library,
      ),
    );
    // From its death, 300 ms after it acquired.
    expect(handOversMs[0]).toBeLessThanOrEqual(1000 - 290 + 50);
  });
});
