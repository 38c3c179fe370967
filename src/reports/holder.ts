import type { Node } from "../nodes/node.js";
import { companionKey } from "../operations/companion-key.js";
import { type FoundKey, foundIn, inspectOperation } from "../operations/inspect.js";
import { ownerOf } from "../operations/lock-value.js";
import { agreedValue } from "../quorum/agreement.js";
import { quorumOf } from "../quorum/round.js";
import { queuesOn } from "./inspect.js";
import { askQuorum, type Query } from "./query.js";

/** Who holds a resource, as a quorum of nodes says. */
export interface Holder {
  /** The setting `owner` of the Redlock that acquired the lock; undefined if its value names nobody. */
  readonly owner: string | undefined;
  /** What the keys hold. */
  readonly value: string;
  /** Ms until fewer than a quorum of nodes hold it, if nobody extends it; Infinity if it has no expiry. */
  readonly remainingMs: number;
  /** The fencing token of the lock, if it has one. */
  readonly fence?: number;
  /** Whether several may hold the resource at once. Always false so far. */
  readonly shared: boolean;
  /** How many processes wait in the queue, as one node sees it at most. */
  readonly waiters: number;
}

interface Answer {
  readonly found: FoundKey | undefined;
  readonly fence: FoundKey | undefined;
  readonly waiters: number;
}

/** Asks every node who holds a resource. Returns null if nobody does. Throws an ExecutionError if no quorum answers. */
export async function holder(query: Query): Promise<Holder | null> {
  const { nodes, names, keys } = query;
  const [resource = ""] = names;
  const [key = ""] = keys;
  const replies = await askQuorum(
    query,
    (node) => answerOf(node, key),
    (answered) => `holder() cannot tell who holds ${resource}: ${answered} answered`,
    "Try again, or read each node with inspect().",
  );
  const answers = replies.map(({ answer }) => answer);
  const agreed = agreedValue(
    answers.flatMap(({ found }) => found ?? []),
    nodes.length,
  );
  if (agreed === undefined) return null;
  const { value, remainingMs } = agreed;
  const fence = fenceOf(value, answers, quorumOf(nodes.length));
  return {
    owner: ownerOf(value),
    value,
    remainingMs,
    ...(fence === undefined ? {} : { fence }),
    shared: false,
    waiters: Math.max(...answers.map(({ waiters }) => waiters)),
  };
}

/** Asks who holds each permit. Returns null for one that nobody holds. Throws an ExecutionError if no quorum answers. */
export function holders(query: Query): Promise<(Holder | null)[]> {
  return Promise.all(query.keys.map((key) => holder({ ...query, keys: [key] })));
}

async function answerOf(node: Node, key: string): Promise<Answer> {
  const fenceKey = companionKey(key, "fence");
  const keys = fenceKey === undefined ? [key] : [key, fenceKey];
  const [reply, queues] = await Promise.all([
    node.perform(inspectOperation(keys), () => true),
    queuesOn(node, [key]),
  ]);
  const [found, fence] = foundIn(reply);
  return { found, fence, waiters: queues.get(key)?.length ?? 0 };
}

/** Returns the token that a quorum stored for this value. */
function fenceOf(value: string, answers: readonly Answer[], quorum: number): number | undefined {
  const counts = new Map<number, number>();
  for (const { fence } of answers) {
    const gap = fence?.value.indexOf(" ") ?? -1;
    if (fence === undefined || gap < 0 || fence.value.slice(gap + 1) !== value) continue;
    const token = Number(fence.value.slice(0, gap));
    const count = (counts.get(token) ?? 0) + 1;
    if (count >= quorum) return token;
    counts.set(token, count);
  }
  return undefined;
}
