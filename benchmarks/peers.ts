// The libraries that the benchmarks compare, in the shape that they share.

import { createRequire } from "node:module";
import type { Redis } from "ioredis";
import { loadPackage } from "./package-under-test.js";

export const OURS = "redlock-quorum";
export const NODE_REDLOCK_5 = "redlock 5 beta";
export type Library = typeof OURS | typeof NODE_REDLOCK_5;

export interface Locker {
  acquire(resources: string[], ttlMs: number, settings: object): Promise<HeldLock>;
}

export interface HeldLock {
  readonly attempts: readonly Promise<{ readonly votesFor: ReadonlySet<unknown> }>[];
  release(): Promise<unknown>;
}

type NodeRedlock = new (clients: readonly Redis[]) => Locker & {
  on(event: "error", listener: () => void): void;
};

/** Those that are there: the peers are dependencies of the benchmarks alone. */
export function installedLibraries(): Library[] {
  return nodeRedlock() === undefined ? [OURS] : [OURS, NODE_REDLOCK_5];
}

/** With the library's own default settings. */
export async function makeLocker(
  library: Library,
  clients: readonly Redis[],
  packageUrl: string,
): Promise<Locker> {
  if (library === OURS) {
    const { Redlock } = await loadPackage(packageUrl);
    return new Redlock(clients);
  }
  const Redlock = nodeRedlock();
  if (Redlock === undefined) throw new Error("redlock is not installed in benchmarks/");
  const redlock = new Redlock(clients);
  redlock.on("error", () => undefined);
  return redlock;
}

function nodeRedlock(): NodeRedlock | undefined {
  try {
    const module = createRequire(import.meta.url)("redlock") as { readonly default: NodeRedlock };
    return module.default;
  } catch {
    return undefined;
  }
}
