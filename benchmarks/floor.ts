// What no lock library over a client can be faster than: the same commands, sent to every node at
// once, done when a majority of them has answered with yes.

import { randomBytes } from "node:crypto";
import type { Redis } from "ioredis";
import { extendScript } from "../src/operations/extend.js";
import { releaseScript } from "../src/operations/release.js";
import type { HeldLock, Locker } from "./locker.js";

/** As they are when a library has been in use for a while; a server that restarts forgets them. */
export async function loadScripts(clients: readonly Redis[]): Promise<void> {
  for (const client of clients) {
    await client.script("LOAD", extendScript.text);
    await client.script("LOAD", releaseScript.text);
  }
}

/** What the floor needs of a client library. */
export interface BareClient {
  set(key: string, value: string, ttlMs: number): Promise<unknown>;
  /** Runs a script that the server has cached. */
  run(sha1: string, key: string, ...args: (string | number)[]): Promise<unknown>;
}

export function bareIoredis(client: Redis): BareClient {
  return {
    set: (key, value, ttlMs) => client.set(key, value, "PX", ttlMs, "NX"),
    run: (sha1, key, ...args) => client.evalsha(sha1, 1, key, ...args),
  };
}

export function floorOf(clients: readonly BareClient[]): Locker["acquire"] {
  const quorum = Math.floor(clients.length / 2) + 1;

  function ask(yes: unknown, send: (client: BareClient) => Promise<unknown>): Promise<void> {
    return new Promise((resolve, reject) => {
      let votesFor = 0;
      let votesAgainst = 0;
      const refuse = (why: unknown): void => {
        if (++votesAgainst > clients.length - quorum) reject(new Error(String(why)));
      };
      for (const client of clients) {
        send(client).then((reply) => {
          if (reply !== yes) refuse(`A node answered ${String(reply)}.`);
          else if (++votesFor === quorum) resolve();
        }, refuse);
      }
    });
  }

  return async ([key = ""], ttlMs) => {
    const value = randomBytes(16).toString("hex");
    await ask("OK", (client) => client.set(key, value, ttlMs));
    const lock: HeldLock = {
      extend: async (newTtlMs) => {
        await ask(1, (client) => client.run(extendScript.sha1, key, value, newTtlMs));
        return lock;
      },
      release: () => ask(1, (client) => client.run(releaseScript.sha1, key, value)),
    };
    return lock;
  };
}
