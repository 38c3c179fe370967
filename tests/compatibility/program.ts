import { spawn } from "node:child_process";
import { startServers, stopAll } from "../support/servers.js";
import { interruption } from "./interruption.js";
import type { Counts } from "./jest-run.js";

const NODES = 5;
/** Limits against hanging, far above what a busy machine takes. */
const RUN_LIMIT_MS = 300_000;
const EXIT_LIMIT_MS = 30_000;

/** Runs tests/consumers/runtimes/program.js on servers of its own, and counts its steps. */
export async function runProgram(command: readonly string[], project: string): Promise<Counts> {
  const servers = await startServers(NODES);
  try {
    const nodes = servers.map(({ url, pid }) => `${url}=${pid}`);
    return await countSteps([...command, ...nodes], project);
  } finally {
    await stopAll(servers);
  }
}

/** Runs a program that prints a line for each step, and counts them. That it ends by itself is one more. */
export async function countSteps(command: readonly string[], project: string): Promise<Counts> {
  const beganMs = performance.now();
  const [file = "", ...args] = command;
  const { out, err, code, endedBy } = await watch(file, args, project);
  const lines = out.split("\n");
  const failures = lines.filter((line) => line.startsWith("not ok "));
  const passed = lines.filter((line) => line.startsWith("ok ")).length;
  // Silence on stderr as well: a runtime warns there of what it does not support.
  const hasEnded = endedBy === "itself" && lines.includes("end") && code === 0 && err === "";
  const ending = `not ok it ends by itself, with 0 and no warning (ended by ${endedBy}, ${code})`;
  const all = hasEnded || failures.length > 0 ? failures : [...failures, ending];
  return {
    passed: passed + (hasEnded ? 1 : 0),
    failed: all.length,
    skipped: 0,
    seconds: Math.round((performance.now() - beganMs) / 1000),
    failures: all.length === 0 ? [] : [...all, err],
  };
}

interface Ending {
  readonly out: string;
  readonly err: string;
  readonly code: number | null;
  readonly endedBy: "itself" | "a limit";
}

function watch(file: string, args: readonly string[], cwd: string): Promise<Ending> {
  const child = spawn(file, args, {
    cwd,
    env: { ...process.env, NODE_OPTIONS: "" },
    stdio: ["ignore", "pipe", "pipe"],
    signal: interruption,
  });
  let [out, err] = ["", ""];
  let endedBy: Ending["endedBy"] = "itself";
  const limit = (afterMs: number) =>
    setTimeout(() => {
      endedBy = "a limit";
      child.kill("SIGKILL");
    }, afterMs);
  let timer = limit(RUN_LIMIT_MS);
  child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
    if (!out.endsWith("end\n")) return;
    clearTimeout(timer);
    timer = limit(EXIT_LIMIT_MS);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ out, err, code, endedBy });
    });
  });
}
