import { describe, expect, it } from "@jest/globals";
import { crowd, type Member, quantile, type Result, SIXTEEN } from "./crowd.js";
import { library } from "../virtual-world/library.js";
import { LINE_RULES, measured } from "./line-rules.js";
import { mutate } from "./mutants.js";
import { turn } from "../virtual-world/turn.js";

describe("a rule of the line", () => {
  for (const rule of LINE_RULES) {
    it(`is needed: ${rule.name}`, async () => {
      expect(await turn(() => measured(rule, library))).toBeLessThanOrEqual(rule.atMost);
      const simpler = await mutate({ name: rule.name, ...rule.simpler });
      expect(await turn(() => measured(rule, simpler))).toBeGreaterThan(rule.atMost);
    });
  }
});

function turnsOf({ order }: Result, isCounted: (member: number) => boolean): number {
  return order.filter(isCounted).length;
}

describe("a line", () => {
  it("of one process asks the nodes once a turn, however many wait", async () => {
    const of = (workers: number): Result => crowd({ members: [{ workers }], forMs: 4000 }, library);
    const { few, many } = await turn(() => ({ few: of(10), many: of(1000) }));
    const commandsPerTurn = ({ commands, order }: Result): number => commands / order.length;
    expect(Math.max(...many.turns.flat())).toBe(2);
    expect(Math.min(...many.turns.flat())).toBe(1);
    // The first attempts of those who came before anybody waited are on top.
    expect(commandsPerTurn(many)).toBeLessThan(1.5 * commandsPerTurn(few));
  });

  it("goes on where wake-ups are lost, by the retry timer", async () => {
    const members = SIXTEEN;
    const { turns } = await turn(() =>
      crowd({ members, forMs: 20_000, lostWakeUps: 0.5 }, library),
    );
    expect(Math.min(...turns.flat())).toBeGreaterThan(100);
  });

  it("goes on beside one who waits for two, one who hears nothing, one who is dead, one who is paused", async () => {
    const one = { forMs: 4000 };
    const crowds = await turn(() => ({
      plain: crowd({ ...one, members: SIXTEEN }, library),
      forTwo: crowd({ ...one, members: [{ resources: ["r", "s"] }, ...SIXTEEN] }, library),
      mute: crowd({ ...one, members: [{ isMute: true }, ...SIXTEEN] }, library),
      dead: crowd(
        {
          ...one,
          members: [{}, ...SIXTEEN],
          events: [
            {
              atMs: 500,
              run: (all) => {
                all.kill(0);
              },
            },
          ],
        },
        library,
      ),
      paused: crowd(
        {
          ...one,
          members: [{}, ...SIXTEEN],
          events: [
            {
              atMs: 500,
              run: ({ hosts }) => {
                hosts[0]?.pause(3500);
              },
            },
          ],
        },
        library,
      ),
    }));
    const plain = crowds.plain.order.length;
    for (const [name, result] of Object.entries(crowds)) {
      if (name === "plain") continue;
      const share = turnsOf(result, (member) => member > 0) / plain;
      expect({ name, isEnough: share >= 0.7 }).toEqual({ name, isEnough: true });
    }
  });

  it("is hardly slowed down by one who stops hearing, whether it hears again later or not", async () => {
    const four: readonly Member[] = Array.from({ length: 4 }, () => ({ workMs: 20 }));
    const with1 = (isMute: boolean): Result =>
      crowd(
        {
          members: four,
          forMs: 30_000,
          events: [
            {
              atMs: 1000,
              run: ({ links }) => {
                for (const link of links[0] ?? []) {
                  link.isMute = isMute;
                  link.forgetSubscriptions();
                }
              },
            },
          ],
        },
        library,
      );
    const { plain, again, never } = await turn(() => ({
      plain: crowd({ members: four, forMs: 30_000 }, library),
      again: with1(false),
      never: with1(true),
    }));
    for (const result of [again, never]) {
      expect(turnsOf(result, () => true)).toBeGreaterThan(0.9 * plain.order.length);
      const all = result.turns.flat();
      expect(Math.min(...all)).toBeGreaterThanOrEqual(0.8 * Math.max(...all));
    }
  });

  it("keeps its order and pace with two of five nodes hung, or dead", async () => {
    const with2 = (how: "pause" | "crash") =>
      crowd(
        {
          members: SIXTEEN,
          forMs: 4000,
          events: [
            {
              atMs: 1000,
              run: ({ nodes, links }) => {
                for (const node of nodes.slice(0, 2)) {
                  if (how === "pause") node.pause(10_000);
                  else node.crash();
                  if (how === "crash") for (const own of links) own[node.index]?.reset();
                }
              },
            },
          ],
        },
        library,
      );
    const { plain, hung, dead } = await turn(() => ({
      plain: crowd({ members: SIXTEEN, forMs: 4000 }, library),
      hung: with2("pause"),
      dead: with2("crash"),
    }));
    const usualMs = quantile(plain.handOversMs, 0.5);
    for (const result of [hung, dead]) {
      const all = result.turns.flat();
      expect(Math.min(...all)).toBeGreaterThanOrEqual(0.9 * Math.max(...all));
      expect(quantile(result.handOversMs, 0.5)).toBeLessThanOrEqual(1.5 * usualMs);
    }
  });

  it("serves three regions evenly, for an hour", async () => {
    const HOUR_MS = 3_600_000;
    const [near, middle, far] = [
      [1, 1, 40, 40, 75],
      [40, 40, 1, 1, 60],
      [75, 75, 60, 60, 1],
    ] as const;
    const { turns, errors, order } = await turn(() =>
      crowd(
        {
          members: [near, middle, far, near].map((wayMs, index) => ({
            wayMs,
            workMs: 500,
            clockAheadMs: (index - 1) * 3000,
          })),
          forMs: HOUR_MS,
          ttlMs: 10_000,
        },
        library,
      ),
    );
    const all = turns.flat();
    expect(Math.min(...all)).toBeGreaterThanOrEqual(0.9 * Math.max(...all));
    // Half a second of work, and what the way to the farthest majority takes.
    expect(order.length).toBeGreaterThan(HOUR_MS / 1000);
    expect(errors).toEqual([]);
  });
});
