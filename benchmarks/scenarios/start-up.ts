import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { interleave, median, spread } from "../measure.js";
import { buildPublished } from "../package-under-test.js";
import type { Outcome, Scenario, Stage } from "../scenario.js";

const MOST_MS = 150;
const NOTHING = "node -e 0";
const RUN = "redlock run, until its command starts";

export const startUp: Scenario = {
  name: "start-up",
  title: "Start-up",
  about:
    "Each figure is the time of a new process, from the call until it has ended, or until it prints its first word: in the " +
    "program, when it has its first lock; in the command line, when the command under the lock starts. The package is " +
    "built as it is published. The last column compares with the `node -e 0` of the same round.",
  rounds: { usual: 50, short: 10 },
  run,
};

async function run({ servers, rounds }: Stage): Promise<Outcome> {
  const directory = await buildPublished();
  const library = JSON.stringify(join(directory, "index.cjs"));
  const urls = servers.map(({ url }) => url);
  const firstLock =
    `const redlock = new (require(${library}).Redlock)(${JSON.stringify(urls)});` +
    'redlock.acquire("start-up:program", 10_000).then((lock) => {' +
    'console.log("locked"); return lock.release(); }).then(() => redlock.quit());';
  const contestants = new Map<string, () => Promise<number>>([
    [NOTHING, () => msUntilEnd(["-e", "0"])],
    ["require the library", () => msUntilEnd(["-e", `require(${library})`])],
    ["require it, and take a lock", () => msUntilFirstWord(["-e", firstLock])],
    ["redlock --version", () => msUntilEnd([join(directory, "cli.cjs"), "--version"])],
    [
      RUN,
      () => {
        const nodes = ["--nodes", urls.join(",")];
        const call = ["run", ...nodes, "start-up:command", "--", "echo", "started"];
        return msUntilFirstWord([join(directory, "cli.cjs"), ...call]);
      },
    ],
  ]);
  const measured = await interleave(rounds, contestants);
  const floor = measured.get(NOTHING) ?? [];
  const rows = Array.from(measured, ([name, times]) => ({
    name,
    figures: [
      spread(times),
      name === NOTHING ? undefined : spread(times.map((ms, round) => ms - (floor[round] ?? NaN))),
    ],
  }));
  const columns = [
    { name: "" },
    { name: "ms", digits: 0 },
    { name: "more than node -e 0, ms", digits: 0 },
  ];
  const runs = measured.get(RUN) ?? [];
  const goal = {
    measure: "redlock run on a free lock: ms until its command starts",
    measured: spread(runs),
    digits: 0,
    goal: `at most ${MOST_MS}`,
    met: median(runs) <= MOST_MS,
  };
  return { tables: [{ columns, rows }], goals: [goal] };
}

/** How long a new Node takes until it has ended. */
async function msUntilEnd(args: readonly string[]): Promise<number> {
  return (await timesOf(args)).endedMs;
}

/** How long a new Node takes until it, or a process that it has started, prints something. */
async function msUntilFirstWord(args: readonly string[]): Promise<number> {
  return (await timesOf(args)).printedMs;
}

interface Times {
  /** NaN if it prints nothing. */
  readonly printedMs: number;
  readonly endedMs: number;
}

async function timesOf(args: readonly string[]): Promise<Times> {
  const beganMs = performance.now();
  let printedMs = NaN;
  const child = spawn(process.execPath, args, {
    env: { ...process.env, NODE_OPTIONS: "" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  child.stdout.once("data", () => (printedMs = performance.now() - beganMs));
  // What is left to read is not worth reading, but must not fill the pipe.
  child.stdout.resume();
  const [status] = (await once(child, "close")) as [number | null];
  if (status !== 0) throw new Error(`node ${args.join(" ")} ended with ${status}`);
  return { printedMs, endedMs: performance.now() - beganMs };
}
