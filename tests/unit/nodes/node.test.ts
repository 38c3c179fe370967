import { describe, expect, it } from "@jest/globals";
import type { Node } from "../../../src/nodes/node.js";
import { type Machine, played, type Stage } from "../../virtual-world/stage.js";

/** The first server's node, and its answers after so long a round trip. */
async function firstNode(stage: Stage): Promise<{
  readonly node: Node;
  readonly link: Machine["links"][number];
  readonly answersAfter: (...roundTripsMs: number[]) => Promise<void>;
}> {
  const { nodes, machine } = await stage.nodes();
  const [node, link] = [nodes[0], machine.links[0]];
  if (node === undefined || link === undefined) throw new Error("no server");
  const answersAfter = async (...roundTripsMs: number[]): Promise<void> => {
    for (const roundTripMs of roundTripsMs) {
      link.extraDelayMs = (roundTripMs - 2) / 2;
      await node.query("ping", []);
    }
  };
  return { node, link, answersAfter };
}

describe("what a node has to answer in", () => {
  it(
    "is 5 % of the ttl within 50 to 1000 ms, while it answers faster",
    played(async (stage) => {
      const { node, answersAfter } = await firstNode(stage);
      for (const answered of [false, true]) {
        if (answered) await answersAfter(2, 10, 10);
        expect([100, 1000, 3000, 20_000, 600_000].map((ttlMs) => node.timeoutMs(ttlMs))).toEqual([
          50, 50, 150, 1000, 1000,
        ]);
      }
    }),
  );

  it(
    "is three times its recent round trip where that is more, while under a third of the ttl",
    played(async (stage) => {
      const { node, answersAfter } = await firstNode(stage);
      await answersAfter(80);
      expect(node.timeoutMs(1000)).toBe(240);
      expect(node.timeoutMs(721)).toBe(240);
      expect(node.timeoutMs(720)).toBe(50);
      // The last eight answers or so are the recent ones.
      await answersAfter(160);
      expect(node.timeoutMs(1000)).toBe(270);
    }),
  );

  it(
    "hardly grows by one answer that took unusually long: a server that was paused is not a slow one",
    played(async (stage) => {
      const { node, answersAfter } = await firstNode(stage);
      await answersAfter(2, 2000);
      expect(node.timeoutMs(1000)).toBe(50);
      expect(node.timeoutMs(3000)).toBe(150);
      // Of 2000 ms count 100.
      expect(node.timeoutMs(850)).toBe(50);
      await answersAfter(2000, 2000, 2000);
      expect(node.timeoutMs(850)).toBeCloseTo(3 * (100 - 98 * (7 / 8) ** 4), 6);
    }),
  );

  it(
    "also where that is its first answer",
    played(async (stage) => {
      const { node, answersAfter } = await firstNode(stage);
      await answersAfter(2000);
      expect(node.timeoutMs(3000)).toBe(300);
    }),
  );

  it(
    "grows with the round trips of a server that is slow, in which twice the usual is unusual",
    played(async (stage) => {
      const { node, answersAfter } = await firstNode(stage);
      await answersAfter(...Array<number>(60).fill(200));
      expect(node.timeoutMs(6000)).toBeGreaterThan(590);
      expect(node.timeoutMs(6000)).toBeLessThanOrEqual(600);
      await answersAfter(2000);
      expect(node.timeoutMs(6000)).toBeGreaterThan(660);
      expect(node.timeoutMs(6000)).toBeLessThanOrEqual(675);
    }),
  );
});

describe("a connection of the library's own on which nothing is heard", () => {
  it(
    "is given up for a new one after five seconds, and no sooner",
    played(async (stage) => {
      const { node, link } = await firstNode(stage);
      stage.freeze([0], 7000);
      const startMs = stage.nowMs;
      node.fellSilent();
      let lostAtMs: number | undefined;
      while (stage.nowMs < startMs + 9000) {
        const refusal = node.refusal();
        if (link.state !== "ready") lostAtMs ??= stage.nowMs - startMs;
        if (lostAtMs === undefined) expect(refusal?.message).toMatch(/^no answer for /);
        await stage.sleep(100);
      }
      expect(lostAtMs).toBeGreaterThanOrEqual(5000);
      expect(lostAtMs).toBeLessThanOrEqual(5300);
      expect(node.refusal()).toBeUndefined();
    }),
  );

  it(
    "is given up once, and again after five more seconds where that took no effect",
    played(async (stage) => {
      const { node, link } = await firstNode(stage);
      const renewedAtMs: number[] = [];
      const startMs = stage.nowMs;
      Object.assign(link, { renew: () => renewedAtMs.push(stage.nowMs - startMs) });
      link.lose("both");
      node.fellSilent();
      while (stage.nowMs < startMs + 12_000) {
        node.refusal();
        await stage.sleep(100);
      }
      expect(renewedAtMs).toEqual([5100, 10_200]);
    }),
  );

  it(
    "counts again by the new one, where what was sent on the old one is lost for good",
    played(async (stage) => {
      const { node, link } = await firstNode(stage);
      link.lose("both");
      node.fellSilent();
      const startMs = stage.nowMs;
      while (node.refusal() !== undefined) {
        expect(stage.nowMs - startMs).toBeLessThan(6000);
        await stage.sleep(100);
      }
      expect(link.epoch).toBe(2);
      await node.query("ping", []);
    }),
  );
});
