import { inWords } from "../errors.js";
import type { Redlock, RedlockSettings } from "../index.js";
import { type Config, connect, type NodeOptions } from "./nodes.js";

/** The connections are new, so that a node has longer than the library's default for a report. */
const NODE_TIMEOUT_MS = 1000;

export const JSON_OPTION = ["--json", "print JSON, for programs"] as const;

/** How long a node may take to reply to a report, in ms. */
export function timeoutOf(options: NodeOptions, config: Config): number {
  return options.nodeTimeout ?? config.nodeTimeout ?? NODE_TIMEOUT_MS;
}

/** Connects for a report, and closes the connections at its end. */
export async function withNodes<T>(
  options: NodeOptions,
  config: Config,
  report: (redlock: Redlock) => Promise<T>,
  names: readonly string[] = [],
  settings: RedlockSettings = {},
): Promise<T> {
  const nodeTimeout = timeoutOf(options, config);
  const redlock = await connect(options, config, { nodeTimeout, ...settings }, names);
  try {
    return await report(redlock);
  } finally {
    await redlock.quit();
  }
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Prints an object as JSON. An endless time is null, since JSON has no Infinity. */
export function printJson(object: unknown, indent = 2): void {
  print(JSON.stringify(object, undefined, indent));
}

/** Returns lines with aligned columns, indented by two spaces. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    }
  }
  const lines = rows.map((row) =>
    row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "),
  );
  return lines.map((line) => `  ${line}`.trimEnd()).join("\n");
}

/** Formats what is left of a lock. */
export function leftInWords(remainingMs: number | null): string {
  return remainingMs === null || remainingMs === Infinity ? "no expiry" : inWords(remainingMs);
}

/** Formats a latency. */
export function inMs(latencyMs: number): string {
  return latencyMs < 10 ? `${latencyMs.toFixed(1)} ms` : inWords(latencyMs);
}

/** Describes why a node could not be read: its code, such as ECONNREFUSED, or its message. */
export function problemInWords(error: Error | undefined): string {
  if (error === undefined) return "did not reply";
  const cause = error.cause instanceof Error ? error.cause : error;
  const code = "code" in cause && typeof cause.code === "string" ? cause.code : undefined;
  return code === undefined || code.startsWith("ERR_REDLOCK") ? error.message : code;
}

/** Removes what would move the cursor of a terminal, from a text that others wrote. */
export function printable(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, "?");
}
