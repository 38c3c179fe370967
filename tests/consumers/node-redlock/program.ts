// A program written for node-redlock 5. Before it is compiled, its import of "redlock" becomes one of
// "redlock-quorum", and nothing else is changed.
import { Redis } from "ioredis-5";
import Redlock, {
  type ClientExecutionResult,
  ExecutionError,
  type ExecutionResult,
  type ExecutionStats,
  Lock,
  type RedlockAbortSignal,
  ResourceLockedError,
  type Settings,
} from "redlock";

const settings: Partial<Settings> = {
  driftFactor: 0.01, // multiplied by lock ttl to determine drift time
  retryCount: 2,
  retryDelay: 200, // time in ms
  retryJitter: 200, // time in ms
  automaticExtensionThreshold: 500, // time in ms
};

const clients = process.argv.slice(2).map((url) => new Redis(url));
const redlock = new Redlock(clients, settings);

redlock.on("error", (error) => {
  // Ignore cases where a resource is explicitly marked as locked on a client.
  if (error instanceof ResourceLockedError) {
    return;
  }

  // Log all other errors.
  console.error(error);
});

async function transfer(signal: RedlockAbortSignal): Promise<string> {
  // Make sure any attempted lock extension has not failed.
  if (signal.aborted) {
    throw signal.error;
  }
  return "transferred";
}

function resultOf(stats: ExecutionStats, client: Redis): ClientExecutionResult {
  const error = stats.votesAgainst.get(client);
  return error === undefined
    ? { client, vote: "for", value: 1 }
    : { client, vote: "against", error };
}

async function refusals(error: unknown): Promise<string[]> {
  if (!(error instanceof ExecutionError)) throw error;
  const texts: string[] = [];
  for (const attempt of error.attempts) {
    const stats: ExecutionStats = await attempt;
    for (const client of clients) {
      const result = resultOf(stats, client);
      if (result.vote === "against") texts.push(result.error.message);
    }
  }
  return texts;
}

async function main(): Promise<void> {
  const transferred = await redlock.using(["sender", "recipient"], 30_000, transfer);

  // Acquire a lock.
  let lock: Lock = await redlock.acquire(["a"], 30_000);
  try {
    // Extend the lock. Note that this returns a new `Lock` instance.
    lock = await lock.extend(30_000);
  } finally {
    // Release the lock.
    const result: ExecutionResult = await lock.release();
    await Promise.all(result.attempts);
  }

  const free = await redlock.acquire(["free"], 30_000, { retryCount: 10 });
  const taken = await redlock.acquire(["taken"], 30_000, { ...settings, retryCount: 1 }).then(
    () => [],
    (error: unknown) => refusals(error),
  );
  await redlock.quit();

  const { value, expiration, resources } = free;
  console.log(
    JSON.stringify({
      value,
      taken,
      transferred,
      resources,
      inTime: expiration > Date.now(),
      retryCount: redlock.settings.retryCount,
    }),
  );
}

void main();
