import { isHeld } from "../errors.js";
import { isReply } from "../clients/connection.js";
import type { Node } from "../nodes/node.js";
import type { Round } from "../quorum/round.js";
import type { Lease } from "./lease.js";
import { type Claim, extensionRequest, giftRequest } from "./requests.js";

/** What the nodes store of a lock that is held. */
export interface Holding extends Claim {
  readonly lease: Lease;
}

/**
 * Gives the keys of a lock that was just acquired to the nodes that did not vote for it, as soon as each can be asked.
 * Otherwise a lock that only a bare quorum holds is lost when one of those nodes fails. This is not a vote.
 */
export function giveToRest(round: Round, holding: Holding, isQueued: boolean): void {
  const { value, lease } = holding;
  round.eachVoteAgainst((error, node) => {
    const give = (): void => {
      giveKeys(node, holding);
    };
    if (isHeld(error)) {
      // Mostly the previous holder is about to release it there. A waiter is given the key as it leaves the queue.
      if (!isQueued) void round.complete().then(give);
    } else if (!isReply(error) && lease.open) {
      node.addKey({ value, ttlMs: lease.keyTtlMs, give });
    }
  });
}

/**
 * After an extension, gives the keys again to the nodes that had lost them. It does so in a command of its own, which is
 * not a vote in the round that found them missing. Nodes that did not reply are sent the extension as soon as they can be
 * asked again.
 */
export function keepOnRest(round: Round, holding: Holding): void {
  const { value, lease } = holding;
  round.eachVoteAgainst((error, node) => {
    if (isHeld(error)) {
      void round.complete().then(() => {
        giveKeys(node, holding);
      });
    } else if (!isReply(error) && lease.open) {
      const give = (): void => {
        node.tell(extensionRequest(holding, lease.keyTtlMs), () => lease.open);
        // The key may have expired on that node meanwhile.
        giveKeys(node, holding);
      };
      node.addKey({ value, ttlMs: lease.keyTtlMs, give });
    }
  });
}

/** Gives the node each key by itself: it may hold some of them already. */
export function giveKeys(node: Node, holding: Holding): void {
  const { keys, lease, fence } = holding;
  const isWanted = (): boolean => lease.open;
  for (const [index, key] of keys.entries()) {
    const own: Holding = {
      ...holding,
      keys: [key],
      fence: fence && { ...fence, keys: fence.keys.slice(index, index + 1) },
    };
    const extendIfShort = (): void => {
      if (lease.isExtended) node.tell(extensionRequest(own, lease.keyTtlMs), isWanted);
    };
    // An earlier command may have set the key for less than an extension has granted meanwhile: one that the
    // node's client sent again in full, since the node had not cached its script.
    node.tell(giftRequest(own, lease.keyTtlMs), isWanted, extendIfShort);
  }
}
