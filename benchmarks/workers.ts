// Processes of their own for work whose memory, CPU or number of processes is measured.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

export interface Worker<Report> {
  /** Lets the prepared work begin, and gives what came of it. May be called again afterwards. */
  go(limitMs: number): Promise<Report>;
  end(): void;
}

const START_LIMIT_MS = 120_000;

/** Starts `scenarios/FILE` with this task, and waits until it is prepared. */
export async function startWorker<Report>(file: string, task: object): Promise<Worker<Report>> {
  const child = fork(join(import.meta.dirname, "scenarios", file), [JSON.stringify(task)], {
    execArgv: [...process.execArgv, "--expose-gc"],
  });
  try {
    await answerOf(child, START_LIMIT_MS);
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
  return {
    go: async (limitMs) => {
      const answer = answerOf(child, limitMs);
      child.send("go");
      return (await answer) as Report;
    },
    end: () => child.kill("SIGKILL"),
  };
}

async function answerOf(child: ChildProcess, limitMs: number): Promise<unknown> {
  const settled = new AbortController();
  const signal = AbortSignal.any([settled.signal, AbortSignal.timeout(limitMs)]);
  const gone = once(child, "exit", { signal }).then(([code, killedBy]) => {
    throw new Error(`A worker process ended with ${String(code ?? killedBy)}.`);
  });
  gone.catch(() => undefined);
  try {
    const [answer] = (await Promise.race([once(child, "message", { signal }), gone])) as unknown[];
    return answer;
  } finally {
    settled.abort();
  }
}

/** For the worker's side: prepares, says so, and works when told to. Ends with its parent. */
export async function serve(
  prepare: (task: unknown) => Promise<() => Promise<unknown>>,
): Promise<void> {
  process.once("disconnect", () => process.exit());
  const work = await prepare(JSON.parse(process.argv[2] ?? ""));
  process.on("message", () => void work().then((report) => process.send?.(report)));
  process.send?.("prepared");
}
