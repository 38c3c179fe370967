// The command line as a program of its own, on real servers, for the tests of tests/cli.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll } from "@jest/globals";
import { bundle } from "./programs.js";
import type { RedisServer } from "./servers.js";

const root = join(import.meta.dirname, "..", "..");

/** How a call of `redlock` ended. */
export interface CliOutcome {
  /** The exit status; -1 if a signal ended it. */
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

/** A call of `redlock` that runs. */
export interface CliCall {
  readonly child: ChildProcess;
  /** What it and its command have printed so far. */
  readonly out: () => string;
  readonly err: () => string;
  readonly ended: Promise<CliOutcome>;
}

interface CallOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string;
}

/** The command line, built once for a test file. Processes that a test leaves behind end with it. */
export class Cli {
  #directory = "";
  readonly #calls: ChildProcess[] = [];
  readonly #servers: readonly RedisServer[];

  /** @param servers the nodes of every call, as REDLOCK_NODES, unless the call has others */
  constructor(servers: readonly RedisServer[]) {
    this.#servers = servers;
    beforeAll(async () => {
      this.#directory = await mkdtemp(join(tmpdir(), "redlock-quorum-cli-"));
      const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as {
        version: string;
      };
      await bundle({
        entryPoints: [join(root, "src", "cli", "main.ts")],
        outfile: this.path,
        define: { REDLOCK_QUORUM_VERSION: JSON.stringify(version) },
      });
    });
    afterEach(() => {
      for (const child of this.#calls.splice(0)) child.kill("SIGKILL");
    });
    afterAll(() => rm(this.#directory, { recursive: true, force: true }));
  }

  get path(): string {
    return join(this.#directory, "cli.mjs");
  }

  /** Starts `redlock` without a terminal. */
  start(args: readonly string[], { env, input }: CallOptions = {}): CliCall {
    const nodes = this.#servers.map(({ url }) => url).join(",");
    const child = spawn(process.execPath, [this.path, ...args], {
      env: { ...process.env, NODE_OPTIONS: "", REDLOCK_NODES: nodes, ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#calls.push(child);
    let [out, err] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
    child.stdin.end(input ?? "");
    const ended = new Promise<CliOutcome>((resolve) => {
      child.once("close", (status) => {
        resolve({ status: status ?? -1, out, err });
      });
    });
    return { child, out: () => out, err: () => err, ended };
  }

  /** Runs `redlock` to its end. */
  call(args: readonly string[], options?: CallOptions): Promise<CliOutcome> {
    return this.start(args, options).ended;
  }
}
