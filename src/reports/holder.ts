import type { Node } from "../nodes/node.js";
import { companionKey } from "../operations/companion-key.js";
import { type FoundKey, foundIn, inspectOperation } from "../operations/inspect.js";
import { ownerOf, SHARED } from "../operations/lock-value.js";
import { agreedValue } from "../quorum/agreement.js";
import { quorumOf } from "../quorum/round.js";
import { type Beside, besideOn, type ReaderInspection } from "./inspect.js";
import { askQuorum, type Query } from "./query.js";

/** Who holds a resource, as a quorum of nodes says. Of several readers, the one that ends last. */
export interface Holder {
  /** The setting `owner` of the Redlock that acquired the lock; undefined if its value names nobody. */
  readonly owner: string | undefined;
  /** The lock's value. */
  readonly value: string;
  /** Ms until fewer than a quorum of nodes hold it, if nobody extends it; Infinity if it has no expiry. */
  readonly remainingMs: number;
  /** The fencing token of the lock, if it has one. */
  readonly fence?: number;
  /** Whether readers hold it: locks with the setting `shared`. */
  readonly shared: boolean;
  /** All readers that a quorum of nodes has, the last to end first; with `shared` only. */
  readonly readers?: readonly ReaderInspection[];
  /** How many wait in the queue, on the node that has the most: readers, and one for each process. */
  readonly waiters: number;
}

interface Answer {
  readonly found: FoundKey | undefined;
  readonly fence: FoundKey | undefined;
  readonly beside: Beside | undefined;
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
  const waiters = Math.max(...answers.map(({ beside }) => beside?.waiters.length ?? 0));
  const readers = agreedReaders(answers, nodes.length);
  const [last] = readers;
  if (last !== undefined) {
    const { owner, value, remainingMs } = last;
    return { owner, value, remainingMs, shared: true, readers, waiters };
  }
  // A quorum may have readers, but none of them a quorum.
  if (agreed === undefined || (agreed.value === SHARED && answers.some(hasReaders))) return null;
  const { value, remainingMs } = agreed;
  const fence = fenceOf(value, answers, quorumOf(nodes.length));
  return {
    owner: ownerOf(value),
    value,
    remainingMs,
    ...(fence === undefined ? {} : { fence }),
    shared: false,
    waiters,
  };
}

/** Asks who holds each permit. Returns null for one that nobody holds. Throws an ExecutionError if no quorum answers. */
export function holders(query: Query): Promise<(Holder | null)[]> {
  return Promise.all(query.keys.map((key) => holder({ ...query, keys: [key] })));
}

function hasReaders({ beside }: Answer): boolean {
  return beside !== undefined && beside.readers.length + beside.notified.length > 0;
}

/** Returns the readers that a quorum of nodes has, the last to end first. */
function agreedReaders(answers: readonly Answer[], nodeCount: number): ReaderInspection[] {
  const all = answers.flatMap(({ beside }) => beside?.readers ?? []);
  const readers = [...new Set(all.map(({ value }) => value))].flatMap((value) => {
    const found = all.flatMap((reader) =>
      reader.value === value ? [{ type: "string", value, pttl: reader.remainingMs }] : [],
    );
    const agreed = agreedValue(found, nodeCount);
    const owner = ownerOf(value);
    return agreed === undefined ? [] : [{ ...agreed, ...(owner === undefined ? {} : { owner }) }];
  });
  return readers.sort((a, b) => b.remainingMs - a.remainingMs);
}

async function answerOf(node: Node, key: string): Promise<Answer> {
  const fenceKey = companionKey(key, "fence");
  const keys = fenceKey === undefined ? [key] : [key, fenceKey];
  const [reply, beside] = await Promise.all([
    node.perform(inspectOperation(keys), () => true),
    besideOn(node, [key]),
  ]);
  const [found, fence] = foundIn(reply);
  return { found, fence, beside: beside.get(key) };
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
