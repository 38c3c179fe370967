import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { promisify } from "node:util";
import { describe, expect, it } from "@jest/globals";
import { type Library, library } from "../virtual-world/library.js";
import { expectNoViolation } from "./no-violation.js";
import { LINE_RULES } from "./line-rules.js";
import {
  catchMutant,
  fileOf,
  FOUND,
  MUTANTS,
  mutate,
  OF_LOSSES,
  seedThatCatches,
} from "./mutants.js";
import { makePlan, type Plan } from "./plan.js";
import { type Outcome, run } from "./run.js";
import { turn } from "../virtual-world/turn.js";

function replay(plan: Plan, of: Library = library): Promise<Outcome> {
  return turn(() => run(plan, of));
}

function trace(plan: Plan): Promise<Outcome> {
  return turn(() => run(plan, library, true));
}

function hashOf({ trace }: Outcome): string {
  return createHash("sha1").update(trace.join("\n")).digest("hex");
}

/** Runs TypeScript in a process of its own. */
function inProcess(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  return promisify(execFile)(process.execPath, ["--import", "tsx", ...args], {
    env: { ...process.env, NODE_OPTIONS: "" },
    maxBuffer: 2 ** 26,
  });
}

/** A plan that showed a bug of the library, which is fixed. */
interface Regression {
  /** As in `FOUND`. */
  readonly name: string;
  readonly rule: string;
  readonly plan: Plan;
}

const folder = new URL("regressions/", import.meta.url);
const regressions = readdirSync(folder).map(
  (file) => JSON.parse(readFileSync(new URL(file, folder), "utf8")) as Regression,
);

describe("the simulator", () => {
  it("gives the same trace for the same seed, and another for another", async () => {
    const [first, again, other] = [
      await trace(makePlan(7)),
      await trace(makePlan(7)),
      await trace(makePlan(8)),
    ];
    expect(first.trace.length).toBeGreaterThan(20);
    expect(hashOf(again)).toBe(hashOf(first));
    expect(hashOf(other)).not.toBe(hashOf(first));
  });

  it("gives the same trace in another process", async () => {
    const { stdout } = await inProcess("tests/simulation/main.ts", "--seed", "7");
    const traced = await trace(makePlan(7));
    expect(stdout).toContain(traced.trace.join("\n"));
  });

  // simulation.long.test.ts goes on.
  it("finds no violation in the first 50 schedules", () => expectNoViolation(1, 50));

  it("has two clients, ten operations and a fault in each schedule", () => {
    for (let seed = 1; seed <= 1000; seed++) {
      const { clients, faults } = makePlan(seed);
      expect(clients.length).toBeGreaterThanOrEqual(2);
      expect(clients.flatMap(({ programs }) => programs.flat()).length).toBeGreaterThanOrEqual(10);
      expect(faults.length).toBeGreaterThanOrEqual(1);
    }
  });

  it.each([
    ["no drift", 50],
    ["one value for all attempts", 50],
    ["DEL without the compare", 50],
    ["a shorter extension shortens the key", 50],
    ["a majority's answers are not enough", 50],
    ["the signal of a plain lock is not watched", 50],
    ["the release of a lock aborts its signal", 50],
    ["a holder is not told that its extension was refused by too many", 50],
    ["forceRelease hands over to nobody", 50],
    // Few plans close with a kept lock: the first is that of seed 60.
    ["closing without a drain leaves kept locks", 60],
  ] as const)("catches the planted bug: %s", async (name, mostSeeds: number) => {
    const mutant = MUTANTS.find((each) => each.name === name);
    if (mutant === undefined) throw new Error(`there is no mutant ${name}`);
    const bugged = await mutate(mutant);
    expect(await turn(() => seedThatCatches(bugged, mostSeeds))).toBeDefined();
  });

  it("catches the planted bug, and makes its schedule short: quorum N/2", async () => {
    const mutant = MUTANTS.find(({ name }) => name === "quorum N/2");
    if (mutant === undefined) throw new Error("there is no mutant quorum N/2");
    const { seeds, plan, rule } = await catchMutant(mutant, 50);
    expect(rule).toBe("quorum");
    const operations = ({ clients }: Plan) =>
      clients.flatMap(({ programs }) => programs.flat()).length;
    if (seeds === undefined || plan === undefined) throw new Error("not caught");
    expect(operations(plan)).toBeLessThan(operations(makePlan(seeds)));
  });

  const inOneTurn = /^an end: client .* times in one turn of the event loop/;

  it.each([
    ["no pause after a failed extension", inOneTurn],
    ["a waiter's retry timer stays due", inOneTurn],
    ["nobody follows the first waiter of a process in line", /^an end: client .* waits for ever$/],
  ])("ends a turn or a wait that would never end, and reports it: %s", async (name, message) => {
    const mutant = MUTANTS.find((each) => each.name === name);
    if (mutant === undefined) throw new Error(`there is no mutant ${name}`);
    const bugged = await mutate(mutant);
    let found: Outcome["violation"];
    for (let seed = 1; found === undefined && seed <= 200; seed++) {
      found = (await replay(makePlan(seed), bugged)).violation;
    }
    expect(found?.message).toMatch(message);
  });

  // In a process of its own: see watchdog.ts.
  it("ends also a turn that hangs without a call", async () => {
    const script = `
      import { stepWatched } from "./tests/simulation/watchdog.ts";
      import { drain } from "./tests/virtual-world/world.ts";
      const spin = async () => {
        for (;;) await undefined;
      };
      setImmediate(() => {
        try {
          stepWatched("this", () => (void spin(), drain(), true), 200);
        } catch ({ message }) {
          console.log(message);
        }
      });
    `;
    const { stdout, stderr } = await inProcess("--input-type=module", "--eval", script);
    expect(stdout).toBe("an end in real time: this hangs: one turn has not ended in 200 ms\n");
    expect(stderr).toBe(stdout);
  });

  // Only npm run simulate -- --mutants tries them all, which nobody runs after each change.
  it("has its planted bugs where the library has the lines", async () => {
    const ofLines = LINE_RULES.map(({ name, simpler }) => ({ name, ...simpler }));
    const all = [...MUTANTS, ...FOUND, ...OF_LOSSES, ...ofLines];
    const tried = await Promise.allSettled(all.map(fileOf));
    const missing = tried.flatMap((each) =>
      each.status === "rejected" ? [String(each.reason)] : [],
    );
    expect(missing).toEqual([]);
  });

  it("has a plan for each bug that it found", () => {
    expect(regressions.map(({ name }) => name).sort()).toEqual(
      FOUND.map(({ name }) => name).sort(),
    );
  });

  it.each(regressions.map((regression) => [regression.name, regression] as const))(
    "finds again, where it is put back: %s",
    async (name, { rule, plan }) => {
      expect(rule).toMatch(/./);
      expect((await replay(plan)).violation).toBeUndefined();
      const bug = FOUND.find((each) => each.name === name);
      if (bug === undefined) throw new Error(`there is no such bug: ${name}`);
      expect((await replay(plan, await mutate(bug))).violation?.rule).toBe(rule);
    },
  );
});
