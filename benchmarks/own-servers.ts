// Latencies against servers that the user names: `npm run bench -- --nodes URL,URL,…`.

import { randomBytes } from "node:crypto";
import { Redis } from "ioredis";
import { format } from "prettier";
import { median, progress } from "./measure.js";
import { loadPackage } from "./package-under-test.js";
import { tableInMarkdown } from "./report.js";
import { type Latencies, PERCENTILES, percentiles, STEPS, useAlone } from "./workloads.js";

const LOCKS_PER_ROUND = 50;
const TIME_LIMIT_MS = 120_000;
const REACH_LIMIT_MS = 5_000;

/** Measures one user's locks on these servers. Throws where one of them does not answer. */
export async function measureOwnServers(
  urls: readonly string[],
  rounds: number,
  packageUrl: string,
): Promise<void> {
  const keyPrefix = `redlock-quorum-bench:${randomBytes(6).toString("hex")}:`;
  const names = urls.map(withoutCredentials);
  const keys = Array.from({ length: LOCKS_PER_ROUND }, (_, index) => `${keyPrefix}${index}`);
  await assertReached(urls);
  console.log(
    `One user takes, extends and releases up to ${rounds * LOCKS_PER_ROUND} locks, one after the other, for at ` +
      `most ${TIME_LIMIT_MS / 1_000} s, on ${names.join(", ")}. The keys are ${keyPrefix}0 to ` +
      `${LOCKS_PER_ROUND - 1}, have a ttl of 30 s, and are deleted at the end; nothing else is written.`,
  );

  const { Redlock } = await loadPackage(packageUrl);
  const redlock = new Redlock(urls, { keyPrefix, retryCount: 0 });
  const measured: Latencies[] = [];
  const plan = { locks: LOCKS_PER_ROUND, extend: true, resources: (index: number) => [`${index}`] };
  try {
    // Connections, scripts and the compiler are warm after this one.
    await useAlone(redlock, plan);
    const endMs = performance.now() + TIME_LIMIT_MS;
    for (let round = 0; round < rounds && performance.now() < endMs; round++) {
      progress(`round ${round + 1} of ${rounds}`);
      measured.push(await useAlone(redlock, plan));
    }
  } finally {
    progress("");
    await redlock.quit();
    await deleteKeys(urls, keys);
  }

  const table = {
    columns: [
      { name: `${measured.length * LOCKS_PER_ROUND} locks, ${urls.length} nodes` },
      ...PERCENTILES.map(({ name }) => ({ name: `${name} ms`, digits: 3 })),
      { name: "median of the rounds’ p50s, ms", digits: 3 },
    ],
    rows: STEPS.map((step) => {
      const rounds = measured.map((latencies) => latencies[step]);
      return { name: step, figures: [...percentiles(rounds), median(rounds.map(median))] };
    }),
  };
  console.log(await format(tableInMarkdown(table), { parser: "markdown", printWidth: 100 }));
}

function withoutCredentials(url: string): string {
  const { protocol, host } = new URL(url);
  return `${protocol}//${host}`;
}

function connect(url: string): Redis {
  const client = new Redis(url, {
    lazyConnect: true,
    connectTimeout: REACH_LIMIT_MS,
    commandTimeout: REACH_LIMIT_MS,
    retryStrategy: () => null,
  });
  return client;
}

async function assertReached(urls: readonly string[]): Promise<void> {
  const refusals = await Promise.all(
    urls.map(async (url) => {
      const client = connect(url);
      // What `connect` rejects with says only that the connection is closed.
      let failure: unknown;
      client.on("error", (error) => {
        failure = error;
      });
      try {
        await client.connect();
        await client.ping();
        return [];
      } catch (error) {
        const why = failure ?? error;
        const words = why instanceof Error ? why.message : String(why);
        return [`${withoutCredentials(url)} cannot be used: ${words}`];
      } finally {
        client.disconnect();
      }
    }),
  );
  if (refusals.flat().length > 0) throw new Error(refusals.flat().join("\n"));
}

/** Those that a broken connection may have left; the rest are gone. */
async function deleteKeys(urls: readonly string[], keys: readonly string[]): Promise<void> {
  await Promise.allSettled(
    urls.map(async (url) => {
      const client = connect(url);
      client.on("error", () => undefined);
      try {
        await client.connect();
        for (const key of keys) await client.del(key);
      } finally {
        client.disconnect();
      }
    }),
  );
}
