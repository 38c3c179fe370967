import { invalidType } from "../errors.js";
import { Lock, type LockParts, partsOf } from "../lock.js";
import type { Node } from "../nodes/node.js";
import { History } from "../quorum/history.js";
import { checkJson } from "../settings.js";
import type { Instance } from "./call.js";
import { fenceKeysOf } from "./fence.js";
import { Lease } from "./lease.js";

/** Makes a lock of another's data; throws a TypeError for what is none. */
export function adopt(instance: Instance, json: unknown): Lock {
  const { issuer, nodes, settings, environment, tokens } = instance;
  const { keyPrefix, queue } = settings;
  const { resources, value, ttl, expiration, fence } = checkJson(json, keyPrefix);
  const keys = resources.map((resource) => keyPrefix + resource);
  if (fence !== undefined) tokens.saw(fence, environment.now().wallMs);
  return new Lock({
    redlock: issuer,
    nodes,
    resources,
    keys,
    value,
    ttlMs: ttl,
    keyPrefix,
    queue,
    lease: Lease.adopted(environment),
    history: new History(0),
    fence: fence === undefined ? undefined : { keys: fenceKeysOf(keys, "adopt"), token: fence },
    statedExpirationMs: expiration,
  });
}

/**
 * What is behind a lock whose keys are named as this instance's are, and are on its nodes; throws a TypeError for
 * another lock.
 */
export function ownPartsOf(
  { issuer, settings, nodes }: Instance,
  lock: Lock,
  call: string,
): LockParts {
  const parts = partsOf(lock, call);
  if (parts.redlock === issuer) return parts;
  if (parts.keyPrefix !== settings.keyPrefix) {
    throw invalidType(
      `${call}() needs a lock of this Redlock's own keyPrefix, but this one's keys have other names. ` +
        "Call it on the Redlock that acquired the lock, or on one with the same keyPrefix.",
    );
  }
  // In whatever order.
  const isOurs = (node: Node): boolean => parts.nodes.some((other) => node.reachesSameKeys(other));
  if (parts.nodes.length !== nodes.length || !nodes.every(isOurs)) {
    throw invalidType(
      `${call}() needs a lock on this Redlock's own nodes, but this one is on other nodes. ` +
        "Call it on the Redlock that acquired it, or on one with the same nodes.",
    );
  }
  return parts;
}
