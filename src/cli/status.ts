import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import { remainingInWords } from "../errors.js";
import type { Holder, NodeInspection, ReaderInspection, Redlock } from "../index.js";
import { quorumOf } from "../quorum/round.js";
import { makeCommand } from "./command.js";
import { interval } from "./duration.js";
import { EXIT } from "./failure.js";
import { type NodeOptions, NODES_HELP, readConfig, withNodeOptions } from "./nodes.js";
import {
  namesOf,
  NO_OWNER,
  permitCount,
  type PermitRow,
  permitRows,
  permitsTable,
} from "./permits.js";
import {
  JSON_OPTION,
  leftInWords,
  print,
  printable,
  printJson,
  problemInWords,
  table,
  withNodes,
} from "./report.js";

const USUAL_INTERVAL_MS = 1000;
const CLEAR_SCREEN = "\u001b[H\u001b[2J\u001b[3J";

interface StatusOptions extends NodeOptions {
  readonly watch?: boolean;
  readonly interval?: number;
  readonly json?: boolean;
  readonly permits?: number;
}

/** One reader of a resource, as JSON. */
interface ReaderRow {
  readonly owner: string | null;
  readonly value: string;
  readonly remainingMs: number;
}

/** What one node stores for one resource, as JSON. */
interface NodeRow {
  readonly node: string;
  /** Why the node could not be read; null if it could. */
  readonly error: string | null;
  readonly value: string | null;
  readonly owner: string | null;
  /** Those that read it; null if it is not shared. */
  readonly readers: readonly ReaderRow[] | null;
  /** Null without an expiry. */
  readonly remainingMs: number | null;
  readonly reservedFor: string | null;
  readonly type: string | null;
  readonly waiters: number;
}

/** What the nodes say of one resource, as JSON. */
export interface Status {
  readonly resource: string;
  /** Of permits: held if all of them are taken, or any if nobody says how many there are. */
  readonly state: "held" | "free" | "unknown";
  /** Those that read it, the last to end first; null if it is not shared. */
  readonly readers: readonly ReaderRow[] | null;
  /** How many permits there are; null without --permits. */
  readonly permitCount: number | null;
  /** Those that are taken; null if the resource has none, as far as is known. */
  readonly permits: readonly PermitRow[] | null;
  readonly owner: string | null;
  readonly value: string | null;
  readonly remainingMs: number | null;
  readonly fence: number | null;
  readonly waiters: number;
  readonly nodes: readonly NodeRow[];
}

const HELP = `
The first line for each NAME is what a quorum of the nodes says: who holds it,
for how long, with which fencing token, and how many wait in the queue. Below it
stands what each node stores. With --permits it shows who has which permit.
Changes nothing.
${NODES_HELP}

Exit status: 0, or
  64  wrong arguments
  69  no quorum of the nodes could be read

Examples:
  redlock status nightly-report
  redlock status --watch --interval 500ms account:7 account:8
  redlock status --permits 3 resize
  redlock status --json nightly-report | jq -r '.[0].owner'`;

/** Makes `redlock status`. */
export function statusCommand(): Command {
  const command = makeCommand("status", "show who holds a lock and who waits, node by node")
    .description("Shows who holds a lock and who waits for it, node by node.")
    .usage("[options] NAME...")
    .argument("<name...>")
    .option("--permits <n>", "each NAME has n permits: show who has which", permitCount)
    .option("--watch", "show it again and again, until Ctrl-C")
    .option("--interval <time>", "how often with --watch (default: 1s)", interval)
    .option(...JSON_OPTION);
  return withNodeOptions(command)
    .addHelpText("after", HELP)
    .action(async (names: string[], options: StatusOptions) => {
      const show = (redlock: Redlock): Promise<number> => showStatus(redlock, names, options);
      process.exitCode = await withNodes(options, readConfig(options), show, names);
    });
}

async function showStatus(
  redlock: Redlock,
  names: readonly string[],
  { watch = false, interval = USUAL_INTERVAL_MS, json = false, permits }: StatusOptions,
): Promise<number> {
  for (;;) {
    const statuses = await statusesOf(redlock, names, permits);
    if (!watch) {
      if (json) printJson(statuses);
      else print(inText(statuses));
      return statuses.some(({ state }) => state === "unknown") ? EXIT.unavailable : EXIT.ok;
    }
    // One line for each look, so that a program reads line by line.
    if (json) printJson(statuses, 0);
    else print((process.stdout.isTTY ? CLEAR_SCREEN : "") + inText(statuses));
    await sleep(interval);
  }
}

/** Asks the nodes about the resources. */
export async function statusesOf(
  redlock: Redlock,
  given: readonly string[],
  permits?: number,
): Promise<Status[]> {
  const names = [...new Set(given)];
  if (names.length === 0) return [];
  if (permits !== undefined) {
    return Promise.all(names.map((name) => permitsStatusOf(redlock, name, permits)));
  }
  const [nodes, holders] = await Promise.all([
    redlock.inspect(names),
    Promise.all(names.map((name) => redlock.holder(name).catch(() => undefined))),
  ]);
  return names.map((name, index) => statusOf(name, index, nodes, holders[index]));
}

/** @param holder null if nobody holds it, undefined if no quorum answered */
function statusOf(
  resource: string,
  index: number,
  nodes: readonly NodeInspection[],
  holder: Holder | null | undefined,
): Status {
  const rows = nodes.map((node) => rowOf(node, index));
  return {
    resource,
    state: holder === undefined ? "unknown" : holder === null ? "free" : "held",
    readers: readerRows(holder?.readers),
    permitCount: null,
    permits: null,
    owner: holder?.owner ?? null,
    value: holder?.value ?? null,
    remainingMs: finite(holder?.remainingMs),
    fence: holder?.fence ?? null,
    waiters: Math.max(0, ...rows.map(({ waiters }) => waiters)),
    nodes: rows,
  };
}

