// The client processes, as the run sees them.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { LockJson } from "../../src/index.js";

const PROGRAM = join(import.meta.dirname, "client.ts");
const START_TIMEOUT_MS = 30_000;
const END_TIMEOUT_MS = 15_000;

/** What a client process is told when it starts. */
export interface ClientOrders {
  readonly index: number;
  readonly seed: number;
  readonly folder: string;
  readonly urls: readonly string[];
  readonly keys: readonly string[];
  readonly nodeTimeoutMs: number;
  readonly broken: string;
}

/** A lock on its way from one process to another. */
export interface HandOver {
  readonly type: "hand over";
  readonly lock: LockJson;
}

export type ToClient = HandOver | { readonly type: "stop" };
export type FromClient =
  | HandOver
  | { readonly type: "ready" }
  | { readonly type: "count"; readonly acquired: number; readonly writes: number };

export class ClientProcess {
  acquired = 0;
  writes = 0;
  onHandOver: (handOver: HandOver) => void = () => undefined;
  readonly #child: ChildProcess;
  readonly #ready: Promise<void>;
  readonly #ended: Promise<number | null>;

  constructor(orders: ClientOrders) {
    const [file, ...args] = [
      ...diesWithParent(),
      process.execPath,
      ...process.execArgv,
      PROGRAM,
      JSON.stringify(orders),
    ];
    this.#child = spawn(file, args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.#ended = once(this.#child, "exit").then(([code]) => code as number | null);
    this.#ended.catch(() => undefined);
    this.#ready = new Promise((resolve) => {
      this.#child.on("message", (message: FromClient) => {
        if (message.type === "ready") resolve();
        else if (message.type === "hand over") this.onHandOver(message);
        else Object.assign(this, { acquired: message.acquired, writes: message.writes });
      });
    });
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  async ready(): Promise<void> {
    await Promise.race([
      this.#ready,
      this.#ended.then((code) => {
        throw new Error(`a client process ended with ${String(code)} before it was ready`);
      }),
      timeout(START_TIMEOUT_MS, "a client process did not get ready"),
    ]);
  }

  send(message: ToClient): void {
    if (this.running) this.#child.send(message, () => undefined);
  }

  freeze(): void {
    if (this.running) this.#child.kill("SIGSTOP");
  }

  thaw(): void {
    if (this.running) this.#child.kill("SIGCONT");
  }

  /** Lets it finish what it does. */
  async stop(): Promise<void> {
    this.thaw();
    this.send({ type: "stop" });
    const code = await Promise.race([
      this.#ended,
      timeout(END_TIMEOUT_MS, "a client process has a call that does not end"),
    ]);
    if (code !== 0) throw new Error(`a client process ended with ${String(code)}`);
  }

  killNow(): void {
    if (this.running) this.#child.kill("SIGKILL");
  }

  /** For the moment in which there is no more to be learnt from it. */
  async kill(): Promise<void> {
    this.killNow();
    await this.#ended;
  }
}

let prefix: string[] | undefined;

/** As for the servers: the kernel ends a client, even a frozen one, where this process dies. */
function diesWithParent(): string[] {
  const command = ["setpriv", "--pdeathsig", "KILL"] as const;
  const [file, ...args] = command;
  if (prefix === undefined) {
    try {
      execFileSync(file, [...args, "true"], { stdio: "ignore" });
      prefix = [...command];
    } catch {
      prefix = [];
    }
  }
  return prefix;
}

function timeout(delayMs: number, what: string): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => {
      reject(new Error(`${what} within ${delayMs} ms`));
    }, delayMs).unref();
  });
}
