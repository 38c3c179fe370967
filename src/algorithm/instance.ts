import { Abstention, ExecutionError } from "../errors.js";
import type { RedlockEvents } from "../events.js";
import type { LockIssuer } from "../lock.js";
import { type checkEntry, makeNodes, type NodeEntry } from "../nodes/entries.js";
import type { Node } from "../nodes/node.js";
import { RestartGuard } from "../nodes/restart-guard.js";
import { quorumOf, type Round } from "../quorum/round.js";
import { Alarms } from "../runtime/alarms.js";
import type { Environment } from "../runtime/environment.js";
import { Link } from "../runtime/link.js";
import type { ResolvedSettings } from "../settings.js";
import { LocalQueues } from "../waiting/local-queue.js";
import { Tokens } from "./fence.js";
import { HeldLocks } from "./held-locks.js";
import { LastSlots } from "./permits.js";
import { publishEvent, publishVote } from "./tracing.js";

/** The events with one argument. The payload is made only if there is a listener. */
export type Announce = <Name extends Exclude<keyof RedlockEvents, "error">>(
  name: Name,
  payload: () => RedlockEvents[Name][0],
) => void;

/** How the parts of a Redlock reach the Redlock itself. */
export interface Outlet {
  /** Which a lock calls to be extended or released. */
  readonly issuer: LockIssuer;
  /** Emits `error`. */
  readonly report: (error: Error, node?: Node) => void;
  /** Emits any other event. */
  readonly announce: Announce;
}

/** Everything that the calls of one Redlock share. */
export interface Instance {
  readonly issuer: LockIssuer;
  readonly settings: ResolvedSettings;
  readonly nodes: readonly Node[];
  /** The nodes whose connections the library made. */
  readonly ownNodes: readonly Node[];
  readonly environment: Environment;
  readonly alarms: Alarms;
  /** Alarms that do not keep the process alive. */
  readonly watchAlarms: Alarms;
  readonly guard: RestartGuard;
  readonly tokens: Tokens;
  readonly lastSlots: LastSlots;
  readonly queues: LocalQueues;
  /** Aborts when the Redlock gives no more locks: when a drain begins, or when it closes. */
  readonly draining: AbortSignal;
  /** Aborts when the Redlock closes. Its reason is the error of every later call. */
  readonly closing: AbortSignal;
  /** The ring of the rounds of acquisitions that have not decided yet. */
  readonly undecided: Link<Round>;
  readonly held: HeldLocks;
  /** Emits `error` for a vote against. */
  readonly onRefusal: (error: Error, node: Node) => void;
  readonly announce: Announce;
}

/** What the simulator replaces. For everybody else it is real. */
export interface Internals {
  readonly environment: Environment;
  readonly checkNode: typeof checkEntry;
}

/** Begins the end of an instance, in two steps. */
export interface Ending {
  readonly draining: AbortController;
  readonly closing: AbortController;
}

export function closedError(): ExecutionError {
  const message = "This Redlock was closed by quit() or disposal. Make a new one.";
  const error = new ExecutionError(message, [], "ERR_REDLOCK_CLOSED");
  // Later calls reject with it, and losses have it as their cause: the frames of quit() would mislead.
  error.stack = `${error.name}: ${message}`;
  return error;
}

/** Makes what the calls of a Redlock share. Throws a TypeError for an invalid node. */
export function makeInstance(
  entries: Iterable<NodeEntry>,
  settings: ResolvedSettings,
  { environment, checkNode }: Internals,
  { draining, closing }: Ending,
  outlet: Outlet,
): Instance {
  const { issuer, report } = outlet;
  // An event and the message on its channel have one source.
  const announce: Announce = (name, payload) => {
    outlet.announce(name, payload);
    publishEvent(name, payload);
  };
  const guard = new RestartGuard(settings.restartGuard, quorumOf, environment);
  const watched = guard.isOn ? guard : undefined;
  const made = makeNodes(entries, environment, checkNode, watched, {
    onNodeDown: (node, reason) => {
      announce("node:down", () => ({ node, reason }));
    },
    onNodeUp: (node, downMs) => {
      announce("node:up", () => ({ node, downMs }));
    },
  });
  const nodes = made.map(({ node }) => node);
  return {
    issuer,
    settings,
    nodes,
    ownNodes: made.flatMap(({ node, own }) => (own ? [node] : [])),
    environment,
    alarms: new Alarms(environment, true),
    watchAlarms: new Alarms(environment, false),
    guard,
    tokens: new Tokens(),
    lastSlots: new LastSlots(),
    queues: new LocalQueues(nodes, environment, report),
    draining: draining.signal,
    closing: closing.signal,
    undecided: new Link(),
    held: new HeldLocks(),
    onRefusal: (error, node) => {
      // A node that was not asked has not failed.
      if (error instanceof Abstention) return;
      report(error, node);
      publishVote(error, node);
    },
    announce,
  };
}
