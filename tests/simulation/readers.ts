import type { Entry } from "../../src/testing/redis/keyspace.js";
import type { RedisModel } from "../../src/testing/redis/model.js";
import type { Reply } from "../../src/testing/redis/reply.js";
import type { SimulatedNode } from "../virtual-world/node.js";
import type { Question } from "../virtual-world/questions.js";
import { isBefore, reservationIn, type Ticket } from "./tickets.js";
import { Violation } from "./violation.js";

/** Whether a member of a readers' set is a reader's value, not the id of one that was notified. */
export function isValue(member: string): boolean {
  return !member.startsWith("notified ");
}

/** Until when each reads, or was notified; undefined if readers do not hold the key. */
export function readersOf(
  redis: RedisModel,
  nowMs: number,
  key: string,
  set: string,
): ReadonlyMap<string, number> | undefined {
  if (redis.peek(key, nowMs)?.value !== "shared") return undefined;
  const entry = redis.peek(set, nowMs);
  if (entry?.type !== "zset") return undefined;
  return new Map(
    entry.members.flatMap(({ member, score }) => (score >= nowMs ? [[member, score]] : [])),
  );
}

/** Who waits for a lock and can be told, in order; undefined where the queue is not as the library leaves it. */
function waitersOf(
  node: SimulatedNode,
  redis: RedisModel,
  [order = "", alive = ""]: readonly string[],
): (Ticket & { readonly reads: boolean; readonly hears: boolean })[] | undefined {
  const { clockMs } = node;
  const queue = redis.peek(order, clockMs);
  const entries = redis.peek(alive, clockMs);
  if (queue === undefined) return [];
  if (queue.type !== "zset" || entries?.type !== "hash") return undefined;
  const waiters = [];
  for (const { member: id, score: timeMs } of queue.members) {
    const text = entries.fields?.get(id) ?? "";
    const entry = /^\[([\d.e+]+),([\d.]+),"(.*?)"(,1)?\]$/.exec(text);
    if (entry === null) return undefined;
    const [, untilMs, , channel = "", reads] = entry;
    if (Number(untilMs) < clockMs) continue;
    const hears = channel === "" || node.listenerCount(channel) > 0;
    waiters.push({ timeMs, id, reads: reads !== undefined, hears });
  }
  return waiters;
}

/** Whether somebody who can be told waits for a lock, in a line that is as the library's own commands leave it. */
export function isAwaited(
  node: SimulatedNode,
  redis: RedisModel,
  queueKeys: readonly string[] = [],
): boolean {
  return waitersOf(node, redis, queueKeys)?.some(({ hears }) => hears) ?? false;
}

/** Of a reader that a node hands a key to: every reader up to the next writer is told with it. */
export function checkTogether(
  node: SimulatedNode,
  redis: RedisModel,
  { queueKeys = [], ticket }: Question,
  index: number,
  after: Entry | undefined,
  waiting: ReturnType<typeof waitersOf>,
): void {
  const reserved = after && reservationIn(after.value);
  const first = waiting?.find(({ id }) => id === reserved?.id);
  if (first?.reads !== true) return;
  const left = waitersOf(node, redis, queueKeys.slice(2 * index, 2 * index + 2));
  const writer = waiting?.find(
    (waiter) => waiter.hears && !waiter.reads && isBefore(first, waiter),
  );
  const passing = waiting?.find(
    ({ id, timeMs, reads, hears }) =>
      reads &&
      hears &&
      id !== ticket?.id &&
      writer !== undefined &&
      isBefore(writer, { id, timeMs }) &&
      left?.every((waiter) => waiter.id !== id) === true,
  );
  if (passing !== undefined) {
    throw new Violation(
      "readers run together",
      `${node.name} told ${passing.id} that it is next, past a writer that waits`,
    );
  }
  // A writer stops them also while it cannot be told: it may attempt by itself.
  const next = left?.find(({ hears, reads, id }) => (hears || !reads) && id !== ticket?.id);
  if (next?.reads === true && isBefore(first, next)) {
    throw new Violation(
      "readers run together",
      `${node.name} told ${first.id} that it is next, and not ${next.id}, which reads as well`,
    );
  }
}

/** What a command may do to one lock as the node has it. */
export function watchQueue(
  node: SimulatedNode,
  redis: RedisModel,
  { queueKeys = [], keys }: Question,
): ReturnType<typeof waitersOf>[] {
  return keys.map((_, index) => waitersOf(node, redis, queueKeys.slice(2 * index, 2 * index + 2)));
}

/**
 * On the server, for a reader's command: it changes no other lock, lets no reader in beside a writer or past one that
 * waits, keeps the marker as long as the last reader, and not longer.
 */
export function checkReading(
  node: SimulatedNode,
  redis: RedisModel,
  question: Question,
  run: () => Reply,
): Reply {
  const { keys, sets } = question;
  const { clockMs } = node;
  const waiting = watchQueue(node, redis, question);
  const before = keys.map((key) => redis.peek(key, clockMs));
  const readers = keys.map((key, index) => readersOf(redis, clockMs, key, sets[index] ?? ""));
  const reply = run();
  for (const [index, key] of keys.entries()) {
    const look: Look = {
      key,
      before: before[index],
      after: redis.peek(key, clockMs),
      readersBefore: readers[index],
      readersAfter: readersOf(redis, clockMs, key, sets[index] ?? ""),
      waiting: waiting[index],
    };
    checkKept(node, question, look);
    checkMarker(node, look);
    if (question.kind === "acquire") checkEntry(node, question, look, reply === keys.length);
    if (question.kind === "extend") checkExtension(node, question, look, reply === keys.length);
    if (question.kind === "release") checkExit(node, question, look, index);
    if (look.after !== look.before) {
      checkTogether(node, redis, question, index, look.after, look.waiting);
    }
  }
  return reply;
}

