import { invalidType } from "../errors.js";
import { Lock, type LockInside, partsOf } from "../lock.js";
import type { Node } from "../nodes/node.js";
import { History } from "../quorum/history.js";
import { checkJson, keysOf, slotKeysOf } from "../input.js";
import { fenceKeysOf } from "./fence.js";
import { Handle } from "./handle.js";
import type { Instance } from "./instance.js";
import { Lease } from "./lease.js";

/** Makes a lock from the data of another process. Throws a TypeError if the data is invalid. */
export function adopt(instance: Instance, json: unknown): Lock {
  const { issuer, nodes, settings, environment, tokens } = instance;
  const { keyPrefix, queue } = settings;
  const { resources, value, ttl, expiration, fence, shared, permit } = checkJson(json, keyPrefix);
  const named = keysOf(resources, keyPrefix);
  const keys = permit === undefined ? named : slotKeysOf(named, permit + 1, "adopt").slice(permit);
  if (fence !== undefined) tokens.saw(fence, environment.now().wallMs);
  const fenced =
    fence === undefined ? undefined : { keys: fenceKeysOf(keys, "adopt"), token: fence };
  const lease = Lease.adopted(environment);
  const makeLock = (handle: Handle): Lock =>
    new Lock({
      redlock: issuer,
      nodes,
      resources,
      keys,
      value,
      ttlMs: ttl,
      keyPrefix,
      queue,
      lease,
      handle,
      history: new History(0),
      shared,
      fence: fenced,
      permit,
      statedExpirationMs: expiration,
    });
  return new Handle(instance, lease, makeLock).lock;
}

/**
 * Returns the parts of a lock that belongs to this instance's nodes and has its key prefix. Throws a TypeError for any
 * other lock.
 */
export function ownPartsOf(
  { issuer, settings, nodes }: Instance,
  lock: Lock,
  call: string,
): LockInside {
  const parts = partsOf(lock, call);
  if (parts.redlock === issuer) return parts;
  if (parts.keyPrefix !== settings.keyPrefix) {
    throw invalidType(
      `${call}() needs a lock with this Redlock's keyPrefix, but this lock has another one. ` +
        "Call it on the Redlock that acquired the lock, or on one with the same keyPrefix.",
    );
  }
  // The order of the nodes does not matter.
  const isOurs = (node: Node): boolean => parts.nodes.some((other) => node.reachesSameKeys(other));
  if (parts.nodes.length !== nodes.length || !nodes.every(isOurs)) {
    throw invalidType(
      `${call}() needs a lock on this Redlock's nodes, but this lock is on other nodes. ` +
        "Call it on the Redlock that acquired it, or on one with the same nodes.",
    );
  }
  return parts;
}
