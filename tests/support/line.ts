import { ask, type RedisServer, until } from "./servers.js";
import type { Redlock, ResourceInspection } from "../../src/index.js";
import type { WaiterInspection } from "../../src/reports/inspect.js";
import { batchScript } from "../../src/operations/batch.js";
import { joinScript } from "../../src/operations/join.js";
import { handOverScript } from "../../src/operations/hand-over.js";
import { leaveScript } from "../../src/operations/leave.js";
import { takeScript } from "../../src/operations/take.js";
import { queueKeysOf } from "../../src/waiting/queue-keys.js";
import { defined } from "./nodes.js";

/** A node that does not know the script of an attempt when the others have decided is left out, this once. */
export async function cacheQueueScripts(servers: readonly RedisServer[]): Promise<void> {
  for (const { text } of [batchScript, joinScript, takeScript, handOverScript, leaveScript]) {
    await Promise.all(servers.map(({ port }) => ask(port, ["SCRIPT", "LOAD", text])));
  }
}

/** Puts one into the line who never comes: it is called by `channel`, or polls where that is empty. */
export async function joinAbsent(
  servers: readonly RedisServer[],
  resource: string,
  id: string,
  {
    channel = "",
    graceMs = 30_000,
    lifeMs = 60_000,
    ticketMs = Date.now(),
  }: { channel?: string; graceMs?: number; lifeMs?: number; ticketMs?: number } = {},
): Promise<void> {
  const keys = defined(queueKeysOf([resource]));
  const standing = [String(ticketMs), id, channel, String(graceMs), String(lifeMs)];
  await Promise.all(
    servers.map(({ port }) =>
      ask(port, ["EVAL", joinAbsentScript, String(keys.length), ...keys, ...standing]),
    ),
  );
}

/** As the join, but the answer is a number. */
const joinAbsentScript = `local answer = (function() ${joinScript.text} end)()\nreturn #answer`;

/** What each node says of the resource. */
export async function heldOn(redlock: Redlock, resource: string): Promise<ResourceInspection[]> {
  const nodes = await redlock.inspect(resource);
  return nodes.map(({ resources: [found] }) => defined(found));
}

/** Waits until so many stand in line on every node that answers, and gives the first node's line. */
export async function untilWaiting(
  redlock: Redlock,
  resource: string,
  count: number,
): Promise<readonly WaiterInspection[]> {
  let lines: (readonly WaiterInspection[])[] = [];
  await until(
    async () => {
      const nodes = await redlock.inspect(resource);
      lines = nodes.flatMap(({ ok, resources: [found] }) => (ok ? [defined(found).waiters] : []));
      return lines.length > 0 && lines.every((line) => line.length === count);
    },
    10_000,
    () => `not ${count} wait for ${resource}, but ${lines.map(({ length }) => length).join(", ")}`,
  );
  return defined(lines[0]);
}

/** How many connections of a server listen to a channel. */
export async function listenersOn({ port }: RedisServer): Promise<number> {
  const list = await ask(port, ["CLIENT", "LIST", "TYPE", "PUBSUB"]);
  return list.split("\n").filter((line) => line !== "").length;
}

/** Who held a resource, in what order, and whether two did so together. */
export class Turns<Name> {
  readonly order: Name[] = [];
  mostAtOnce = 0;
  #holding = 0;

  /** Works as the holder. */
  async hold(name: Name, work: () => Promise<unknown> | undefined): Promise<void> {
    this.order.push(name);
    this.#holding += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.#holding);
    await work();
    this.#holding -= 1;
  }

  async take(
    name: Name,
    lock: { release(): Promise<unknown> },
    work: () => Promise<unknown> | undefined,
  ): Promise<void> {
    await this.hold(name, work);
    await lock.release();
  }
}
