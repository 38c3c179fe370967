// Runs the examples of docs/fencing.md as they stand there, with holders whose locks are over.

import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { transform } from "esbuild";
import { Redis } from "ioredis";
import { type RedisServer, startServer, until } from "../support/servers.js";
import { type Lock, Redlock } from "../../src/index.js";
import { fresh, rejection } from "../support/nodes.js";
import { type ObjectStore, startObjectStore } from "../support/object-store.js";
import { type Postgres, startPostgres } from "../support/postgres.js";
import { useServers } from "../support/use-servers.js";

interface Examples {
  setBalance(database: Postgres, account: string, balance: number, lock: Lock): Promise<void>;
  setValue(redis: Redis, key: string, value: string, lock: Lock): Promise<void>;
  putObject(url: string, body: string, lock: Lock): Promise<void>;
}

const LATER = "has a later holder";
const guide = readFileSync(new URL("../../docs/fencing.md", import.meta.url), "utf8");

let redlock: Redlock;
const servers = useServers(3, { beforeStop: () => redlock.quit() });
let examples: Examples;

beforeAll(async () => {
  const urls = servers.map(({ url }) => url);
  redlock = new Redlock(urls, { fencing: true, nodeTimeout: 5000 });
  examples = await examplesOf(guide);
});

/** What the document's programs export. */
async function examplesOf(text: string): Promise<Examples> {
  const programs = [...text.matchAll(/^```ts\n([^]*?)^```$/gm)].flatMap(([, program = ""]) =>
    program.includes("export ") ? [program] : [],
  );
  const directory = await mkdtemp(join(tmpdir(), "redlock-quorum-examples-"));
  const all: Record<string, unknown> = {};
  for (const [index, program] of programs.entries()) {
    const { code } = await transform(program, { loader: "ts", format: "esm" });
    const file = join(directory, `example-${index}.mjs`);
    await writeFile(file, code);
    Object.assign(all, await import(pathToFileURL(file).href));
  }
  await rm(directory, { recursive: true });
  expect(Object.keys(all).sort()).toEqual(["putObject", "setBalance", "setValue"]);
  return all as unknown as Examples;
}

/** A holder that was paused until its lock was over, and the one that came after it. */
async function staleAndPresent(): Promise<{ stale: Lock; present: Lock }> {
  const resource = fresh();
  const stale = await redlock.acquire(resource, 100);
  const present = await redlock.acquire(resource, 60_000, { retryCount: -1, retryDelay: 20 });
  await until(
    () => !stale.valid,
    5000,
    () => "the first lock does not end",
  );
  return { stale, present };
}

describe("the example with a PostgreSQL row", () => {
  let postgres: Postgres;

  beforeAll(async () => {
    postgres = await startPostgres();
    const table = /`(CREATE TABLE[^`]*)`/.exec(guide)?.[1] ?? "no table";
    await postgres.query(table.replaceAll("\n", " "));
  });

  afterAll(() => postgres.stop());

  const balanceOf = (account: string): Promise<string> =>
    postgres.read(`SELECT balance FROM accounts WHERE id = '${account}'`);

  async function untilCount(count: number, rows: string): Promise<void> {
    await until(
      async () => Number(await postgres.read(`SELECT count(*) FROM ${rows}`)) === count,
      5000,
      () => `there are not ${count} of ${rows}`,
    );
  }

  test("refuses the write of a holder whose lock is over once the next has written", async () => {
    await postgres.query("INSERT INTO accounts (id, balance) VALUES ($1, $2)", ["a", 1]);
    const { stale, present } = await staleAndPresent();
    await examples.setBalance(postgres, "a", 2, present);
    await expect(examples.setBalance(postgres, "a", 3, stale)).rejects.toThrow(LATER);
    expect(await balanceOf("a")).toBe("2");
    await examples.setBalance(postgres, "a", 4, present);
    expect(await balanceOf("a")).toBe("4");
    await present.release();
  });

  test("refuses it also where both write at once and the later one commits first", async () => {
    await postgres.query("INSERT INTO accounts (id, balance) VALUES ($1, $2)", ["b", 1]);
    const { stale, present } = await staleAndPresent();
    // The later holder's transaction waits for this session's lock before it commits.
    const gate = postgres.read("SELECT pg_advisory_lock(1), pg_sleep(600)").catch(String);
    await untilCount(1, "pg_locks WHERE locktype = 'advisory' AND granted");
    const later = postgres.read(
      "BEGIN; UPDATE accounts SET balance = 2, fence = " +
        `${present.fence} WHERE id = 'b'; SELECT pg_advisory_xact_lock(1); COMMIT`,
    );
    await untilCount(1, "pg_locks WHERE locktype = 'advisory' AND NOT granted");
    const refused = rejection(examples.setBalance(postgres, "b", 3, stale));
    await untilCount(2, "pg_stat_activity WHERE wait_event_type = 'Lock'");
    await postgres.read(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
    );
    expect((await refused).message).toMatch(LATER);
    await Promise.all([gate, later]);
    expect(await balanceOf("b")).toBe("2");
    await present.release();
  });
});

describe("the example with a key in another Redis", () => {
  let server: RedisServer;
  let redis: Redis;

  beforeAll(async () => {
    server = await startServer();
    redis = new Redis(server.url);
  });

  afterAll(async () => {
    redis.disconnect();
    await server.stop();
  });

  test("refuses the write of a holder whose lock is over once the next has written", async () => {
    const { stale, present } = await staleAndPresent();
    await examples.setValue(redis, "key", "first", stale);
    await examples.setValue(redis, "key", "second", present);
    await expect(examples.setValue(redis, "key", "late", stale)).rejects.toThrow(LATER);
    await examples.setValue(redis, "key", "third", present);
    expect(await redis.hget("key", "value")).toBe("third");
    expect(await redis.hget("key", "fence")).toBe(String(present.fence));
    await present.release();
  });
});

describe("the example with an object store", () => {
  let store: ObjectStore;
  const stored = ({ fence }: Lock, content: string): string => JSON.stringify({ fence, content });

  beforeAll(async () => {
    store = await startObjectStore();
  });

  afterAll(() => store.close());

  test("refuses the write of a holder whose lock is over once the next has written", async () => {
    const { stale, present } = await staleAndPresent();
    const url = `${store.url}/report`;
    await examples.putObject(url, "first", stale);
    await examples.putObject(url, "second", present);
    await expect(examples.putObject(url, "late", stale)).rejects.toThrow(LATER);
    await examples.putObject(url, "third", present);
    expect(store.read("/report")).toBe(stored(present, "third"));
    await present.release();
  });

  test("refuses a lock without a token", async () => {
    const lock = await redlock.acquire(fresh(), 60_000, { fencing: false });
    await expect(examples.putObject(`${store.url}/none`, "x", lock)).rejects.toThrow("no token");
    expect(store.read("/none")).toBeUndefined();
    await lock.release();
  });

  test.each(["/new", "/old", "/same"])(
    "refuses it also where the next writes %s between the look and the write",
    async (path) => {
      const { stale, present } = await staleAndPresent();
      if (path === "/old") store.put(path, JSON.stringify({ fence: 1, content: "old" }));
      if (path === "/same") await examples.putObject(store.url + path, "the same", stale);
      store.beforePut = () => {
        store.put(path, stored(present, "the same"));
      };
      const { refused } = store;
      await expect(examples.putObject(store.url + path, "late", stale)).rejects.toThrow(LATER);
      expect(store.refused).toBe(refused + 1);
      expect(store.read(path)).toBe(stored(present, "the same"));
      await present.release();
    },
  );
});
