import { inList } from "../errors.js";
import { type Lock, type LockParts, partsOf } from "../lock.js";
import type { Node } from "../nodes/node.js";
import type { PendingRelease } from "../nodes/pending.js";
import type { Operation } from "../operations/operation.js";
import { History } from "../quorum/history.js";
import type { ExecutionResult } from "../quorum/results.js";
import { Round } from "../quorum/round.js";
import type { ResolvedSettings } from "../settings.js";
import { type Acquisition, Call } from "./call.js";
import { executionError } from "./explain.js";
import type { Instance } from "./instance.js";
import { releaseRequest } from "./requests.js";

/** One call of `release`. */
export class Release extends Call {
  readonly lock: Lock;
  readonly parts: LockParts;

  constructor(instance: Instance, lock: Lock, settings: ResolvedSettings) {
    const parts = partsOf(lock, "release");
    super(instance, { resources: parts.resources, keys: parts.keys, ttlMs: lock.ttl }, settings);
    this.lock = lock;
    this.parts = parts;
  }

  /** Milliseconds until a whole ttl has passed since the call began: by then the keys have expired by themselves. */
  get leftMs(): number {
    return this.lock.ttl - this.elapsedMs;
  }
}

/**
 * Releases on every node, and retries as the settings say, but not beyond the ttl. Throws an ExecutionError if no quorum
 * replied.
 */
export async function release(call: Release): Promise<ExecutionResult> {
  const { instance, parts, history, start } = call;
  const { lease } = parts;
  const wasOpen = lease.open;
  if (wasOpen) call.assertOpen();
  if (!lease.release()) return history;
  if (parts.permit !== undefined) instance.lastSlots.push(parts.resources[0] ?? "", parts.permit);

  const attempt = (): Promise<boolean> => {
    const round = askRelease(call);
    history.add(round);
    return round.decided();
  };
  if (!wasOpen) {
    if (!instance.closing.aborted) void attempt();
    return new History(start.wallMs);
  }
  if ((await call.untilGiven(attempt, () => call.leftMs)) === true) return history;
  throw executionError(call, {
    verb: release,
    code: "ERR_REDLOCK_QUORUM",
    reason: "unavailable",
    about: `The release of the lock on ${inList(call.resources)} was not confirmed.`,
    refusalInWords: () => "holds it no longer",
  });
}

/** Returns the settings of a lock's release: it hands over to the queue if the lock was acquired with `queue: true`. */
export function releaseSettings({ settings }: Instance, { queue }: LockParts): ResolvedSettings {
  return queue === settings.queue ? settings : { ...settings, queue };
}

/** Asks every node to release the lock or, with a queue, to hand it over to the next waiter. */
export function askRelease(call: Release): Round {
  const { instance, keys, settings, parts, lock } = call;
  const { value, lease, history, shared } = parts;
  const queueKeys = settings.queue ? instance.queues.keysFor(keys) : undefined;
  const pending = { keys, value, shared, ttlMs: Math.max(lock.ttl, lease.longestTtlMs) };
  const operation = releaseRequest(pending, queueKeys);
  return releaseOn(instance.nodes, call, history.last, operation, pending, instance.onRefusal);
}

/**
 * Releases a failed attempt on every node that may have set its keys. It deletes the keys and never reserves them for
 * the next waiter: attempts that each hold a minority would reserve keys for each other for ever.
 */
export function releaseFailedAttempt(
  call: Acquisition,
  keys: readonly string[],
  round: Round,
  value: string,
): void {
  const { ttlMs, settings } = call;
  const pending = { keys, value, shared: settings.shared, ttlMs };
  const asked = round.ballots.flatMap((ballot) => (ballot.asked ? [ballot.node] : []));
  releaseOn(asked, call, round, releaseRequest(pending), pending);
}

/** Asks the nodes to release. A node that does not confirm the release gets it as a pending release. */
function releaseOn(
  nodes: readonly Node[],
  { instance, nodeTimeoutMs }: Call,
  acquired: Round | undefined,
  operation: Operation,
  pending: PendingRelease,
  report?: (error: Error, node: Node) => void,
): Round {
  return new Round(
    {
      nodes,
      operation,
      judge: (reply, node) => {
        instance.queues.onHandOver(reply, node);
        return undefined;
      },
      nodeTimeoutMs,
      onRefusal: (error, node) => {
        node.addRelease(pending, acquired?.isInFlight(node) ?? false);
        report?.(error, node);
      },
    },
    instance.environment,
  );
}
