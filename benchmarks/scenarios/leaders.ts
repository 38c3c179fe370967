import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { median, progress, quantile, spread } from "../measure.js";
import type { Goal, Outcome, Scenario, Stage } from "../scenario.js";
import type { Task, Told } from "./leaders-worker.js";

const TTL_MS = 1_000;
const RESIGNATIONS = 20;
const MOST_LATE_MS = 50;
const LIMIT_MS = 30_000;
/** A leader leads for some time before it ends, at any moment between two extensions. */
const TERM_MS = [100, 900] as const;

export const leaders: Scenario = {
  name: "leaders",
  title: "From one leader to the next",
  about:
    `Two processes of this library call \`lead\` with a ttl of ${TTL_MS} ms. In each round the leader resigns ${RESIGNATIONS} times, is killed ` +
    "once (SIGKILL), and is frozen once (SIGSTOP). A hand-over is the time from when the leader’s signal aborts, or the signal " +
    "of the operating system is sent, to when the function of the next leader begins in the other process.",
  rounds: { usual: 20, short: 2 },
  run,
};

interface Round {
  readonly resignedMs: number;
  readonly killedMs: number;
  readonly frozenMs: number;
  /** From the end of the freeze until the frozen leader learned that it leads no more. */
  readonly wokenMs: number;
}

async function run({ servers, packageUrl, rounds }: Stage): Promise<Outcome> {
  const urls = servers.map(({ url }) => url);
  const measured: Round[] = [];
  for (let round = 0; round < rounds; round++) {
    progress(`round ${round + 1} of ${rounds}`);
    measured.push(await take({ packageUrl, urls, name: `leader:${round}`, ttlMs: TTL_MS }));
  }
  progress("");
  return outcome(measured);
}

/** A process that campaigns. */
class Candidate {
  readonly child: ChildProcess;

  constructor(task: Task) {
    const file = join(import.meta.dirname, "leaders-worker.ts");
    this.child = fork(file, [JSON.stringify(task)], { execArgv: process.execArgv });
  }

  /** Waits until the process tells this. */
  async tells(what: Told["what"]): Promise<Told> {
    const signal = AbortSignal.timeout(LIMIT_MS);
    for (;;) {
      const [told] = (await once(this.child, "message", { signal })) as [Told];
      if (told.what === what) return told;
    }
  }

  end(): void {
    this.child.kill("SIGKILL");
  }
}

async function take(task: Task): Promise<Round> {
  const all: Candidate[] = [];
  const start = async (): Promise<Candidate> => {
    const candidate = new Candidate(task);
    all.push(candidate);
    await candidate.tells("ready");
    return candidate;
  };
  try {
    let leader = await start();
    let next = await start();
    await lead();
    const resigned: number[] = [];
    for (let count = 0; count < RESIGNATIONS; count++) {
      const [ends, leads] = [leader.tells("ends"), next.tells("leads")];
      leader.child.send("resign");
      const [{ atMs }, elected] = await Promise.all([ends, leads]);
      resigned.push(elected.atMs - atMs);
      [leader, next] = [next, leader];
      await lead();
    }
    const [frozenMs, wokenMs] = await freeze(leader, next);
    [leader, next] = [next, leader];
    await lead();
    return {
      resignedMs: median(resigned),
      frozenMs,
      wokenMs,
      killedMs: await kill(leader, next),
    };
  } finally {
    for (const candidate of all) candidate.end();
  }
}

/** By then the other process has joined the queue again, and the leader has led for a while. */
async function lead(): Promise<void> {
  const [least, most] = TERM_MS;
  await sleep(least + Math.random() * (most - least));
}

async function freeze(leader: Candidate, next: Candidate): Promise<[number, number]> {
  const leads = next.tells("leads");
  const frozenMs = epochMs();
  leader.child.kill("SIGSTOP");
  const { atMs } = await leads;
  const ends = leader.tells("ends");
  const wokenMs = epochMs();
  leader.child.kill("SIGCONT");
  return [atMs - frozenMs, (await ends).atMs - wokenMs];
}

async function kill(leader: Candidate, next: Candidate): Promise<number> {
  const leads = next.tells("leads");
  const killedMs = epochMs();
  leader.end();
  return (await leads).atMs - killedMs;
}

function epochMs(): number {
  return performance.timeOrigin + performance.now();
}

function outcome(rounds: readonly Round[]): Outcome {
  const resigned = rounds.map(({ resignedMs }) => resignedMs);
  const ways: readonly [string, readonly number[]][] = [
    ["resigns", resigned],
    ["is killed", rounds.map(({ killedMs }) => killedMs)],
    ["is frozen", rounds.map(({ frozenMs }) => frozenMs)],
    ["wakes, and learns that it leads no more", rounds.map(({ wokenMs }) => wokenMs)],
  ];
  const most = (values: readonly number[]): number => quantile(values, 1);
  return {
    tables: [
      {
        columns: [{ name: "the leader" }, { name: "ms", digits: 2 }, { name: "most", digits: 2 }],
        rows: ways.map(([name, values]) => ({ name, figures: [spread(values), most(values)] })),
      },
    ],
    goals: [
      goal("killed: hand-over, most, ms", most(ways[1]?.[1] ?? []), TTL_MS + MOST_LATE_MS),
      goal("frozen: hand-over, most, ms", most(ways[2]?.[1] ?? []), TTL_MS + MOST_LATE_MS),
    ],
  };
}

function goal(measure: string, measured: number, most: number): Goal {
  return { measure, measured, goal: `at most ${most}`, met: measured <= most };
}
