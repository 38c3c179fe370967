// What a service does with redlock-quorum, step by step, on real servers that freeze and die. It runs in Node, Bun
// and Deno, prints one line for each step, and has to end by itself.
//
//   program.js URL=PID URL=PID …      five empty servers, which it may stop and kill
//   program.js --bun URL=PID …        with clients of Bun's own in place of URLs

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { Redlock } from "redlock-quorum";

// Long, so that a busy machine makes no node silent.
const TTL_MS = 30_000;
const withBunClients = process.argv[2] === "--bun";
const servers = process.argv.slice(withBunClients ? 3 : 2).map((argument) => {
  const [url, pid] = argument.split("=");
  return { url, pid: Number(pid) };
});
const urls = servers.map(({ url }) => url);
const minority = servers.slice(0, 1);
const majority = servers.slice(0, 3);

const { RedisClient } = withBunClients ? await import("bun") : {};
const entries = () => (withBunClients ? urls.map((url) => new RedisClient(url)) : urls);
const redlock = new Redlock(entries());
const other = new Redlock(entries());

async function frozen(some, action) {
  for (const { pid } of some) process.kill(pid, "SIGSTOP");
  try {
    await action();
  } finally {
    for (const { pid } of some) process.kill(pid, "SIGCONT");
  }
}

/** Waits until the condition holds; the limit is against hanging. */
async function until(condition) {
  const endMs = performance.now() + 60_000;
  while (!(await condition())) {
    assert(performance.now() < endMs, `never came true: ${condition}`);
    await sleep(10);
  }
}

/** Measures by how much the machine delays a timer, in ms: no promise holds against that. */
function measureLateness() {
  let [lastMs, mostMs] = [performance.now(), 0];
  const timer = setInterval(() => {
    const nowMs = performance.now();
    mostMs = Math.max(mostMs, nowMs - lastMs - 10);
    lastMs = nowMs;
  }, 10);
  return {
    end: () => {
      clearInterval(timer);
      return mostMs;
    },
  };
}

async function rejection(promise) {
  const error = await promise.then(
    () => undefined,
    (reason) => reason,
  );
  assert(error !== undefined, "expected a rejection");
  return error;
}

async function held(resource) {
  const nodes = await redlock.inspect(resource);
  return nodes.map(({ resources }) => resources?.[0]?.value ?? null);
}

async function waitersOf(resource) {
  const nodes = await redlock.inspect(resource);
  return Math.max(...nodes.map(({ resources }) => resources?.[0]?.waiters.length ?? 0));
}

