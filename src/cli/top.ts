import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import type { NodeHealth, Redlock } from "../index.js";
import { quorumOf } from "../quorum/round.js";
import { makeCommand } from "./command.js";
import { interval } from "./duration.js";
import { EXIT } from "./failure.js";
import { type NodeOptions, NODES_HELP, readConfig, urlsOf, withNodeOptions } from "./nodes.js";
import { permitCount } from "./permits.js";
import { JSON_OPTION, print, printJson, problemInWords, timeoutOf, withNodes } from "./report.js";
import { LockScan } from "./scan.js";
import { Screen } from "./screen.js";
import { permitsStatusOf, type Status, statusesOf } from "./status.js";
import { linesOf } from "./top-view.js";

const USUAL_INTERVAL_MS = 2000;
/** Each of them is asked for on every node, at each look. */
const MOST_LOCKS = 200;

interface TopOptions extends NodeOptions {
  readonly prefix?: string;
  readonly permits?: number;
  readonly interval?: number;
  readonly once?: boolean;
  readonly json?: boolean;
}

/** How one node is, as JSON. */
export interface NodeState {
  readonly node: string;
  readonly state: "ok" | "held back" | "replica" | "no reply";
  readonly error: string | null;
  readonly latencyMs: number | null;
  readonly version: string | null;
  readonly persistence: string | null;
  /** Epoch ms. */
  readonly heldBackUntil: number | null;
  /** How many findings `redlock doctor` has, and how many of them endanger the exclusion. */
  readonly findings: number;
  readonly dangers: number;
}

/** Everything at one time, as JSON. */
export interface Snapshot {
  readonly time: string;
  readonly quorum: number;
  readonly nodes: readonly NodeState[];
  readonly locks: readonly Status[];
  /** How many locks were found beyond those in the list. */
  readonly more: number;
  readonly scan: LockScan["state"] | null;
}

const HELP = `
Shows each node with its latency and state, and who holds the locks on the
NAMEs, with the number of those that wait. --prefix adds the locks whose names
begin with a text: it reads at most 5000 keys of each node at each look, by
SCAN, and shows at most ${MOST_LOCKS} locks. --prefix '' takes all. With --permits, each
NAME has n permits, and each one that is taken has a line. Changes nothing.

Keys: q or Ctrl-C quits, space looks again at once. If stdout is no terminal, or
with --once, redlock top prints one look and ends. With --json it prints one
object, or with --interval one a line, until a signal ends it.
${NODES_HELP}

Exit status: 0, or
  64  wrong arguments
  69  no quorum of the nodes replied to the one look
  128 + n if signal n ended it

Examples:
  redlock top nightly-report
  redlock top --prefix invoice: --interval 500ms
  redlock top --json --prefix '' | jq '.locks | length'`;

/** Makes `redlock top`. */
export function topCommand(): Command {
  const command = makeCommand("top", "show the nodes and the locks, live")
    .description("Shows the nodes, and who holds locks and who waits, live.")
    .usage("[options] [NAME...]")
    .argument("[name...]")
    .option("--prefix <text>", "also the locks whose names begin with this")
    .option("--permits <n>", "each NAME has n permits: show who has which", permitCount)
    .option("--interval <time>", "how often to look (default: 2s)", interval)
    .option("--once", "print one look, and end")
    .option(...JSON_OPTION);
  return withNodeOptions(command)
    .addHelpText("after", HELP)
    .action(async (names: string[], options: TopOptions) => {
      process.exitCode = await top(names, options);
      // Nothing is held, so there is no reason to wait for a node that does not reply.
      if (isLive(options)) process.exit();
    });
}

function isLive({ once = false, json = false }: TopOptions): boolean {
  return process.stdout.isTTY && !once && !json;
}

async function top(names: readonly string[], options: TopOptions): Promise<number> {
  const config = readConfig(options);
  const report = async (redlock: Redlock): Promise<number> => {
    const { prefix } = options;
    const { keyPrefix } = redlock.settings;
    const open = (of: string): Promise<LockScan> =>
      LockScan.open(urlsOf(options, config), keyPrefix, of, timeoutOf(options, config));
    const scan = prefix === undefined ? undefined : await open(prefix);
    const look = (): Promise<Snapshot> => lookAt(redlock, names, scan, options.permits);
    try {
      return await (isLive(options) ? showLive(look, options) : printLooks(look, options));
    } finally {
      scan?.close();
    }
  };
  // Without the queue, a look at the health opens no subscription.
  return withNodes(options, config, report, names, { queue: false });
}

