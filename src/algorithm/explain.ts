import {
  Abstention,
  type ErrorCode,
  ExecutionError,
  type FailureReason,
  inList,
  inShort,
  inWords,
  isHeld,
  ResourceLockedError,
} from "../errors.js";
import { askOutsideVote } from "../nodes/ask-outside-vote.js";
import type { Node } from "../nodes/node.js";
import { type FoundKey, foundIn, inspectOperation } from "../operations/inspect.js";
import { ownerOf } from "../operations/lock-value.js";
import { type Agreement, agreedValue } from "../quorum/agreement.js";
import { isRefusal, type Vote } from "../quorum/ballot.js";
import type { History } from "../quorum/history.js";
import { quorumOf, type Round } from "../quorum/round.js";
import { afterPoll, type Timer } from "../runtime/environment.js";
import type { Progress } from "../waiting/wait.js";
import type { Acquisition, Call } from "./call.js";

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
  if (isGrantOfOther(history, round))
    return "the last was that of another call, which got the lock";
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

/** Whether a round granted the lock to another call of this Redlock. */
function isGrantOfOther(history: History, round: Round): boolean {
  if (!history.isOfOther(round)) return false;
  const inFavour = round.ballots.filter(({ vote }) => vote === "for").length;
  return inFavour >= quorumOf(round.ballots.length);
}

/**
 * Returns `held` if a quorum answered, and somebody else has a resource; `unavailable` if too few nodes answered. Says so
 * of the last attempt that tells: one that was decided or ended early may not.
 */
function reasonIn(history: History): FailureReason | undefined {
  for (const round of history.rounds.toReversed()) {
    if (isGrantOfOther(history, round)) return "held";
    const { ballots } = round;
    const quorum = quorumOf(ballots.length);
    const { answered, held, unknown } = tally(ballots);
    if (answered >= quorum) return held > 0 ? "held" : "unavailable";
    if (answered + unknown.length < quorum) return "unavailable";
  }
  return undefined;
}

function tally(ballots: Round["ballots"]): { answered: number; held: number; unknown: Node[] } {
  const held = ballots.filter(({ vote }) => isRefusal(vote) && isHeld(vote)).length;
  const answered = held + ballots.filter(({ vote }) => vote === "for").length;
  const unknown = ballots.flatMap(({ node, vote }) =>
    vote === undefined || vote instanceof Abstention ? [node] : [],
  );
  return { answered, held, unknown };
}

/**
 * Returns the reason of a failed call. If no attempt tells, as when dead nodes decided it before others had voted, inspects
 * those others, and waits for them only as long as they can change the answer.
 */
async function reasonFor(call: Acquisition): Promise<FailureReason> {
  const { history, found } = call;
  const { last } = history;
  const told = reasonIn(history);
  // All time is up for a round that was cut: a node that has not answered by now did not answer in time.
  if (told !== undefined || last === undefined || last.wasCut) return told ?? "unavailable";
  const { ballots } = last;
  const quorum = quorumOf(ballots.length);
  let { answered, held } = tally(ballots);
  const { unknown } = tally(ballots);
  let open = unknown.length;
  return new Promise((resolve) => {
    for (const node of unknown) {
      const inspected = found.get(node) ?? keysOn(node, call);
      found.set(node, inspected);
      void inspected.then((keys) => {
        open -= 1;
        if (keys.length > 0) answered += 1;
        if (keys.some(({ type }) => type !== "none")) held += 1;
        if (answered >= quorum && held > 0) resolve("held");
        else if (open === 0 || answered + open < quorum) resolve("unavailable");
      });
    }
  });
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
  const { settings, failure, resources } = call;
  settings.signal?.throwIfAborted();
  call.assertOpen();
  const found = await keysInTheWay(call);
  const reason = failure === "ERR_REDLOCK_QUORUM" ? await reasonFor(call) : "unavailable";
  settings.signal?.throwIfAborted();
  const error = executionError(call, {
    verb,
    code: failure === "ERR_REDLOCK_QUORUM" ? code : failure,
    reason,
    about:
      reason === "held"
        ? await whoHolds(call)
        : `Too few nodes granted ${inList(resources)} in time.`,
    advice: reason === "held" ? adviceFor(call) : "",
    refusalInWords: (node) => strangerIn(call, found.get(node)) ?? "held by another lock",
  });
  return inTurn(call, error);
}

