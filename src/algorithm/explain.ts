import {
  type ErrorCode,
  ExecutionError,
  type FailureReason,
  inList,
  inShort,
  inWords,
  remainingInWords,
  ResourceLockedError,
} from "../errors.js";
import type { Node } from "../nodes/node.js";
import type { FoundKey } from "../operations/inspect.js";
import { ownerOf, SHARED } from "../operations/lock-value.js";
import { agreedValue } from "../quorum/agreement.js";
import type { Vote } from "../quorum/ballot.js";
import type { History } from "../quorum/history.js";
import { quorumOf } from "../quorum/round.js";
import { afterPoll } from "../runtime/environment.js";
import type { Acquisition, Call } from "./call.js";
import { keysInTheWay, untilTold } from "./look.js";
import { reasonFor } from "./reason.js";

const OPENINGS: Partial<Record<ErrorCode, string>> = {
  ERR_REDLOCK_VALIDITY:
    "The operation achieved a quorum, but too late: no validity was left of the ttl after the time it took and the clock drift allowance.",
};

/** What the error of a failed call says besides its votes. */
interface Explanation {
  /** The function of the call. The error's stack begins with who called it. */
  readonly verb: (...args: never[]) => unknown;
  readonly code?: ErrorCode;
  readonly reason: FailureReason;
  /** Names the resources. */
  readonly about: string;
  readonly advice?: string;
  /** Describes a node that applied the operation to too few keys, such as "held by another lock". */
  readonly refusalInWords: (node: Node) => string;
}

/**
 * Makes the error of a failed call. Its message names the resources, says how many attempts there were, how long they took,
 * and what each node did in the last one.
 */
export function executionError(
  { history, elapsedMs, failure, resources }: Call,
  { code = failure, reason, about, advice = "", refusalInWords, verb }: Explanation,
): ExecutionError {
  const opening =
    OPENINGS[code] ?? "The operation was unable to achieve a quorum during its retry window.";
  const attempts = `${history.count} ${history.count === 1 ? "attempt" : "attempts"} in ${inWords(elapsedMs)}`;
  const error = new ExecutionError(
    `${opening} ${about} ${attempts}; ${lastVotes(history, refusalInWords)}.${advice}`,
    history.attempts,
    code,
    reason,
    resources,
  );
  // Of the stack, only the caller's own frames tell anything.
  Error.captureStackTrace(error, verb);
  return error;
}

function lastVotes(history: History, refusalInWords: (node: Node) => string): string {
  const round = history.last;
  if (round === undefined) return "no node was asked";
  if (history.isGrantOfOther(round)) return "the last was that of another call, which got the lock";
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

/**
 * Returns the error that says why a call acquired no lock.
 *
 * @param verb the function of the call
 * @param code what a failed quorum is called
 */
export async function whyNotAcquired(
  call: Acquisition,
  verb: Explanation["verb"],
  code: ErrorCode = "ERR_REDLOCK_QUORUM",
): Promise<ExecutionError> {
  const { settings, failure } = call;
  settings.signal?.throwIfAborted();
  call.assertOpen();
  const found = await call.unlessEnded(keysInTheWay(call));
  const isRefused = failure === "ERR_REDLOCK_QUORUM";
  const reason = isRefused ? await call.unlessEnded(reasonFor(call)) : "unavailable";
  const error = executionError(call, {
    verb,
    code: isRefused ? code : failure,
    reason,
    about: reason === "held" ? await call.unlessEnded(whoHolds(call)) : whyUnavailable(call),
    advice: reason === "held" ? adviceFor(call) : "",
    refusalInWords: (node) => strangerIn(call, found.get(node)) ?? "held by another lock",
  });
  return inTurn(call, error);
}

function whyUnavailable({ failure, resources, ttlMs }: Acquisition): string {
  if (failure !== "ERR_REDLOCK_VALIDITY")
    return `Too few nodes granted ${inList(resources)} in time.`;
  return `The ttl of ${inList(resources)} was ${inWords(ttlMs)}: raise it, or find what is slow.`;
}

/** Says who holds a resource. Waits for the nodes that were inspected only until a quorum agrees. */
async function whoHolds(call: Acquisition): Promise<string> {
  const { resources, found, permits } = call;
  const { shared } = call.settings;
  const { nodes, environment } = call.instance;
  if (permits !== undefined) {
    return `All ${permits.keys.length} permits of ${inList(resources)} are taken.`;
  }
  const rows: (readonly FoundKey[])[] = [];
  const holder = (keys: readonly FoundKey[]): string | undefined => {
    rows.push(keys);
    for (const [index, resource] of resources.entries()) {
      const agreed = agreedValue(
        rows.flatMap((row) => row.slice(index, index + 1)),
        nodes.length,
      );
      if (agreed === undefined) continue;
      if (agreed.value === SHARED && shared) {
        return `${inList([resource])} has readers, and somebody without shared has waited for it longer.`;
      }
      const owner = agreed.value === SHARED ? "readers" : (ownerOf(agreed.value) ?? "another lock");
      // The nodes were asked some time before the call ends.
      const nowMs = environment.monotonicMs();
      const leftMs = agreed.remainingMs - (nowMs - (call.foundAtMs ?? nowMs));
      return `${inList([resource])} is held by ${owner} ${remainingInWords(Math.max(0, leftMs))}.`;
    }
    return undefined;
  };
  return (
    (await untilTold([...(found?.values() ?? [])], holder)) ?? `Others have ${inList(resources)}.`
  );
}

/** Says how far a waiter came in the queue, and what would have been enough. */
function adviceFor({ progress, elapsedMs, settings }: Acquisition): string {
  if (progress === undefined) return "";
  const { ahead, aheadThen } = progress;
  if (ahead === 0) return ` It waited ${inWords(elapsedMs)} and was next in the queue.`;
  const perSecond = ((aheadThen - ahead) * 1000) / elapsedMs;
  const waited = ` It waited ${inWords(elapsedMs)} and was ${ordinal(ahead + 1)} in the queue, which`;
  if (perSecond <= 0) return `${waited} did not move.`;
  const limit =
    settings.acquireTimeout === undefined ? "an acquireTimeout" : "a larger acquireTimeout";
  const neededMs = elapsedMs + ((ahead + 1) * 1000) / perSecond;
  const pace = perSecond < 10 ? perSecond.toFixed(1) : perSecond.toFixed(0);
  return `${waited} moved ${pace} times a second: ${limit} of about ${inWords(neededMs)} would have been enough.`;
}

function ordinal(place: number): string {
  const isTeen = Math.floor(place / 10) % 10 === 1;
  const suffix = isTeen ? undefined : [undefined, "st", "nd", "rd"][place % 10];
  return `${place}${suffix ?? "th"}`;
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

/** Describes the key that holds other data than a lock, if there is one. */
function strangerIn(
  { keys }: Acquisition,
  found: readonly FoundKey[] | undefined,
): string | undefined {
  const index = found?.findIndex(({ type }) => type !== "string" && type !== "none") ?? -1;
  const stranger = found?.[index];
  if (stranger === undefined) return undefined;
  return `key holds a ${stranger.type}${keys.length > 1 ? ` (${keys[index]})` : ""}`;
}