async function printLooks(look: () => Promise<Snapshot>, options: TopOptions): Promise<number> {
  const { json = false, once = false, interval } = options;
  for (;;) {
    const snapshot = await look();
    const isLast = !json || once || interval === undefined;
    const columns = process.stdout.isTTY ? process.stdout.columns : Infinity;
    if (json) printJson(snapshot, isLast ? 2 : 0);
    else print(linesOf(snapshot, { columns, rows: Infinity }, false).join("\n"));
    if (isLast) return hasQuorum(snapshot) ? EXIT.ok : EXIT.unavailable;
    await sleep(interval);
  }
}

async function showLive(look: () => Promise<Snapshot>, options: TopOptions): Promise<number> {
  const { interval = USUAL_INTERVAL_MS } = options;
  const screen = new Screen();
  try {
    for (;;) {
      const seen = await Promise.race([screen.ended, look()]);
      if (typeof seen === "number") return seen;
      screen.show((size) => linesOf(seen, size, true));
      const refreshed = new Promise<void>((resolve) => (screen.onRefresh = resolve));
      const next = await Promise.race([screen.ended, refreshed, sleep(interval)]);
      if (typeof next === "number") return next;
    }
  } finally {
    screen.leave();
  }
}

function hasQuorum({ nodes, quorum }: Snapshot): boolean {
  return nodes.filter(({ state }) => state !== "no reply").length >= quorum;
}

async function lookAt(
  redlock: Redlock,
  names: readonly string[],
  scan: LockScan | undefined,
  permits: number | undefined,
): Promise<Snapshot> {
  const [health, { locks, more }] = await Promise.all([
    redlock.health(),
    locksOf(redlock, names, scan, permits),
  ]);
  return {
    time: new Date().toISOString(),
    quorum: quorumOf(health.length),
    nodes: health.map(stateOf),
    locks,
    more,
    scan: scan?.state ?? null,
  };
}

async function locksOf(
  redlock: Redlock,
  names: readonly string[],
  scan: LockScan | undefined,
  permits: number | undefined,
): Promise<Pick<Snapshot, "locks" | "more">> {
  await scan?.look();
  const given = new Set(names);
  const isOther = (name: string): boolean => !given.has(name);
  const found = scan?.locks;
  const plain = (found?.names ?? []).filter(isOther);
  const limited = [...(found?.limited ?? [])].filter(([name]) => isOther(name));
  const room = Math.max(0, MOST_LOCKS - given.size);
  const shown = limited.slice(0, room);
  const [named, others, withPermits] = await Promise.all([
    statusesOf(redlock, names, permits),
    statusesOf(redlock, plain.slice(0, room - shown.length)),
    Promise.all(shown.map(([name, least]) => permitsStatusOf(redlock, name, least, true))),
  ]);
  // A lock that was found may have been released meanwhile.
  const still = [...withPermits, ...others].filter(
    ({ state, waiters }) => state !== "free" || waiters > 0,
  );
  return {
    // Those with the longest queues come first.
    locks: [...named, ...still.sort((a, b) => b.waiters - a.waiters)],
    more: Math.max(0, plain.length + limited.length - room),
  };
}

function stateOf(health: NodeHealth): NodeState {
  const { node, reachable, error, latencyMs, version, persistence, role, problems } = health;
  const { heldBackUntil = null } = health;
  const isHeldBack = heldBackUntil !== null;
  return {
    node,
    state: !reachable ? "no reply" : role === "replica" ? role : isHeldBack ? "held back" : "ok",
    error: reachable ? null : problemInWords(error),
    latencyMs,
    version,
    persistence,
    heldBackUntil,
    findings: problems.length,
    dangers: problems.filter(({ endangersExclusion }) => endangersExclusion).length,
  };
}
