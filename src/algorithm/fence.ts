import { companionKey } from "../operations/companion-key.js";
import { Abstention, appliedToFew, invalidType, outOfRange, refusal } from "../errors.js";
import { voteInWords } from "./explain.js";
import type { Node } from "../nodes/node.js";
import { type Fence, answerIn } from "../operations/accept-fence.js";
import { confirmFenceOperation } from "../operations/confirm-fence.js";
import type { Instant } from "../runtime/environment.js";
import type { Acquisition } from "./call.js";
import { isRefusal, type Question } from "../quorum/ballot.js";
import { quorumOf, type Round } from "../quorum/round.js";

/** Returns the keys under which the nodes store the tokens. Throws a TypeError that names a key which can have none. */
export function fenceKeysOf(keys: readonly string[], call: string): string[] {
  return keys.map((key) => {
    const fenceKey = companionKey(key, "fence");
    if (fenceKey !== undefined) return fenceKey;
    throw invalidType(
      `${call}() cannot fence the key ${key}: no other key is sure to lie in the same slot of a Redis Cluster. ` +
        "Name the resource without braces, or with a hash tag such as {order:7}:items.",
    );
  });
}

/** A stored token further ahead than this did not come from a clock. It counts for its own resource only. */
const MOST_AHEAD_US = 366 * 86_400e6;

/** Proposes the tokens of one Redlock. Each is larger than every token it has seen. */
export class Tokens {
  #last = 0;

  /** Returns the largest of: this host's clock in microseconds, the last token plus 1, `least`. */
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

/** Returns the next token above all that the nodes returned. The nodes return none that has no next. */
function above({ ballots }: Round): number {
  let largest = 0;
  for (const { vote, reply } of ballots) {
    const answer = vote === "for" ? answerIn(reply) : undefined;
    if (typeof answer === "number") largest = Math.max(largest, answer);
  }
  return largest + 1;
}

/** Returns the token that an attempt proposes; undefined for a lock without `fencing`. */
export function proposedFence(call: Acquisition, since: Instant): Fence | undefined {
  const { fenceKeys, instance, leastToken } = call;
  if (fenceKeys === undefined) return undefined;
  return { keys: fenceKeys, token: instance.tokens.propose(since.wallMs, leastToken) };
}

/**
 * Returns the token of a lock that a quorum has set. That is the proposed token if a quorum accepted it. Otherwise
 * a second round proposes one above all that the nodes returned. Undefined if no quorum accepts that one either.
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
 * Runs the second round: proposes the larger token to the nodes that hold the lock. Only the lock's holder can
 * store a token there. Each node has the time that the first round left of its timeout.
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
  const round = call.ask(operation, judge, limitMs, refusal);
  const confirmed = await call.decided(round);
  if (!confirmed) history.replaceLast(round);
  return confirmed;
}

/** Counts a reply as a vote for if the node set the lock, even if it has a larger token than the proposed one. */
export function setsLock(keyCount: number): Question["judge"] {
  return (reply) => {
    if (answerIn(reply) !== undefined) return undefined;
    return appliedToFew(0, keyCount);
  };
}

/** Returns whether a quorum of nodes set the lock and accepted its token. */
function isAccepted({ ballots }: Round): boolean {
  const accepted = ballots.filter(({ vote, reply }) => vote === "for" && reply === "accepted");
  return accepted.length >= quorumOf(ballots.length);
}

/**
 * Says how the second round counts: a node votes for by accepting the token. A node that refused the lock, or
 * answered too late, is not asked. A node that has not voted yet is asked: its reply to the first round arrives
 * earlier, and the script compares the value, so that only a node that holds the lock can accept.
 */
function confirmation({ ballots }: Round): Required<Pick<Question, "judge" | "refusal">> {
  const refusals = new Map<Node, Error>();
  for (const { node, vote } of ballots) if (isRefusal(vote)) refusals.set(node, vote);
  return {
    judge: (reply) => {
      const answer = answerIn(reply);
      if (answer === "accepted") return undefined;
      return refusal(
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
