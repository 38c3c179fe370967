/** What a lock's key holds while readers have it: a marker, so that `SET NX` and every other library find the key taken. */
export const SHARED = "shared";

const WITH_OWNER = /^[0-9a-f]{32} ([!-~]+)$/;

/** Returns the value of a lock: random digits, by which the nodes know it, and its owner, for people. */
export function lockValue(random: string, owner: string): string {
  return owner === "" ? random : `${random} ${owner}`;
}

/** Returns the owner in a lock's value; undefined if it has none, as that of another library. */
export function ownerOf(value: string): string | undefined {
  return WITH_OWNER.exec(value)?.[1];
}
