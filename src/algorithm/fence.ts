import { companionKey } from "../operations/companion-key.js";
import { Abstention, invalidType, outOfRange, ResourceLockedError } from "../errors.js";
import { voteInWords } from "./explain.js";
import type { Node } from "../nodes/node.js";
import { type Fence, answerIn } from "../operations/accept-fence.js";
import { confirmFenceOperation } from "../operations/confirm-fence.js";
import type { Instant } from "../runtime/environment.js";
import type { Acquisition } from "./call.js";
import { isRefusal, type Question } from "../quorum/ballot.js";
import { quorumOf, type Round } from "../quorum/round.js";

/** Where the nodes keep the tokens of these keys. Throws a TypeError that names a key which can have none. */
export function fenceKeysOf(keys: readonly string[], call: string): string[] {
  return keys.map((key) => {
    const fenceKey = companionKey(key, "fence");
    if (fenceKey !== undefined) return fenceKey;
    throw invalidType(
      `${call}() cannot fence the key ${key}: no other key surely shares its slot of a Redis Cluster. ` +
        "Name the resource without braces, or with a hash tag such as {order:7}:items.",
    );
  });
}

/** A token so far ahead of the clock is not one of a clock's: it concerns the resource that has it, and no other. */
const MOST_AHEAD_US = 366 * 86_400e6;

/** The tokens that one Redlock proposes, each larger than every one that it saw. */
export class Tokens {
  #last = 0;

  /** A token of this host's clock, in microseconds, or the next above the last, or the least that will do. */
  propose(wallMs: number, least: number): number {
    this.#last = Math.max(Math.floor(wallMs * 1000), this.#last + 1);
    const token = Math.max(this.#last, least);
    if (!Number.isSafeInteger(token)) {
      throw outOfRange(
        "There is no fencing token below 2^53 left. Is this host's clock set to a time after the year 2255?",
      );
    }
    return token;
  }

  saw(token: number, wallMs: number): void {
    if (token <= wallMs * 1000 + MOST_AHEAD_US) this.#last = Math.max(this.#last, token);
  }
}

/** The next above all that the nodes answered in a round of proposals; they answer none from which there is no next. */
function above({ ballots }: Round): number {
  let largest = 0;
  for (const { vote, reply } of ballots) {
    const answer = vote === "for" ? answerIn(reply) : undefined;
    if (typeof answer === "number") largest = Math.max(largest, answer);
  }
  return largest + 1;
}

/** The token that an attempt proposes, if its lock is to have one. */
export function proposedFence(call: Acquisition, since: Instant): Fence | undefined {
  const { fenceKeys, instance, leastToken } = call;
  if (fenceKeys === undefined) return undefined;
  return { keys: fenceKeys, token: instance.tokens.propose(since.wallMs, leastToken) };
}

/**
 * The token of a lock that a quorum has set: the proposed one where a quorum accepted it, or else one above all
 * that they answered, once they have accepted that in a second round. Undefined where they have not.
 */
export async function acceptedFence(
  call: Acquisition,
  round: Round,
  proposed: Fence,
  value: string,
  since: Instant,
): Promise<Fence | undefined> {
  if (isAccepted(round)) return proposed;
  const fence = { ...proposed, token: above(round) };
  call.instance.tokens.saw(fence.token, since.wallMs);
  call.leastToken = Math.min(fence.token + 1, Number.MAX_SAFE_INTEGER);
  return (await confirm(fence, value, round, call)) ? fence : undefined;
}

/**
 * The second round, where a quorum set the lock but had larger tokens: the fence's token, which is above
 * all that they answered, to the nodes that hold the lock. Only the lock's holder can store one there.
 * The nodes have what the first round left of their time.
 */
async function confirm(
  fence: Fence,
  value: string,
  first: Round,
  call: Acquisition,
): Promise<boolean> {
  const { keys, ttlMs, history } = call;
  const operation = confirmFenceOperation(keys, value, ttlMs, fence);
  const { judge, refusal } = confirmation(first);
  const timeLeftMs = call.longestNodeTimeoutMs - first.elapsedMs;
  const limitMs = Math.min(timeLeftMs, call.budgetLeftMs);
  const round = call.ask(() => operation, judge, limitMs, refusal);
  const confirmed = await call.decided(round);
  if (!confirmed) history.replaceLast(round);
  return confirmed;
}

/** In a round of proposals a node that has a larger token votes for all the same: it set the lock. */
export function setsLock(keyCount: number): Question["judge"] {
  return (reply) => {
    if (answerIn(reply) !== undefined) return undefined;
    return new ResourceLockedError(
      `The operation was applied to: 0 of the ${keyCount} requested resources.`,
    );
  };
}

/** Whether a quorum of nodes both set the lock and accepted its token. */
function isAccepted({ ballots }: Round): boolean {
  const accepted = ballots.filter(({ vote, reply }) => vote === "for" && reply === "accepted");
  return accepted.length >= quorumOf(ballots.length);
}

/**
 * How the second round counts: a vote for is the acceptance of its token. A node that refused the
 * lock, or was too late, is not asked. One that has not voted yet is: its answer to the first round comes
 * before, and the value says whether it holds the lock.
 */
function confirmation({ ballots }: Round): Required<Pick<Question, "judge" | "refusal">> {
  const refusals = new Map<Node, Error>();
  for (const { node, vote } of ballots) if (isRefusal(vote)) refusals.set(node, vote);
  return {
    judge: (reply) => {
      const answer = answerIn(reply);
      if (answer === "accepted") return undefined;
      return new Error(
        answer === undefined ? "does not hold the lock" : `has the fencing token ${answer}`,
      );
    },
    refusal: (node) => {
      const why = refusals.get(node);
      if (why === undefined) return undefined;
      const inWords = voteInWords(why, () => "held by another lock");
      return new Abstention(
        node.name,
        `had not set the lock (${inWords}), so was not asked for its token`,
      );
    },
  };
}
