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

/** A reader that holds a resource: a lock with the setting `shared`. */
export interface ReaderInspection {
  /** The lock's value. */
  readonly value: string;
  /** Who holds it: the setting `owner` of the Redlock that acquired it. Absent if the value names nobody. */
  readonly owner?: string;
  /** Milliseconds until it ends by the node's clock, if nobody extends it. */
  readonly remainingMs: number;
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
  /** The lock's value; null if there is no key, it is not a string, it is reserved for a waiter, or readers hold it. */
  readonly value: string | null;
  /** Who holds the lock: the setting `owner` of the Redlock that acquired it. Absent if the value names nobody. */
  readonly owner?: string;
  /** Milliseconds until the key expires by the node's clock; 0 without a key, Infinity for a key without expiry. */
  readonly remainingMs: number;
  /** Present if readers hold it: locks with the setting `shared`. Also while it is kept for readers that are next. */
  readonly shared?: true;
  /** The readers, in the order in which they end; with `shared` only. */
  readonly readers?: readonly ReaderInspection[];
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
    Promise.all([node.perform(inspectOperation(keys), () => true), besideOn(node, keys)]),
  );
  return replies.map((reply) => {
    const { node } = reply;
    if ("error" in reply) {
      return { node: node.name, ok: false, error: reply.error, ...holdOf(node), resources: [] };
    }
    const [found, beside] = reply.answer;
    const rows = foundIn(found);
    const resources = keys.map((key, index) =>
      inspectionOf(names[index] ?? key, key, rows[index] ?? NOTHING, beside.get(key)),
    );
    return { node: node.name, ok: true, ...holdOf(node), resources };
  });
}

/** What a node stores beside a lock's key. */
export interface Beside {
  readonly waiters: readonly WaiterInspection[];
  readonly readers: readonly ReaderInspection[];
  /** The ids of readers that were notified together, and have not come yet. */
  readonly notified: readonly string[];
}

/** Reads the waiters and the readers for each key that can have them; nothing if the node does not reply. */
export async function besideOn(
  node: Node,
  keys: readonly string[],
): Promise<ReadonlyMap<string, Beside>> {
  const withQueue = keys.flatMap((key) => {
    const queueKeys = queueKeysOf([key]);
    return queueKeys === undefined ? [] : [{ key, queueKeys }];
  });
  const beside = new Map<string, Beside>();
  if (withQueue.length === 0) return beside;
  const look = lookOperation(withQueue.flatMap(({ queueKeys }) => queueKeys));
  const rows = listIn(await node.perform(look, () => true).catch(() => undefined));
  for (const [index, { key }] of withQueue.entries()) {
    const row = rows[index];
    const found: unknown = typeof row === "string" ? JSON.parse(row) : [];
    const [waiters, readers, notified] = listIn(found).map(listIn);
    beside.set(key, {
      waiters: (waiters ?? []).map((entry) => {
        const [id, since] = listIn(entry);
        return { id: String(id), since: Number(since) };
      }),
      readers: (readers ?? []).map((entry) => {
        const [value, leftMs] = listIn(entry);
        return readerOf(String(value), Number(leftMs));
      }),
      notified: (notified ?? []).map(String),
    });
  }
  return beside;
}

function readerOf(value: string, remainingMs: number): ReaderInspection {
  const owner = ownerOf(value);
  return { value, ...(owner === undefined ? {} : { owner }), remainingMs };
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
  { waiters, readers, notified }: Beside = { waiters: [], readers: [], notified: [] },
): ResourceInspection {
  const shared = readers.length + notified.length > 0;
  const id = reservedFor(value) ?? (readers.length === 0 ? notified[0] : undefined);
  const owner = type === "string" ? ownerOf(value) : undefined;
  const permit = permitOf(key);
  return {
    resource,
    key,
    ...(permit === undefined ? {} : { permit }),
    type,
    value: type === "string" && id === undefined && !shared ? value : null,
    ...(owner === undefined ? {} : { owner }),
    remainingMs: pttl === -1 ? Infinity : Math.max(0, pttl),
    ...(shared ? { shared, readers } : {}),
    ...(id === undefined ? {} : { reservedFor: id }),
    waiters,
  };
}
