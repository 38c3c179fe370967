// One client process: several users of one Redlock, and a probe. Started by run.ts.

import { join } from "node:path";
import { Redlock } from "../../src/index.js";
import type { ClientOrders, FromClient, ToClient } from "./clients.js";
import { seeded } from "./random.js";
import { type ClientRecord, Journal, nowUs, watchForStalls } from "./records.js";
import { Workload } from "./workload.js";

const USERS = 3;
const COUNT_INTERVAL_MS = 500;

const orders = JSON.parse(process.argv[2] ?? "{}") as ClientOrders;
const { index, life, seed, folder, urls, keys, nodeTimeoutMs, restartGuardMs } = orders;
const { fencing, readers, permits, broken } = orders;
const journal = new Journal<ClientRecord>(join(folder, `client-${index}-${life}.jsonl`));
/** By the number of an access, who waits for its answer. */
const asking = new Map<number, (value: string | undefined) => void>();
let lastAccess = 0;
const counts = { acquired: 0, writes: 0 };
let stopping = false;

const redlock = new Redlock(urls, {
  nodeTimeout: nodeTimeoutMs,
  restartGuard: restartGuardMs,
  fencing,
  retryDelay: 30,
  retryJitter: 20,
  // Locks of its own exclude nobody: the negative control.
  keyPrefix: broken === "no-lock" ? `client-${index}:` : "chaos:",
});

const workload = new Workload({
  client: index,
  life,
  redlock,
  keys,
  permits,
  journal,
  random: seeded(seed, `client ${index}-${life}`),
  readers,
  unchecked: broken === "no-check",
  access(access) {
    const id = ++lastAccess;
    tell({ type: "access", id, access });
    return new Promise((resolve) => {
      asking.set(id, resolve);
    });
  },
  handOver(lock) {
    tell({ type: "hand over", lock });
  },
  onWriting() {
    tell({ type: "writing" });
  },
  onAcquired() {
    counts.acquired++;
  },
  onWrite() {
    counts.writes++;
  },
  stopping: () => stopping,
});

function tell(message: FromClient): void {
  process.send?.(message, undefined, undefined, () => {
    // Where the parent has died, so does this process.
  });
}

function onCrash(error: unknown): void {
  const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
  journal.add({ type: "crashed", atUs: nowUs(), why });
  console.error(`client ${index}: ${why}`);
  process.exit(1);
}

process.on("uncaughtException", onCrash).on("unhandledRejection", onCrash);
// Ctrl-C goes to the whole group; the parent stops its clients in order.
process.on("SIGINT", () => undefined);
process.on("disconnect", () => process.exit(1));
const adoptions = new Set<Promise<void>>();
process.on("message", (message: ToClient) => {
  if (message.type === "stop") stopping = true;
  else if (message.type === "accessed") {
    asking.get(message.id)?.(message.value);
    asking.delete(message.id);
  } else {
    const adoption = workload.adopt(message.lock).finally(() => adoptions.delete(adoption));
    adoptions.add(adoption);
  }
});

const unwatch = watchForStalls((sinceUs, atUs) => {
  journal.add({ type: "stalled", sinceUs, atUs });
});
const counter = setInterval(() => {
  tell({ type: "count", ...counts });
}, COUNT_INTERVAL_MS);

tell({ type: "ready" });
await Promise.all([
  workload.runProbe(),
  ...Array.from({ length: USERS }, () => workload.runUser()),
]);
await Promise.all(adoptions);
await redlock.quit();
clearInterval(counter);
unwatch();
journal.add({ type: "done", atUs: nowUs() });
journal.close();
process.exit(0);