/** Says who holds a resource. Waits for the nodes that were inspected only until a quorum agrees. */
async function whoHolds({ resources, found, instance: { nodes } }: Acquisition): Promise<string> {
  const rows: (readonly FoundKey[])[] = [];
  const holder = (): string | undefined => {
    for (const [index, resource] of resources.entries()) {
      const agreed = agreedValue(
        rows.flatMap((keys) => keys.slice(index, index + 1)),
        nodes.length,
      );
      if (agreed !== undefined) return holderInWords(resource, agreed);
    }
    return undefined;
  };
  return new Promise((resolve) => {
    for (const inspected of found.values()) {
      void inspected.then((keys) => {
        rows.push(keys);
        const words = holder();
        if (words !== undefined) resolve(words);
        else if (rows.length === found.size) resolve(`Others have ${inList(resources)}.`);
      });
    }
    if (found.size === 0) resolve(`Others have ${inList(resources)}.`);
  });
}

function holderInWords(resource: string, { value, remainingMs }: Agreement): string {
  const owner = ownerOf(value) ?? "another lock";
  const left =
    remainingMs === Infinity ? "without an expiry" : `for another ${inWords(remainingMs)}`;
  return `${inList([resource])} is held by ${owner} ${left}.`;
}

/** Says how far a waiter came in the queue, and what would have been enough. */
function adviceFor({ progress, elapsedMs, settings }: Acquisition): string {
  if (progress === undefined) return "";
  const { ahead, aheadThen }: Progress = progress;
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

/**
 * Starts a timer that inspects the keys shortly before `acquireTimeout` ends, while the call still waits: inspecting
 * them afterwards would take longer than the caller allowed.
 */
export function lookBeforeEnd(call: Acquisition): Timer | undefined {
  const leftMs = call.budgetLeftMs;
  if (leftMs === Infinity) return undefined;
  const look = (): void => void keysInTheWay(call);
  const delayMs = Math.max(leftMs / 2, leftMs - call.longestNodeTimeoutMs);
  return call.instance.environment.setTimer(look, delayMs);
}

/**
 * Returns what the nodes that refused the lock store under its keys: SET NX only says that a key exists. Inspects each
 * node once that refused the lock, granted it to another call or has not voted yet, but waits only for those that voted.
 */
async function keysInTheWay(call: Acquisition): Promise<Map<Node, readonly FoundKey[]>> {
  const { history, found } = call;
  const inTheWay = new Map<Node, readonly FoundKey[]>();
  for (;;) {
    const refusing: Node[] = [];
    const { last } = history;
    const isGrant = last !== undefined && isGrantOfOther(history, last);
    for (const { node, vote } of last?.ballots ?? []) {
      if ((vote === "for" && !isGrant) || (isRefusal(vote) && !isHeld(vote))) continue;
      if (!found.has(node)) found.set(node, keysOn(node, call));
      if (vote !== undefined && !inTheWay.has(node)) refusing.push(node);
    }
    if (refusing.length === 0) return inTheWay;
    for (const node of refusing) inTheWay.set(node, (await found.get(node)) ?? []);
  }
}

/** Reads what a node stores under the keys; nothing if it does not reply in time. */
async function keysOn(node: Node, call: Acquisition): Promise<readonly FoundKey[]> {
  const { keys, settings, instance } = call;
  const timeoutMs = Math.min(call.nodeTimeoutMs(node), call.callLeftMs);
  if (timeoutMs <= 0) return [];
  const ask = () => node.perform(inspectOperation(keys), () => true);
  const reply = askOutsideVote(node, ask, timeoutMs, instance.environment, settings.signal);
  return foundIn(await reply.catch(() => undefined));
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
