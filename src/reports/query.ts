import { asError, ExecutionError, inShort } from "../errors.js";
import { checkResources, keysOf, onlyOption, slotKeysOf } from "../input.js";
import { askOutsideVote } from "../nodes/ask-outside-vote.js";
import type { Node } from "../nodes/node.js";
import { quorumOf } from "../quorum/round.js";
import type { Environment } from "../runtime/environment.js";
import { resolveSettings } from "../settings.js";

/** A question about resources, to every node and outside any vote. */
export interface Query {
  readonly nodes: readonly Node[];
  /** What the caller named. */
  readonly resources: readonly string[];
  /** The resource of each key: the same for each permit. */
  readonly names: readonly string[];
  /** The resources' keys, in their order. */
  readonly keys: readonly string[];
  readonly timeoutMs: number;
  readonly environment: Environment;
}

/** Options of `inspect`, `holder` and `forceRelease`. */
export interface QueryOptions {
  /** The number of permits of the resource, as its holders set it: asks about each of them. */
  readonly permits?: number | undefined;
}

/** Checks what a call asks about. With `permits`, it asks about each slot of one resource. */
export function namesAndKeys(
  resources: string | readonly string[],
  call: string,
  keyPrefix: string,
  options: QueryOptions,
): Pick<Query, "resources" | "names" | "keys"> {
  const named = checkResources(resources, call, keyPrefix);
  const keys = keysOf(named, keyPrefix);
  onlyOption(options, call, "permits");
  const { permits } = resolveSettings({ permits: options.permits }, call);
  if (permits === undefined) return { resources: named, names: named, keys };
  const slotKeys = slotKeysOf(keys, permits, call);
  return { resources: named, names: slotKeys.map(() => named[0] ?? ""), keys: slotKeys };
}

/** What a node answered, or why it did not. */
export type Reply<T> =
  { readonly node: Node; readonly answer: T } | { readonly node: Node; readonly error: Error };

/** Asks every node. Never rejects because of a node. */
export function askEach<T>(
  { nodes, timeoutMs, environment }: Query,
  ask: (node: Node) => Promise<T>,
): Promise<Reply<T>[]> {
  return Promise.all(
    nodes.map((node) =>
      askOutsideVote(node, () => ask(node), timeoutMs, environment).then(
        (answer) => ({ node, answer }),
        (error: unknown) => ({ node, error: asError(error) }),
      ),
    ),
  );
}

/**
 * Asks every node, and returns the answers. Throws an ExecutionError if no quorum answers.
 *
 * @param failure begins the message: says what failed, with how many nodes answered, such as "2 of 5 nodes"
 * @param advice ends the message
 */
export async function askQuorum<T>(
  query: Query,
  ask: (node: Node) => Promise<T>,
  failure: (answered: string) => string,
  advice: string,
): Promise<{ readonly node: Node; readonly answer: T }[]> {
  const replies = await askEach(query, ask);
  const answers = replies.filter((reply) => "answer" in reply);
  const { length } = query.nodes;
  const quorum = quorumOf(length);
  if (answers.length >= quorum) return answers;
  const failures = replies.flatMap((reply) =>
    "error" in reply ? [`${reply.node.name} ${inShort(reply.error)}`] : [],
  );
  throw new ExecutionError(
    `${failure(`${answers.length} of ${length} nodes`)}, ${quorum} needed: ${failures.join(", ")}. ${advice}`,
    [],
    "ERR_REDLOCK_QUORUM",
    "unavailable",
    query.resources,
  );
}