interface Look {
  readonly key: string;
  readonly before: Entry | undefined;
  readonly after: Entry | undefined;
  readonly readersBefore: ReadonlyMap<string, number> | undefined;
  readonly readersAfter: ReadonlyMap<string, number> | undefined;
  readonly waiting: ReturnType<typeof waitersOf>;
}

/** Everybody else's lock stays. */
function checkKept(
  node: SimulatedNode,
  { kind, value, ticket }: Question,
  { key, before, after, readersBefore, readersAfter }: Look,
): void {
  const reserved = before && reservationIn(before.value);
  if (before !== undefined && readersBefore === undefined && reserved === undefined) {
    if (before === after) return;
    throw new Violation(
      "only the owner",
      `a reader's command for ${value} changed ${key} of ${before.value} on ${node.name}`,
    );
  }
  if (reserved !== undefined && kind !== "line" && before !== after && ticket === undefined) {
    throw new Violation(
      "a reservation is its ticket's",
      `${kind} of ${value} changed ${key}, reserved for ${reserved.id}, on ${node.name}`,
    );
  }
  for (const [other, untilMs] of readersBefore ?? []) {
    const isItsOwn = kind === "release" && other === value;
    if (!isValue(other) || isItsOwn || (readersAfter?.get(other) ?? 0) >= untilMs) continue;
    throw new Violation(
      "a reader is kept",
      `${kind} of ${value} ended ${other} on ${key}, or brought its end nearer, on ${node.name}`,
    );
  }
}

/** The marker ends with the last reader. */
function checkMarker({ name }: SimulatedNode, { key, before, after, readersAfter }: Look): void {
  if (readersAfter === undefined || after === undefined || after === before) return;
  const latestMs = Math.max(0, ...readersAfter.values());
  if (after.expiresAtMs < latestMs) {
    throw new Violation(
      "the marker lasts",
      `${key} on ${name} ends ${latestMs - after.expiresAtMs} ms before its last reader`,
    );
  }
  if (after.expiresAtMs > latestMs + 1) {
    throw new Violation(
      "the marker ends",
      `${key} on ${name} ends ${after.expiresAtMs - latestMs} ms after its last reader`,
    );
  }
}

function checkEntry(
  node: SimulatedNode,
  { value, ttlMs, ticket, queueKeys = [] }: Question,
  { key, readersBefore, readersAfter, waiting }: Look,
  isGranted: boolean,
): void {
  if (!isGranted) {
    if (!readersAfter?.has(value) || readersBefore?.has(value) === true) return;
    throw new Violation("all or none", `${value} reads ${key} on ${node.name}, which refused it`);
  }
  if ((readersAfter?.get(value) ?? 0) < node.clockMs + ttlMs) {
    throw new Violation(
      "a reader is kept",
      `${value} was let into ${key} on ${node.name}, and is not there`,
    );
  }
  // A reader that a quorum has let in is given to the others without a look at their queues.
  if (queueKeys.length === 0) return;
  const passed = waiting?.find((waiter) => !waiter.reads && (!ticket || isBefore(waiter, ticket)));
  if (passed !== undefined) {
    throw new Violation(
      "first come",
      `${value} passed ${passed.id}, which waits for ${key} on ${node.name}`,
    );
  }
}

function checkExtension(
  node: SimulatedNode,
  { value, ttlMs }: Question,
  { key, readersBefore, readersAfter }: Look,
  isGranted: boolean,
): void {
  if (!isGranted) return;
  if (readersBefore?.has(value) !== true) {
    throw new Violation(
      "only the owner",
      `${node.name} extended ${value} on ${key}, which it did not have`,
    );
  }
  if ((readersAfter?.get(value) ?? 0) < node.clockMs + ttlMs) {
    throw new Violation(
      "a reader is kept",
      `${value} on ${key} was not extended on ${node.name}, as was said`,
    );
  }
}

function checkExit(
  node: SimulatedNode,
  { value, queueKeys = [] }: Question,
  { key, after, readersBefore, readersAfter, waiting }: Look,
  index: number,
): void {
  if (readersBefore === undefined) return;
  if (readersAfter?.has(value) === true) {
    throw new Violation("released", `${value} still reads ${key} on ${node.name}`);
  }
  const isLast = [...readersBefore.keys()].every((member) => member === value);
  if (!isLast) return;
  if (after?.value === "shared") {
    throw new Violation(
      "the last reader frees",
      `${value} left the marker of ${key} on ${node.name}`,
    );
  }
  const handsOver = queueKeys.length > 2 * index;
  if (handsOver && after === undefined && waiting?.some(({ hears }) => hears) === true) {
    throw new Violation(
      "the last reader hands over",
      `${value} freed ${key} on ${node.name}, though somebody waits`,
    );
  }
}