const steps = {
  "acquire takes the lock on every node": async () => {
    const lock = await redlock.acquire("one", TTL_MS);
    assert.match(lock.value, /^[0-9a-f]{32} \S+\/\d+$/);
    await until(async () => (await held("one")).every((value) => value === lock.value));
    await lock.release();
    await until(async () => (await held("one")).every((value) => value === null));
  },

  "another client does not get a lock that is held": async () => {
    const lock = await redlock.acquire("held", TTL_MS);
    assert.equal(await other.tryAcquire("held", TTL_MS), null);
    await lock.release();
    await (await other.acquire("held", TTL_MS)).release();
  },

  "extend moves the expiry, and not after a release": async () => {
    const lock = await redlock.acquire("extended", TTL_MS);
    const before = lock.expiration;
    await lock.extend(6 * TTL_MS);
    assert(lock.expiration > before + 4 * TTL_MS);
    await lock.release();
    assert.equal((await rejection(lock.extend(TTL_MS))).code, "ERR_REDLOCK_EXPIRED");
  },

  "several resources are locked all or none": async () => {
    const lock = await redlock.acquire(["a", "b"], TTL_MS);
    assert.equal(await other.tryAcquire(["b", "c"], TTL_MS), null);
    await lock.release();
    await until(async () => (await held("c")).every((value) => value === null));
    await (await other.acquire(["b", "c"], TTL_MS)).release();
  },

  "using extends the lock while the function runs": async () => {
    const often = { automaticExtensionThreshold: 5000, nodeTimeout: 1000 };
    const result = await redlock.using("used", 6000, often, async (signal, lock) => {
      const seen = new Set();
      await until(() => seen.add(lock.expiration).size > 3 || signal.aborted);
      signal.throwIfAborted();
      return "done";
    });
    assert.equal(result, "done");
    await until(async () => (await held("used")).every((value) => value === null));
  },

  "an error of the function passes through using": async () => {
    const error = new Error("mine");
    const thrown = await rejection(
      redlock.using("thrown", TTL_MS, () => {
        throw error;
      }),
    );
    assert.equal(thrown, error);
    await (await other.acquire("thrown", TTL_MS)).release();
  },

  "waiters get the lock in the order in which they came": async () => {
    const first = await redlock.acquire("queue", TTL_MS);
    const order = [];
    const clients = [new Redlock(entries()), new Redlock(entries()), new Redlock(entries())];
    const waiting = [];
    for (const [index, client] of clients.entries()) {
      waiting.push(
        client.using("queue", TTL_MS, { acquireTimeout: 60_000 }, () => order.push(index)),
      );
      await until(async () => (await waitersOf("queue")) === index + 1);
    }
    await first.release();
    await Promise.all(waiting);
    assert.deepEqual(order, [0, 1, 2]);
    await Promise.all(clients.map((client) => client.quit()));
  },

  "a waiter that gives up leaves the queue": async () => {
    const lock = await redlock.acquire("left", TTL_MS);
    const controller = new AbortController();
    const leaving = rejection(other.acquire("left", TTL_MS, { signal: controller.signal }));
    await until(async () => (await waitersOf("left")) === 1);
    controller.abort(new Error("no longer"));
    assert.equal((await leaving).message, "no longer");
    await until(async () => (await waitersOf("left")) === 0);
    await lock.release();
  },

  "acquireTimeout ends the waiting": async () => {
    const lock = await redlock.acquire("late", TTL_MS);
    const error = await rejection(other.acquire("late", TTL_MS, { acquireTimeout: 200 }));
    assert.equal(error.code, "ERR_REDLOCK_TIMEOUT");
    await lock.release();
  },

  "fencing tokens grow": async () => {
    const fences = [];
    for (const client of [redlock, other, redlock]) {
      await client.using("fenced", TTL_MS, { fencing: true }, (_, { fence }) => fences.push(fence));
    }
    assert(fences[0] < fences[1] && fences[1] < fences[2], String(fences));
  },

  "fifty locks at once": async () => {
    const names = Array.from({ length: 50 }, (_, index) => `many:${index}`);
    const locks = await Promise.all(names.map((name) => redlock.acquire(name, TTL_MS)));
    assert.equal(new Set(locks.map(({ value }) => value)).size, 50);
    await Promise.all(locks.map((lock) => lock.release()));
  },

  "inspect shows the holder and who waits": async () => {
    const lock = await redlock.acquire("seen", TTL_MS);
    const waiting = other.acquire("seen", TTL_MS, { acquireTimeout: 60_000 });
    await until(async () => (await waitersOf("seen")) === 1);
    const nodes = await redlock.inspect("seen");
    assert.equal(nodes.length, 5);
    assert(nodes.filter(({ resources }) => resources[0].value === lock.value).length >= 3);
    await lock.release();
    await (await waiting).release();
  },

  "health finds every node reachable": async () => {
    const nodes = await redlock.health();
    assert.deepEqual(
      nodes.map(({ reachable, role }) => [reachable, role]),
      urls.map(() => [true, "master"]),
    );
    for (const { version, findings } of nodes) {
      assert.match(version, /^(Valkey )?\d+\.\d+/);
      assert(Array.isArray(findings));
    }
  },

  "wrong input is refused": async () => {
    assert.equal(
      (await rejection(redlock.acquire("wrong", -1))).code,
      "ERR_REDLOCK_INVALID_ARGUMENT",
    );
    assert.throws(() => new Redlock([]), { code: "ERR_REDLOCK_INVALID_ARGUMENT" });
  },

  "another Redlock adopts a lock from its JSON": async () => {
    const lock = await redlock.acquire("adopted", TTL_MS);
    const adopted = other.adopt(JSON.parse(JSON.stringify(lock)));
    await adopted.extend(TTL_MS);
    assert.equal(adopted.value, lock.value);
    await adopted.release();
    assert.match((await rejection(lock.extend(TTL_MS))).message, /holds this lock no longer/);
  },

  "a frozen node stops nothing": () =>
    frozen(minority, async () => {
      const lock = await redlock.acquire("minority", TTL_MS);
      await lock.extend(TTL_MS);
      await lock.release();
      assert.equal((await redlock.health()).filter(({ reachable }) => reachable).length, 4);
    }),

  "a frozen majority is an error, and no lock": () =>
    frozen(majority, async () => {
      const error = await rejection(redlock.acquire("majority", TTL_MS, { retryCount: 0 }));
      assert.equal(error.code, "ERR_REDLOCK_QUORUM");
      assert.match(error.message, /no answer in/);
    }),

  "using aborts its signal before its lock ends, while a majority is frozen": async () => {
    const late = measureLateness();
    let [expiration, abortedAt] = [0, Infinity];
    const error = await rejection(
      redlock.using("lost", 3000, { nodeTimeout: 1000 }, async (signal, lock) => {
        signal.addEventListener("abort", () => {
          abortedAt = Date.now();
        });
        await frozen(majority, () =>
          until(() => {
            expiration = Math.max(expiration, lock.expiration);
            return signal.aborted;
          }),
        );
      }),
    );
    assert.equal(error.code, "ERR_REDLOCK_LOST");
    const afterEndMs = abortedAt - expiration;
    assert(afterEndMs <= late.end(), `the signal came ${afterEndMs} ms after the end`);
  },

  "nodes that are back count again": async () => {
    await until(async () => (await redlock.health()).every(({ reachable }) => reachable));
    await (await redlock.acquire("majority", TTL_MS)).release();
  },

  "a dead node stops nothing": async () => {
    process.kill(servers[4].pid, "SIGKILL");
    await until(async () => !(await redlock.health())[4].reachable);
    await redlock.using("dead", TTL_MS, () => undefined);
  },

  "CommonJS loads the package": async () => {
    const { Redlock: Required } = createRequire(import.meta.url)("redlock-quorum");
    const required = new Required(entries().slice(0, 3));
    await (await required.acquire("required", TTL_MS)).release();
    await required.quit();
  },

  "after quit every call is refused": async () => {
    await redlock.quit();
    assert.equal((await rejection(redlock.acquire("closed", TTL_MS))).code, "ERR_REDLOCK_CLOSED");
    await other[Symbol.asyncDispose]();
  },
};

for (const [name, step] of Object.entries(steps)) {
  try {
    await step();
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`not ok ${name}`);
    console.error(error);
    process.exitCode = 1;
  }
}
console.log("end");
