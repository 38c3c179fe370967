import type { Node } from "../nodes/node.js";
import { permitOf } from "../operations/companion-key.js";
import { type FoundKey, foundIn, inspectOperation } from "../operations/inspect.js";
import { lookOperation } from "../operations/look.js";
import { holdOf } from "../nodes/ask-outside-vote.js";
import { ownerOf } from "../operations/lock-value.js";
import { reservedFor } from "../operations/queue.js";
import { queueKeysOf } from "../waiting/queue-keys.js";
import { askEach, type Query } from "./query.js";

/** A waiter in the queue of a resource. */
export interface WaiterInspection {
  /** Unique to one call of `acquire` or `using`. */
  readonly id: string;
  /** When it began to wait, in epoch ms by the nodes' clocks. */
  readonly since: number;
}

/** What one node stores for one resource. */
export interface ResourceInspection {
  /** The name that was passed to `inspect`. */
  readonly resource: string;
  /** The Redis key of the resource: `keyPrefix` and the name. */
  readonly key: string;
  /** The number of the permit, if `permits` were asked about. */
  readonly permit?: number;
  /** The Redis type of the key: `string` for a lock, `none` if there is no key. */
  readonly type: string;
  /** The lock's value; null if there is no key, it is not a string, or it is reserved for a waiter. */
  readonly value: string | null;
  /** Who holds the lock: the setting `owner` of the Redlock that acquired it. Absent if the value names nobody. */
  readonly owner?: string;
  /** Milliseconds until the key expires by the node's clock; 0 without a key, Infinity for a key without expiry. */
  readonly remainingMs: number;
  /** The id of the waiter that the key is reserved for, since it is next. */
  readonly reservedFor?: string;
  /** The waiters in this node's queue, in their order. */
  readonly waiters: readonly WaiterInspection[];
}

/** What one node stores for the resources. */
export interface NodeInspection {
  /** host:port */
  readonly node: string;
  /** Whether the node could be read. */
  readonly ok: boolean;
  /** Why the node could not be read. `resources` is empty then. */
  readonly error?: Error;
  /** Epoch ms until which the node's votes for acquisitions do not count (restart guard); absent if they do. */
  readonly heldBackUntil?: number;
  /** One entry for each resource, in the order of the call. */
  readonly resources: readonly ResourceInspection[];
}

/** Reads what each node stores for the resources. Never rejects because of a node. */
export async function inspect(query: Query): Promise<NodeInspection[]> {
  const { names, keys } = query;
  const replies = await askEach(query, (node) =>
    Promise.all([node.perform(inspectOperation(keys), () => true), queuesOn(node, keys)]),
  );
  return replies.map((reply) => {
    const { node } = reply;
    if ("error" in reply) {
      return { node: node.name, ok: false, error: reply.error, ...holdOf(node), resources: [] };
    }
    const [found, queues] = reply.answer;
    const rows = foundIn(found);
    const resources = keys.map((key, index) =>
      inspectionOf(names[index] ?? key, key, rows[index] ?? NOTHING, queues.get(key) ?? []),
    );
    return { node: node.name, ok: true, ...holdOf(node), resources };
  });
}

/** Reads the waiters for each key that can have a queue; none if the node does not reply. */
export async function queuesOn(
  node: Node,
  keys: readonly string[],
): Promise<ReadonlyMap<string, WaiterInspection[]>> {
  const withQueue = keys.flatMap((key) => {
    const queueKeys = queueKeysOf([key]);
    return queueKeys === undefined ? [] : [{ key, queueKeys }];
  });
  const queues = new Map<string, WaiterInspection[]>();
  if (withQueue.length === 0) return queues;
  const look = lookOperation(withQueue.flatMap(({ queueKeys }) => queueKeys));
  const rows = listIn(await node.perform(look, () => true).catch(() => undefined));
  for (const [index, { key }] of withQueue.entries()) {
    const row = rows[index];
    const entries: unknown = typeof row === "string" ? JSON.parse(row) : [];
    const waiters = listIn(entries).map((entry) => {
      const [id, since] = listIn(entry);
      return { id: String(id), since: Number(since) };
    });
    queues.set(key, waiters);
  }
  return queues;
}

/** Reads a list. In Lua's JSON an empty list is an empty object. */
function listIn(reply: unknown): unknown[] {
  return Array.isArray(reply) ? reply : [];
}

/** Stands for a key that is missing from the node's reply. */
const NOTHING: FoundKey = { type: "undefined", value: "undefined", pttl: NaN };

function inspectionOf(
  resource: string,
  key: string,
  { type, value, pttl }: FoundKey,
  waiters: readonly WaiterInspection[],
): ResourceInspection {
  const id = reservedFor(value);
  const owner = type === "string" ? ownerOf(value) : undefined;
  const permit = permitOf(key);
  return {
    resource,
    key,
    ...(permit === undefined ? {} : { permit }),
    type,
    value: type === "string" && id === undefined ? value : null,
    ...(owner === undefined ? {} : { owner }),
    remainingMs: pttl === -1 ? Infinity : Math.max(0, pttl),
    ...(id === undefined ? {} : { reservedFor: id }),
    waiters,
  };
}
