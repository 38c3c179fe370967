// A terminal of a given size for a program, and what stands on its screen.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach } from "@jest/globals";
import xterm from "@xterm/headless";
import { until } from "./servers.js";

const START_MS = 60_000;

const open: TerminalScreen[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((terminal) => terminal.close()));
});

/** A program that runs in a terminal: of `script`, which Debian always has, and of xterm.js. */
export class TerminalScreen {
  readonly #child: ChildProcess;
  readonly #terminal: xterm.Terminal;
  readonly #directory: string;
  /** Everything that the program has written, with the control sequences. */
  written = "";
  readonly ended: Promise<void>;

  private constructor(
    directory: string,
    command: readonly string[],
    env: NodeJS.ProcessEnv,
    [columns, rows]: readonly [number, number],
  ) {
    this.#directory = directory;
    this.#terminal = new xterm.Terminal({ cols: columns, rows, allowProposedApi: true });
    const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
    // What is printed before and after shows whether the terminal is given back.
    const script =
      `stty cols ${columns} rows ${rows}; tty > '${directory}/tty'; echo before; ` +
      `sh -c 'echo $$ > "${directory}/pid"; exec "$@"' sh ${quoted}; ` +
      `echo "status $?"; stty -a > '${directory}/modes'`;
    this.#child = spawn("script", ["-qfc", script, "/dev/null"], {
      env: { ...process.env, NODE_OPTIONS: "", SHELL: "/bin/sh", TERM: "xterm", ...env },
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.written += text;
      this.#terminal.write(text);
    });
    this.ended = new Promise((resolve) =>
      this.#child.once("close", () => {
        resolve();
      }),
    );
  }

  static async start(
    command: readonly string[],
    env: NodeJS.ProcessEnv,
    size: readonly [number, number],
  ): Promise<TerminalScreen> {
    const directory = await mkdtemp(join(tmpdir(), "redlock-quorum-terminal-"));
    const terminal = new TerminalScreen(directory, command, env, size);
    open.push(terminal);
    return terminal;
  }

  /** The lines on the screen, without the empty ones at its end. */
  get lines(): string[] {
    const { cols, rows, buffer } = this.#terminal;
    // After the terminal has become narrower, its lines also have what was right of its new edge.
    const lineAt = (row: number): string =>
      buffer.active.getLine(buffer.active.viewportY + row)?.translateToString(true, 0, cols) ?? "";
    const lines = Array.from({ length: rows }, (_, row) => lineAt(row).trimEnd());
    return lines.join("\n").trimEnd().split("\n");
  }

  get text(): string {
    return this.lines.join("\n");
  }

  /** Whether the program has the alternate screen. */
  get isFull(): boolean {
    return this.#terminal.buffer.active.type === "alternate";
  }

  type(keys: string): void {
    this.#child.stdin?.write(keys);
  }

  /** Sends a signal to the program. */
  signal(signal: NodeJS.Signals): void {
    process.kill(Number(readFileSync(join(this.#directory, "pid"), "utf8")), signal);
  }

  async resize(columns: number, rows: number): Promise<void> {
    const tty = (await readFile(join(this.#directory, "tty"), "utf8")).trim();
    this.#terminal.resize(columns, rows);
    await promisify(execFile)("stty", ["-F", tty, "cols", String(columns), "rows", String(rows)]);
  }

  /** The modes of the terminal after the program has ended. */
  modes(): Promise<string> {
    return readFile(join(this.#directory, "modes"), "utf8");
  }

  async until(pattern: RegExp): Promise<void> {
    await until(
      () => pattern.test(this.text),
      START_MS,
      () => `no ${String(pattern)} on the screen:\n${this.text}`,
    );
  }

  async close(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
    this.#terminal.dispose();
    await rm(this.#directory, { recursive: true });
  }
}
