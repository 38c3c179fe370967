import { isReply } from "../clients/connection.js";
import { inList } from "../errors.js";
import type { Node } from "../nodes/node.js";
import { forceReleaseScript } from "../operations/force-release.js";
import { permitOf } from "../operations/companion-key.js";
import { ownerOf } from "../operations/lock-value.js";
import { readersKeysOf } from "../operations/readers.js";
import { queueKeysOf } from "../waiting/queue-keys.js";
import { askQuorum, type Query } from "./query.js";

/** A lock that `forceRelease` ended. There may be several on one resource: those of readers. */
export interface ForcedRelease {
  /** The name of the resource. */
  readonly resource: string;
  /** The number of the permit, if `permits` were asked about. */
  readonly permit?: number;
  /** Who held it; undefined if its value names nobody. */
  readonly owner: string | undefined;
  /** What the key held; of a reader, its value. */
  readonly value: string;
  /** The nodes that held it, as `host:port`. */
  readonly nodes: readonly string[];
}

/** Ends whatever locks the nodes hold on the resources. Throws an ExecutionError if no quorum of nodes did so. */
export async function forceRelease(query: Query): Promise<ForcedRelease[]> {
  const { resources, names, keys } = query;
  const replies = await askQuorum(
    query,
    (node) => Promise.all(keys.map((key) => forceReleaseOn(node, key))),
    (answered) => `The locks on ${inList(resources)} were ended on ${answered}`,
    "Try again when the others can be reached, or wait until the locks' ttl has passed.",
  );
  return names.flatMap((resource, index) => {
    const holders = new Map<string, string[]>();
    for (const { node, answer } of replies) {
      for (const value of answer[index] ?? []) {
        holders.set(value, [...(holders.get(value) ?? []), node.name]);
      }
    }
    const permit = permitOf(keys[index] ?? "");
    return [...holders].map(([value, on]) => ({
      resource,
      ...(permit === undefined ? {} : { permit }),
      owner: ownerOf(value),
      value,
      nodes: on,
    }));
  });
}

/** In full, not by EVALSHA: this is rare, and a node need not keep the script. */
async function forceReleaseOn(node: Node, key: string): Promise<string[]> {
  const { text } = forceReleaseScript;
  const queueKeys = queueKeysOf([key]);
  const keys = queueKeys === undefined ? [key] : [...queueKeys, ...readersKeysOf([key])];
  const reply = await node.query("eval", [text, keys.length, ...keys]).catch(
    // The client's user may have no right to the keys of the queue. Without a reply, the node may have run the command:
    // a second one could end the lock of whoever came next.
    (error: unknown) => {
      if (keys.length === 1 || !isReply(error)) throw error;
      return node.query("eval", [text, 1, key]);
    },
  );
  return Array.isArray(reply) ? reply.map(String) : [];
}
