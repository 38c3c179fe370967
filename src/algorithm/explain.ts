import {
  type ErrorCode,
  ExecutionError,
  inShort,
  inWords,
  isHeld,
  ResourceLockedError,
} from "../errors.js";
import { askOutsideVote } from "../nodes/ask-outside-vote.js";
import type { Node } from "../nodes/node.js";
import { foundIn, inspectOperation } from "../operations/inspect.js";
import { isRefusal, type Vote } from "../quorum/ballot.js";
import { quorumOf, type Round } from "../quorum/round.js";
import { afterPoll, type Timer } from "../runtime/environment.js";
import type { Acquisition, Call } from "./call.js";

const OPENINGS: Partial<Record<ErrorCode, string>> = {
  ERR_REDLOCK_VALIDITY:
    "The operation achieved a quorum, but too late: no validity was left of the ttl after the time it took and the clock drift allowance.",
};

/**
 * Makes the error of a failed call. Its message says how many attempts there were, how long they took, and what each
 * node did in the last one.
 *
 * @param refusalInWords describes a node that applied the operation to too few keys, such as "held by another lock"
 */
export function executionError(
  { history, elapsedMs, failure }: Call,
  refusalInWords: (node: Node) => string,
  code = failure,
): ExecutionError {
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
  // A node that has not voted is listed only if the votes alone did not decide the round.
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

/** Returns the error that says why a call acquired no lock. */
export async function whyNotAcquired(call: Acquisition): Promise<ExecutionError> {
  const { settings, failure } = call;
  settings.signal?.throwIfAborted();
  call.assertOpen();
  const strangers = await strangeKeys(call);
  settings.signal?.throwIfAborted();
  const isTimeout = call.budgetLeftMs < Infinity && failure === "ERR_REDLOCK_QUORUM";
  const error = executionError(
    call,
    (node) => strangers.get(node) ?? "held by another lock",
    isTimeout ? "ERR_REDLOCK_TIMEOUT" : failure,
  );
  return inTurn(call, error);
}

/**
 * Returns the error. If no node has replied, lets the event loop read its sockets first. While a majority is down or
 * silent, a call fails without waiting; a caller that tries again at once, over and over, would keep the event loop
 * from reading the other nodes' replies, and commands to them would pile up.
 */
export async function inTurn(
  { history, instance }: Call,
  error: ExecutionError,
): Promise<ExecutionError> {
  const hasReply = history.last?.ballots.some(({ reply }) => reply !== undefined);
  if (hasReply !== true) await afterPoll(instance.environment);
  return error;
}

/**
 * Starts a timer that inspects the keys shortly before `acquireTimeout` ends, while the call still waits: inspecting
 * them afterwards would take longer than the caller allowed.
 */
export function lookBeforeEnd(call: Acquisition): Timer | undefined {
  const leftMs = call.budgetLeftMs;
  if (leftMs === Infinity) return undefined;
  const look = (): void => void strangeKeys(call);
  const delayMs = Math.max(leftMs / 2, leftMs - call.longestNodeTimeoutMs);
  return call.instance.environment.setTimer(look, delayMs);
}

/**
 * Describes, for each node, the key that holds other data than a lock: SET NX only says that a key exists. Inspects
 * each node once that refused the lock or has not voted yet, but waits only for those that refused it.
 */
async function strangeKeys(call: Acquisition): Promise<Map<Node, string>> {
  const { history, strangers } = call;
  const strange = new Map<Node, string>();
  const seen = new Set<Node>();
  for (;;) {
    const refusing: Node[] = [];
    for (const { node, vote } of history.last?.ballots ?? []) {
      if (vote === "for" || (isRefusal(vote) && !isHeld(vote))) continue;
      if (!strangers.has(node)) strangers.set(node, strangeKey(node, call));
      if (vote !== undefined && !seen.has(node)) refusing.push(node);
    }
    if (refusing.length === 0) return strange;
    for (const node of refusing) {
      seen.add(node);
      const stranger = await strangers.get(node);
      if (stranger !== undefined) strange.set(node, stranger);
    }
  }
}

async function strangeKey(node: Node, call: Acquisition): Promise<string | undefined> {
  const { keys, settings, instance } = call;
  const timeoutMs = Math.min(call.nodeTimeoutMs(node), call.callLeftMs);
  if (timeoutMs <= 0) return undefined;
  const ask = () => node.perform(inspectOperation(keys), () => true);
  const found = foundIn(
    await askOutsideVote(node, ask, timeoutMs, instance.environment, settings.signal).catch(
      () => undefined,
    ),
  );
  const index = found.findIndex(({ type }) => type !== "string" && type !== "none");
  const stranger = found[index];
  if (stranger === undefined) return undefined;
  return `key holds a ${stranger.type}${keys.length > 1 ? ` (${keys[index]})` : ""}`;
}
