import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { describe, expect, it } from "@jest/globals";
import { library } from "./library.js";
import { makePlan } from "./plan.js";
import { type Outcome, run } from "./run.js";

/** Out of the microtasks, which a schedule must be able to run to their end. */
function replay(seed: number): Promise<Outcome> {
  return new Promise((resolve) => {
    setImmediate(() => {
      resolve(run(makePlan(seed), library, true));
    });
  });
}

function hashOf({ trace }: Outcome): string {
  return createHash("sha1").update(trace.join("\n")).digest("hex");
}

describe("the simulator", () => {
  it("gives the same trace for the same seed, and another for another", async () => {
    const [first, again, other] = [await replay(7), await replay(7), await replay(8)];
    expect(first.trace.length).toBeGreaterThan(20);
    expect(hashOf(again)).toBe(hashOf(first));
    expect(hashOf(other)).not.toBe(hashOf(first));
  });

  it("gives the same trace in another process", async () => {
    const simulate = ["--import", "tsx", "tests/simulation/main.ts", "--seed", "7"];
    const { stdout } = await promisify(execFile)(process.execPath, simulate, {
      env: { ...process.env, NODE_OPTIONS: "" },
      maxBuffer: 2 ** 26,
    });
    const { trace } = await replay(7);
    expect(stdout).toContain(trace.join("\n"));
  }, 30_000);

  it("finds no violation in the first 200 schedules", async () => {
    for (let seed = 1; seed <= 200; seed++) {
      expect({ seed, violation: (await replay(seed)).violation?.message }).toEqual({
        seed,
        violation: undefined,
      });
    }
  }, 60_000);
});
