import { appliedToFew } from "../errors.js";
import { appliedTo } from "../operations/acquire.js";
import { queueReplyIn } from "../operations/queue.js";
import type { Question } from "../quorum/ballot.js";

/** Counts a reply as a vote for if the node applied the operation to all the keys. */
export function grantsAll(keyCount: number): Question["judge"] {
  return keyCount === 1 ? grantsOne : grants(keyCount);
}

const grantsOne = grants(1);

function grants(keyCount: number): Question["judge"] {
  return (reply) => {
    const applied = queueReplyIn(reply) === undefined ? appliedTo(reply, keyCount) : 0;
    if (applied === keyCount) return undefined;
    return appliedToFew(applied, keyCount);
  };
}
