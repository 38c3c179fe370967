import pTimeout from "p-timeout";
import { type Environment, pTimeoutTimers } from "./environment.js";
import { asError, inWords, NodeError } from "./errors.js";
import type { Node } from "./node/node.js";
import { inspectOperation } from "./operations.js";

/** What one node holds of one resource. */
export interface ResourceInspection {
  readonly resource: string;
  readonly key: string;
  /** The Redis type of the key: `string` for a lock, `none` where there is no key. */
  readonly type: string;
  /** What the key holds: a lock's value; null where there is no key, or it is no string. */
  readonly value: string | null;
  /** Ms until the key expires by the node's clock; 0 where there is no key, Infinity where it has no expiry. */
  readonly remainingMs: number;
}

/** What one node holds of the resources asked for. */
export interface NodeInspection {
  /** host:port */
  readonly node: string;
  readonly ok: boolean;
  /** Why the node could not be read; `resources` is empty then. */
  readonly error?: Error;
  /** Epoch ms until which the restart guard lets no vote for an acquisition count; absent where they count. */
  readonly heldBackUntil?: number;
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
  signal?: AbortSignal,
): Promise<NodeInspection> {
  try {
    const refusal = node.refusal();
    if (refusal !== undefined) throw refusal;
    const answer = (async () => {
      await node.connecting();
      return node.perform(inspectOperation(keys.map(({ key }) => key)), () => true);
    })();
    const found = await pTimeout(answer, {
      milliseconds: timeoutMs,
      message: new NodeError(
        `no answer in ${inWords(timeoutMs)}`,
        "ERR_REDLOCK_NODE_TIMEOUT",
        node.name,
      ),
      customTimers: pTimeoutTimers(environment),
      ...(signal && { signal }),
    });
    return { node: node.name, ok: true, ...hold(node), resources: keys.map(reader(found)) };
  } catch (error) {
    return { node: node.name, ok: false, error: asError(error), ...hold(node), resources: [] };
  }
}

function hold({ heldBackUntil }: Node): { heldBackUntil?: number } {
  return heldBackUntil === undefined ? {} : { heldBackUntil };
}

/** Reads the script's reply: a type, a value and a PTTL for each key, in their order. */
function reader(found: unknown): (key: NamedKey, index: number) => ResourceInspection {
  const rows: unknown[] = Array.isArray(found) ? found : [];
  return ({ resource, key }, index) => {
    const row = rows[index];
    const [type, value, pttl] = Array.isArray(row) ? (row as unknown[]) : [];
    const ttlMs = Number(pttl);
    return {
      resource,
      key,
      type: String(type),
      value: type === "string" ? String(value) : null,
      // Redis: -2 for no key, -1 for no expiry.
      remainingMs: ttlMs === -1 ? Infinity : Math.max(0, ttlMs),
    };
  };
}