/** Asks the nodes about the permits of a resource. If `isLeast`, it may have more of them. */
export async function permitsStatusOf(
  redlock: Redlock,
  resource: string,
  permits: number,
  isLeast = false,
): Promise<Status> {
  const [nodes, holders] = await Promise.all([
    redlock.inspect(resource, { permits }),
    redlock.holder(resource, { permits }).catch(() => undefined),
  ]);
  const taken = permitRows(holders ?? [], nodes);
  const heldFrom = isLeast ? 1 : permits;
  // All slots have one queue. What a node stores stands with the permits.
  const rows = nodes.map((node) => ({
    ...rowOf({ ...node, resources: [] }, 0),
    waiters: waitersOn(node),
  }));
  return {
    resource,
    state: holders === undefined ? "unknown" : taken.length < heldFrom ? "free" : "held",
    readers: null,
    permitCount: isLeast ? null : permits,
    permits: taken,
    owner: null,
    value: null,
    remainingMs: null,
    fence: null,
    waiters: Math.max(0, ...rows.map(({ waiters }) => waiters)),
    nodes: rows,
  };
}

function waitersOn({ resources: [slot] }: NodeInspection): number {
  return slot?.waiters.length ?? 0;
}

function rowOf({ node, ok, error, resources }: NodeInspection, index: number): NodeRow {
  const found = resources[index];
  return {
    node,
    error: ok ? null : problemInWords(error),
    value: found?.value ?? null,
    owner: found?.owner ?? null,
    readers: readerRows(found?.readers),
    remainingMs: finite(found?.remainingMs),
    reservedFor: found?.reservedFor ?? null,
    type: found?.type ?? null,
    waiters: found?.waiters.length ?? 0,
  };
}

function readerRows(readers: readonly ReaderInspection[] | undefined): ReaderRow[] | null {
  if (readers === undefined) return null;
  return readers.map(({ owner = null, value, remainingMs }) => ({ owner, value, remainingMs }));
}

function finite(ms: number | undefined): number | null {
  return ms === undefined || !Number.isFinite(ms) ? null : Math.round(ms);
}

function inText(statuses: readonly Status[]): string {
  return statuses.map((status) => [headline(status), ...tablesOf(status)].join("\n")).join("\n\n");
}

function headline({
  resource,
  state,
  owner,
  readers,
  permitCount: count,
  permits,
  remainingMs,
  fence,
  waiters,
  nodes,
}: Status): string {
  const name = printable(resource);
  const read = nodes.filter(({ error }) => error === null).length;
  const queue = waiters === 0 ? "" : `, ${waiters} in the queue`;
  if (state === "unknown") {
    const needed = quorumOf(nodes.length);
    return `${name}: unknown, ${read} of ${nodes.length} nodes could be read, ${needed} needed`;
  }
  if (permits !== null) {
    return `${name}: ${permits.length} of ${count ?? 0} permits are taken${queue}`;
  }
  if (state === "free") {
    const holding = nodes.filter(
      ({ value, readers: own }) => value !== null || own !== null,
    ).length;
    const other = nodes.filter(hasOtherData).length;
    const facts = [
      ...(holding === 0 ? [] : [`${holding} of ${nodes.length} nodes hold a lock, no quorum`]),
      ...(other === 0 ? [] : [`${other} of ${nodes.length} nodes hold other data`]),
    ];
    const what = facts.length === 0 ? "" : `: ${facts.join("; ")}`;
    return `${name}: free${what}${queue}`;
  }
  const token = fence === null ? "" : `, fence ${fence}`;
  const left = remainingInWords(remainingMs ?? Infinity);
  const who = readers === null ? (owner ?? NO_OWNER) : readersInWords(readers);
  return `${name}: held by ${who} ${left}${token}${queue}`;
}

function tablesOf(status: Status): string[] {
  const { permits, nodes } = status;
  if (permits === null) return [nodesTable(status)];
  const unread = nodes.flatMap(({ node, error }) =>
    error === null ? [] : [[node, printable(error)]],
  );
  return [
    ...(permits.length === 0 ? [] : [permitsTable(permits, nodes.length)]),
    ...(unread.length === 0 ? [] : [table(unread)]),
  ];
}

function nodesTable({ nodes }: Status): string {
  const rows = nodes.map((row) => {
    if (row.error !== null) return [row.node, "", "", printable(row.error)];
    const isHeld = row.value !== null || row.readers !== null;
    const left = isHeld ? leftInWords(row.remainingMs) : "";
    return [row.node, left, row.waiters === 0 ? "" : String(row.waiters), holdsInWords(row)];
  });
  return table([["node", "remaining", "queue", "holds"], ...rows]);
}

/** Names the first few. */
export function readersInWords(readers: readonly ReaderRow[]): string {
  const count = readers.length === 1 ? "1 reader" : `${readers.length} readers`;
  return `${count} (${namesOf(readers)})`;
}

function holdsInWords(row: NodeRow): string {
  const { value, owner, readers, reservedFor, type } = row;
  if (reservedFor !== null) return "nothing: reserved for the next in the queue";
  if (readers !== null) return readersInWords(readers);
  if (value !== null) return owner ?? NO_OWNER;
  return hasOtherData(row) ? `other data: a ${type}` : "nothing";
}

function hasOtherData({ value, readers, reservedFor, type }: NodeRow): boolean {
  const isLock = value !== null || readers !== null || reservedFor !== null;
  return !isLock && type !== null && type !== "none";
}
