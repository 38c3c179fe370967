import { Abstention, type FailureReason, isHeld } from "../errors.js";
import type { Node } from "../nodes/node.js";
import type { FoundKey } from "../operations/inspect.js";
import { isRefusal } from "../quorum/ballot.js";
import type { History } from "../quorum/history.js";
import { quorumOf, type Round } from "../quorum/round.js";
import type { Acquisition } from "./call.js";
import { lookAt, untilTold } from "./look.js";

/**
 * Returns `held` if a quorum answered, and somebody else has a resource; `unavailable` if too few nodes answered. Says so
 * of the last attempt that tells: one that was decided or ended early may not.
 */
function reasonIn(history: History): FailureReason | undefined {
  for (const round of history.rounds.toReversed()) {
    if (history.isGrantOfOther(round)) return "held";
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
export async function reasonFor(call: Acquisition): Promise<FailureReason> {
  const { history } = call;
  const { last } = history;
  const told = reasonIn(history);
  // All time is up for a round that was cut: a node that has not answered by now did not answer in time.
  if (told !== undefined || last === undefined || last.wasCut) return told ?? "unavailable";
  const quorum = quorumOf(last.ballots.length);
  const { unknown, ...votes } = tally(last.ballots);
  let { answered, held } = votes;
  const reason = (keys: readonly FoundKey[], left: number): FailureReason | undefined => {
    if (keys.length > 0) answered += 1;
    if (keys.some(({ type }) => type !== "none")) held += 1;
    if (answered >= quorum && held > 0) return "held";
    return answered + left < quorum ? "unavailable" : undefined;
  };
  const inspected = unknown.map((node) => lookAt(node, call));
  return (await untilTold(inspected, reason)) ?? "unavailable";
}
