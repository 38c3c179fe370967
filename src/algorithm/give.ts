import { isHeld } from "../errors.js";
import { isReply } from "../clients/connection.js";
import type { Node } from "../nodes/node.js";
import type { Fence } from "../operations/accept-fence.js";
import { acquireOperation } from "../operations/acquire-fenced.js";
import { extendOperation } from "../operations/extend-fenced.js";
import type { Round } from "../quorum/round.js";
import type { Lease } from "./lease.js";

/** A lock that is held, as the nodes see it. */
export interface Holding {
  readonly keys: readonly string[];
  readonly value: string;
  readonly lease: Lease;
  readonly fence?: Fence | undefined;
}

/**
 * Gives the key of a lock that was just acquired to the nodes that did not vote for it, as soon as each can
 * be asked: a lock that stands on a bare quorum is lost with the first of its nodes. It is no vote.
 */
export function giveToRest(round: Round, holding: Holding, isStanding: boolean): void {
  const { value, lease } = holding;
  round.eachVoteAgainst((error, node) => {
    const give = (): void => {
      giveKeys(node, holding);
    };
    if (isHeld(error)) {
      // Whoever held it there is mostly about to release it. One who stands in line is given it as it leaves.
      if (!isStanding) void round.complete().then(give);
    } else if (!isReply(error) && lease.open) {
      node.addKey({ value, ttlMs: lease.keyTtlMs, give });
    }
  });
}

/**
 * After an extension, gives the key again to the nodes that had lost it, in a command of its own: it is no
 * vote in the round that found it gone. Nodes that could not be asked, or not in time, are told of the
 * extension as soon as they can be.
 */
export function keepOnRest(round: Round, holding: Holding): void {
  const { keys, value, lease, fence } = holding;
  round.eachVoteAgainst((error, node) => {
    if (isHeld(error)) {
      void round.complete().then(() => {
        giveKeys(node, holding);
      });
    } else if (!isReply(error) && lease.open) {
      const give = (): void => {
        node.tell(extendOperation(keys, value, lease.keyTtlMs, fence), () => lease.open);
        // Its key may have expired meanwhile.
        giveKeys(node, holding);
      };
      node.addKey({ value, ttlMs: lease.keyTtlMs, give });
    }
  });
}

/** Gives the node each key by itself: it may hold some of them already. */
export function giveKeys(node: Node, { keys, value, lease, fence }: Holding): void {
  const isWanted = (): boolean => lease.open;
  for (const [index, key] of keys.entries()) {
    const own = fence && { ...fence, keys: fence.keys.slice(index, index + 1) };
    const extendIfShort = (): void => {
      if (lease.isExtended) node.tell(extendOperation([key], value, lease.keyTtlMs, own), isWanted);
    };
    // An earlier command may have set the key for less than an extension has granted meanwhile: one that the
    // node's client sent again in full, since the node had not cached its script.
    node.tell(acquireOperation([key], value, lease.keyTtlMs, own), isWanted, extendIfShort);
  }
}
