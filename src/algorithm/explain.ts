import {
  type ErrorCode,
  ExecutionError,
  inShort,
  inWords,
  ResourceLockedError,
} from "../errors.js";
import type { History } from "../quorum/history.js";
import type { Node } from "../nodes/node.js";
import { quorumOf, type Round, type Vote } from "../quorum/round.js";

export interface Failure {
  readonly code: ErrorCode;
  readonly history: History;
  readonly elapsedMs: number;
  /** What a node that answered 0 keys is said to be. */
  readonly refusalInWords: (node: Node) => string;
}

const OPENINGS: Partial<Record<ErrorCode, string>> = {
  ERR_REDLOCK_VALIDITY:
    "The operation achieved a quorum, but too late: no validity was left of the ttl after the time it took and the clock drift allowance.",
};

/** Says how often it was tried, for how long, and what each node did in the last attempt. */
export function executionError({
  code,
  history,
  elapsedMs,
  refusalInWords,
}: Failure): ExecutionError {
  const opening =
    OPENINGS[code] ?? "The operation was unable to achieve a quorum during its retry window.";
  const attempts = `${history.count} ${history.count === 1 ? "attempt" : "attempts"} in ${inWords(elapsedMs)}`;
  return new ExecutionError(
    `${opening} ${attempts}; ${lastVotes(history.last, refusalInWords)}.`,
    history.attempts,
    code,
  );
}

function lastVotes(round: Round | undefined, refusalInWords: (node: Node) => string): string {
  if (round === undefined) return "no node was asked";
  const { ballots } = round;
  const inFavour = ballots.filter(({ vote }) => vote === "for").length;
  // A node without a vote matters only where the votes alone did not decide.
  const against = ballots.flatMap(({ node, vote }) => {
    if (vote === "for" || (vote === undefined && !round.wasCut)) return [];
    return [`${node.name} ${voteInWords(vote, () => refusalInWords(node))}`];
  });
  const votes = `the last had ${inFavour} of ${ballots.length} votes, ${quorumOf(ballots.length)} needed`;
  return against.length === 0 ? votes : `${votes}: ${against.join(", ")}`;
}

export function voteInWords(vote: Exclude<Vote, "for">, refusal: () => string): string {
  if (vote === undefined) return "had not answered yet";
  return vote instanceof ResourceLockedError ? refusal() : inShort(vote);
}
