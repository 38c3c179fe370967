import { InvalidArgumentError } from "commander";
import type { Holder, NodeInspection, Redlock } from "../index.js";
import { inWords } from "../errors.js";
import { wrongCall } from "./failure.js";
import { leftInWords, printable, table } from "./report.js";

/** So many holders are named at most. */
const MOST_NAMED = 3;
export const NO_OWNER = "a lock without an owner";

export const LEAST_PERMITS = 2;
export const MOST_PERMITS = 1000;

/** One taken permit, as JSON. */
export interface PermitRow {
  /** Its number, from 0. */
  readonly permit: number;
  readonly owner: string | null;
  readonly value: string;
  readonly remainingMs: number | null;
  /** How many nodes hold it. */
  readonly nodes: number;
}

/** Parses --permits. */
export function permitCount(text: string): number {
  const count = /^\d+$/.test(text) ? Number(text) : NaN;
  if (count >= LEAST_PERMITS && count <= MOST_PERMITS) return count;
  throw new InvalidArgumentError(`Give a whole number from ${LEAST_PERMITS} to ${MOST_PERMITS}.`);
}

/** Throws a Failure for what cannot be together with --permits. */
export function checkPermits(names: readonly string[], hasOther: boolean): void {
  if (hasOther)
    throw wrongCall("--permits goes with neither --shared nor --fencing. Leave one out.");
  if (new Set(names).size === 1) return;
  throw wrongCall("--permits takes one NAME. Run one redlock inside another for several.");
}

/** Returns the permits that a quorum of the nodes says are taken. */
export function permitRows(
  holders: readonly (Holder | null)[],
  inspected: readonly NodeInspection[],
): PermitRow[] {
  return holders.flatMap((holder, permit) => {
    if (holder === null) return [];
    const { owner = null, value, remainingMs } = holder;
    const nodes = inspected.filter(({ resources }) => resources[permit]?.value === value).length;
    const leftMs = Number.isFinite(remainingMs) ? Math.round(remainingMs) : null;
    return [{ permit, owner, value, remainingMs: leftMs, nodes }];
  });
}

/** Says who has which permit. */
export function permitsTable(rows: readonly PermitRow[], nodeCount: number): string {
  const cells = rows.map(({ permit, owner, remainingMs, nodes }) => [
    String(permit),
    leftInWords(remainingMs),
    `${nodes} of ${nodeCount}`,
    printable(owner ?? NO_OWNER),
  ]);
  return table([["permit", "remaining", "nodes", "holder"], ...cells]);
}

/** Says that no permit is free, and who has them. */
export async function allTaken(redlock: Redlock, name: string, permits: number): Promise<string> {
  const holders = await redlock.holder(name, { permits }).catch(() => []);
  const rows = permitRows(holders, []);
  const by = rows.length === 0 ? "" : ` by ${namesOf(rows)}`;
  const leftMs = Math.min(...rows.map(({ remainingMs }) => remainingMs ?? Infinity));
  const first = leftMs === Infinity ? "" : `, the first for another ${inWords(leftMs)}`;
  return `taken${by}${first}`;
}

/** Names the first few of those that hold something together. */
export function namesOf(holders: readonly { readonly owner: string | null }[]): string {
  const owners = holders.slice(0, MOST_NAMED).map(({ owner }) => owner ?? NO_OWNER);
  const more = holders.length > MOST_NAMED ? `, and ${holders.length - MOST_NAMED} more` : "";
  return `${owners.join(", ")}${more}`;
}
