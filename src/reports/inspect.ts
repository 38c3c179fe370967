import type { Environment } from "../runtime/environment.js";
import { asError } from "../errors.js";
import type { Node } from "../nodes/node.js";
import { type FoundKey, foundIn, inspectOperation } from "../operations/inspect.js";
import { lookOperation } from "../operations/look.js";
import { holdOf, askOutsideVote } from "../nodes/ask-outside-vote.js";
import { lineKeysOf, reservedFor } from "../waiting/queue-keys.js";

/** One who waits in line for a resource. */
export interface WaiterInspection {
  /** Of one call to `acquire` or `using`, unique to it. */
  readonly id: string;
  /** Since when it waits, in epoch ms by the nodes' clocks. */
  readonly since: number;
}

/** What one node holds of one resource. */
export interface ResourceInspection {
  /** The name that was passed to `inspect`. */
  readonly resource: string;
  /** The Redis key of the resource: `keyPrefix` and the name. */
  readonly key: string;
  /** The Redis type of the key: `string` for a lock, `none` where there is no key. */
  readonly type: string;
  /** What the key holds: a lock's value; null where there is no key, it is no string, or it is reserved. */
  readonly value: string | null;
  /** Ms until the key expires by the node's clock; 0 where there is no key, Infinity where it has no expiry. */
  readonly remainingMs: number;
  /** The id of the waiter for whom the key is kept, since it is next. */
  readonly reservedFor?: string;
  /** Who waits in line on this node, in the order of the line. */
  readonly waiters: readonly WaiterInspection[];
}

/** What one node holds of the resources asked for. */
export interface NodeInspection {
  /** host:port */
  readonly node: string;
  /** Whether the node could be read. */
  readonly ok: boolean;
  /** Why the node could not be read; `resources` is empty then. */
  readonly error?: Error;
  /** Epoch ms until which the restart guard lets no vote for an acquisition count; absent where they count. */
  readonly heldBackUntil?: number;
  /** One entry for each resource, in the order of the call. */
  readonly resources: readonly ResourceInspection[];
}

export interface NamedKey {
  readonly resource: string;
  readonly key: string;
}

export async function inspectNode(
  node: Node,
  keys: readonly NamedKey[],
  timeoutMs: number,
  environment: Environment,
): Promise<NodeInspection> {
  try {
    const ask = () =>
      Promise.all([
        node.perform(inspectOperation(keys.map(({ key }) => key)), () => true),
        linesOn(node, keys),
      ]);
    const [found, lines] = await askOutsideVote(node, ask, timeoutMs, environment);
    const resources = keys.map(reader(foundIn(found), lines));
    return { node: node.name, ok: true, ...holdOf(node), resources };
  } catch (error) {
    return { node: node.name, ok: false, error: asError(error), ...holdOf(node), resources: [] };
  }
}

/** Who waits for each key that can have a line; nobody where the node does not say. */
async function linesOn(
  node: Node,
  keys: readonly NamedKey[],
): Promise<ReadonlyMap<string, WaiterInspection[]>> {
  const withLine = keys.flatMap(({ key }) => {
    const lineKeys = lineKeysOf([key]);
    return lineKeys === undefined ? [] : [{ key, lineKeys }];
  });
  const lines = new Map<string, WaiterInspection[]>();
  if (withLine.length === 0) return lines;
  const look = lookOperation(withLine.flatMap(({ lineKeys }) => lineKeys));
  const rows = listIn(await node.perform(look, () => true).catch(() => undefined));
  for (const [index, { key }] of withLine.entries()) {
    const row = rows[index];
    const entries: unknown = typeof row === "string" ? JSON.parse(row) : [];
    const waiters = listIn(entries).map((entry) => {
      const [id, since] = listIn(entry);
      return { id: String(id), since: Number(since) };
    });
    lines.set(key, waiters);
  }
  return lines;
}

/** Lua's JSON of an empty list is an empty object. */
function listIn(reply: unknown): unknown[] {
  return Array.isArray(reply) ? reply : [];
}

/** Of a key of which the node said nothing. */
const NOTHING: FoundKey = { type: "undefined", value: "undefined", pttl: NaN };

function reader(
  found: readonly FoundKey[],
  lines: ReadonlyMap<string, WaiterInspection[]>,
): (key: NamedKey, index: number) => ResourceInspection {
  return ({ resource, key }, index) => {
    const { type, value, pttl } = found[index] ?? NOTHING;
    const id = reservedFor(value);
    return {
      resource,
      key,
      type,
      value: type === "string" && id === undefined ? value : null,
      remainingMs: pttl === -1 ? Infinity : Math.max(0, pttl),
      ...(id === undefined ? {} : { reservedFor: id }),
      waiters: lines.get(key) ?? [],
    };
  };
}
