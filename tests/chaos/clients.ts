// The client processes, as the run sees them.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { LockJson } from "../../src/index.js";
import { until } from "../support/servers.js";
import type { Access } from "./register.js";

const PROGRAM = join(import.meta.dirname, "client.ts");
const START_TIMEOUT_MS = 30_000;
const END_TIMEOUT_MS = 15_000;

/** What a client process is told when it starts. */
export interface ClientOrders {
  readonly index: number;
  /** How many of its number were killed before it. */
  readonly life: number;
  readonly seed: number;
  readonly folder: string;
  readonly urls: readonly string[];
  readonly keys: readonly string[];
  readonly permits: number;
  readonly nodeTimeoutMs: number;
  /** False where the servers keep every write. */
  readonly restartGuardMs: number | false;
  readonly fencing: boolean;
  readonly readers: boolean;
  readonly broken: string;
}

/** A lock on its way from one process to another. */
export interface HandOver {
  readonly type: "hand over";
  readonly lock: LockJson;
}

export type ToClient =
  | HandOver
  | { readonly type: "stop" }
  /** What the access with this number gave; nothing where it was refused. */
  | { readonly type: "accessed"; readonly id: number; readonly value?: string };
export type FromClient =
  | HandOver
  | { readonly type: "access"; readonly id: number; readonly access: Access }
  | { readonly type: "ready" }
  /** A write has begun, and will take a while to the resource. */
  | { readonly type: "writing" }
  | { readonly type: "count"; readonly acquired: number; readonly writes: number };

interface Life {
  readonly child: ChildProcess;
  isReady: boolean;
  readonly ended: Promise<number | null>;
}

/** One client: a process, and after a kill the next one in its place. */
export class ClientProcess {
  onHandOver: (handOver: HandOver) => void = () => undefined;
  onAccess: (access: Access) => string | undefined = () => undefined;
  #onWriting: () => void = () => undefined;
  readonly #orders: Omit<ClientOrders, "life">;
  /** What each life so far says that it did. */
  readonly #counts: { acquired: number; writes: number }[] = [];
  #life: Life;

  constructor(orders: Omit<ClientOrders, "life">) {
    this.#orders = orders;
    this.#life = this.#begin();
  }

  get acquired(): number {
    return this.#counts.reduce((sum, { acquired }) => sum + acquired, 0);
  }

  get writes(): number {
    return this.#counts.reduce((sum, { writes }) => sum + writes, 0);
  }

  get running(): boolean {
    const { exitCode, signalCode } = this.#life.child;
    return exitCode === null && signalCode === null;
  }

  async ready(): Promise<void> {
    const life = this.#life;
    const { child } = life;
    // Waits longer on a busy machine: two hundred other processes may run beside it.
    await until(
      () => {
        if (life.isReady || this.running) return life.isReady;
        const how = String(child.exitCode ?? child.signalCode);
        throw new Error(`a client process ended with ${how} before it was ready`);
      },
      START_TIMEOUT_MS,
      () => `a client process did not get ready within ${START_TIMEOUT_MS} ms`,
    );
  }

  send(message: ToClient): void {
    if (this.running) this.#life.child.send(message, () => undefined);
  }

  /** Resolves when a write of its is on its way. */
  writing(): Promise<void> {
    return new Promise((resolve) => {
      this.#onWriting = resolve;
    });
  }

  freeze(): void {
    if (this.running) this.#life.child.kill("SIGSTOP");
  }

  thaw(): void {
    if (this.running) this.#life.child.kill("SIGCONT");
  }

  /** Lets it finish what it does. */
  async stop(): Promise<void> {
    this.thaw();
    this.send({ type: "stop" });
    const code = await Promise.race([
      this.#life.ended,
      timeout(END_TIMEOUT_MS, "a client process has a call that does not end"),
    ]);
    if (code !== 0) throw new Error(`a client process ended with ${String(code)}`);
  }

  /** Without a warning; resolves once it is gone. */
  async kill(): Promise<void> {
    if (this.running) this.#life.child.kill("SIGKILL");
    await this.#life.ended;
  }

  async restart(): Promise<void> {
    this.#life = this.#begin();
    await this.ready();
  }

  #begin(): Life {
    const counts = { acquired: 0, writes: 0 };
    const orders: ClientOrders = { ...this.#orders, life: this.#counts.push(counts) - 1 };
    const [file, ...args] = [
      ...diesWithParent(),
      process.execPath,
      ...process.execArgv,
      PROGRAM,
      JSON.stringify(orders),
    ];
    const child = spawn(file, args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    const ended = once(child, "exit").then(([code]) => code as number | null);
    ended.catch(() => undefined);
    const life: Life = { child, isReady: false, ended };
    child.on("message", (message: FromClient) => {
      if (message.type === "ready") life.isReady = true;
      else if (message.type === "writing") this.#onWriting();
      else if (message.type === "hand over") this.onHandOver(message);
      else if (message.type === "access") {
        const { id, access } = message;
        const answer = { type: "accessed", id, value: this.onAccess(access) };
        child.send(answer, () => undefined);
      } else Object.assign(counts, { acquired: message.acquired, writes: message.writes });
    });
    return life;
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
