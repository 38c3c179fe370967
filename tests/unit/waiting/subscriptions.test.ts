import { describe, expect, it } from "@jest/globals";
import type { ChannelListener } from "../../../src/clients/connection.js";
import { type Client, played, rejection, type Stage } from "../../virtual-world/stage.js";

/** No retry timer helps a waiter along. */
const SETTINGS = { queue: true, retryCount: -1, retryDelay: 500_000, retryJitter: 0 };
const TTL_MS = 20_000;
const LONG_MS = 1_000_000;

/** A subscription as the test plays it. */
interface Played {
  readonly node: number;
  readonly listener: ChannelListener;
  isClosed: boolean;
  /** Whether its messages come through. */
  hears: boolean;
}

/** Plays the client's subscriptions: none is confirmed by itself. */
function playSubscriptions({ links }: Client): Played[] {
  const all: Played[] = [];
  for (const [node, link] of links.entries()) {
    link.subscribe = (channel, listener) => {
      const subscription = { node, listener, isClosed: false, hears: true };
      all.push(subscription);
      const hear = (message: string): void => {
        if (subscription.hears) listener.onMessage(message);
      };
      link.node.listeners.set(channel, new Set([hear]));
      return {
        close: () => {
          subscription.isClosed = true;
          subscription.hears = false;
        },
      };
    };
  }
  return all;
}

function confirm({ listener }: Played): void {
  listener.onOpen();
}

function replyError(message: string): Error {
  return Object.assign(new Error(message), { name: "ReplyError" });
}

/** By which channel the first in line is to be called, for each node; empty for one who polls. */
function channels({ servers }: Stage): unknown[] {
  return servers.map(({ redis, clockMs }) => {
    const [id] = redis.execute("zrange", ["{r}:redlock:line", "0", "0"], clockMs) as string[];
    const said = redis.execute("hget", ["{r}:redlock:alive", id ?? ""], clockMs);
    return (JSON.parse(String(said)) as unknown[] | null)?.at(2);
  });
}

function areCalled(stage: Stage): boolean[] {
  return channels(stage).map((channel) => channel !== "");
}

const ALL: readonly boolean[] = [true, true, true, true, true];
const NONE: readonly boolean[] = [false, false, false, false, false];

/** One that holds the lock for long, and one that waits for it. */
async function waiting(
  stage: Stage,
  isConfirmed = true,
): Promise<{ client: Client; subscriptions: Played[]; end: () => Promise<void> }> {
  stage.occupy([0, 1, 2, 3, 4], "r", LONG_MS);
  const client = await stage.connect(SETTINGS);
  const subscriptions = playSubscriptions(client);
  const over = new AbortController();
  const given = client.redlock.acquire("r", TTL_MS, { signal: over.signal }).catch(() => undefined);
  await stage.sleep(4);
  expect(subscriptions.map(({ node }) => node)).toEqual([0, 1, 2, 3, 4]);
  if (isConfirmed) {
    subscriptions.forEach(confirm);
    await stage.sleep(20);
    expect(areCalled(stage)).toEqual(ALL);
  }
  const end = async (): Promise<void> => {
    over.abort(new Error("over"));
    await given;
  };
  return { client, subscriptions, end };
}

function complaints({ errors }: Client): string[] {
  return errors.filter((error) => error.includes("cannot notify callers"));
}

describe("a waiter whose subscriptions", () => {
  it(
    "are lost polls, until they are confirmed and a message came through",
    played(async (stage) => {
      const { subscriptions, client, end } = await waiting(stage);
      for (const subscription of subscriptions) {
        subscription.hears = false;
        subscription.listener.onLoss();
      }
      await stage.sleep(10);
      expect(areCalled(stage)).toEqual(NONE);
      subscriptions.forEach(confirm);
      await stage.sleep(100);
      expect(areCalled(stage)).toEqual(NONE);
      for (const subscription of subscriptions) {
        subscription.hears = true;
        subscription.listener.onMessage("");
      }
      await stage.sleep(1000);
      expect(areCalled(stage)).toEqual(ALL);
      expect(complaints(client)).toEqual([]);
      await end();
    }),
  );

  it(
    "are heard one after the other is called by each from then on, and kept no key for as one who polls",
    played(async (stage) => {
      const { subscriptions, end } = await waiting(stage, false);
      subscriptions.slice(0, 3).forEach(confirm);
      await stage.sleep(20);
      expect(areCalled(stage)).toEqual([true, true, true, false, false]);
      subscriptions.slice(3).forEach(confirm);
      await stage.sleep(20);
      expect(areCalled(stage)).toEqual(ALL);
      await end();
    }),
  );

  it(
    "break while the nodes confirm them is called as soon as they are made again",
    played(async (stage) => {
      const { subscriptions, client, end } = await waiting(stage, false);
      for (const { listener } of subscriptions) listener.onLoss(new Error("Connection is closed."));
      subscriptions.forEach(confirm);
      await stage.sleep(20);
      expect(areCalled(stage)).toEqual(ALL);
      expect(complaints(client)).toEqual([]);
      await end();
    }),
  );

  it(
    "the nodes cannot confirm for the moment has them made anew, and complains of nothing",
    played(async (stage) => {
      const { subscriptions, client, end } = await waiting(stage, false);
      for (const { listener } of subscriptions) listener.onLoss(replyError("BUSY Redis is busy"));
      await stage.sleep(7000);
      expect(subscriptions.map(({ isClosed }) => isClosed)).toEqual([...ALL, ...NONE]);
      subscriptions.slice(5).forEach(confirm);
      await stage.sleep(20_000);
      expect(areCalled(stage)).toEqual(ALL);
      expect(complaints(client)).toEqual([]);
      await end();
    }),
  );

  it(
    "the nodes refuse polls, complains once of each node, and tries again after a minute",
    played(async (stage) => {
      const { subscriptions, client, end } = await waiting(stage, false);
      const refuse = ({ listener }: Played): void => {
        listener.onLoss(replyError("NOPERM this user has no permissions"));
      };
      subscriptions.forEach(refuse);
      await stage.sleep(20);
      expect(areCalled(stage)).toEqual(NONE);
      expect(complaints(client)).toHaveLength(5);
      await stage.sleep(50_000);
      expect(subscriptions).toHaveLength(5);
      await stage.sleep(13_000);
      expect(subscriptions).toHaveLength(10);
      subscriptions.slice(5).forEach(refuse);
      await stage.sleep(63_000);
      expect(complaints(client)).toHaveLength(5);
      expect(subscriptions).toHaveLength(15);
      subscriptions.slice(10).forEach(confirm);
      await stage.sleep(200_000);
      expect(areCalled(stage)).toEqual(ALL);
      await end();
    }),
  );

  it(
    "cannot be made, because its client throws, polls, and complains of the reason",
    played(async (stage) => {
      stage.occupy([0, 1, 2, 3, 4], "r", LONG_MS);
      const client = await stage.connect(SETTINGS);
      for (const link of client.links) {
        link.subscribe = () => {
          throw new Error("it has no double");
        };
      }
      const over = new AbortController();
      const given = rejection(client.redlock.acquire("r", TTL_MS, { signal: over.signal }));
      await stage.sleep(20);
      expect(areCalled(stage)).toEqual(NONE);
      expect(complaints(client)).toHaveLength(5);
      for (const complaint of complaints(client)) expect(complaint).toContain("it has no double");
      over.abort(new Error("over"));
      await given;
    }),
  );

  it(
    "are confirmed, but who may not publish, polls, and complains once of each node",
    played(async (stage) => {
      for (const server of stage.servers) server.refuses = "publish";
      const { subscriptions, client, end } = await waiting(stage, false);
      subscriptions.forEach(confirm);
      await stage.sleep(20);
      expect(areCalled(stage)).toEqual(NONE);
      expect(complaints(client)).toHaveLength(5);
      for (const complaint of complaints(client)) expect(complaint).toMatch(/NOPERM.*PUBLISH/);
      expect(subscriptions.map(({ isClosed }) => isClosed)).toEqual(ALL);
      await end();
    }),
  );

  it(
    "died without a word polls after two seconds, and has them made anew",
    played(async (stage) => {
      const { subscriptions, client, end } = await waiting(stage);
      for (const subscription of subscriptions) subscription.hears = false;
      await stage.sleep(2100);
      expect(areCalled(stage)).toEqual(NONE);
      expect(subscriptions.map(({ isClosed }) => isClosed)).toEqual([...ALL, ...NONE]);
      subscriptions.slice(5).forEach(confirm);
      await stage.sleep(10_000);
      expect(areCalled(stage)).toEqual(ALL);
      expect(subscriptions).toHaveLength(10);
      expect(complaints(client)).toEqual([]);
      await end();
    }),
  );

  it(
    "belong to nodes that hang keeps them",
    played(async (stage) => {
      const { subscriptions, end } = await waiting(stage);
      stage.freeze([0, 1], 8000);
      await stage.sleep(10_000);
      expect(subscriptions).toHaveLength(5);
      expect(areCalled(stage)).toEqual(ALL);
      await end();
    }),
  );

  it(
    "are not probed any more once nobody waits",
    played(async (stage) => {
      const { end } = await waiting(stage);
      await end();
      await stage.sleep(6000);
      const endMs = stage.nowMs;
      await stage.sleep(10_000);
      expect(stage.questions("publish", endMs)).toEqual([]);
    }),
  );
});
