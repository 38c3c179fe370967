import DefaultRedlock, {
  type Client,
  type ErrorCode,
  ExecutionError,
  type ExecutionStats,
  type Lock,
  LockLostError,
  type NodeHealth,
  type NodeInspection,
  Redlock,
  type RedlockAbortSignal,
  type RedlockSettings,
} from "redlock-quorum";
import { type MemoryNode, memoryNodes } from "redlock-quorum/testing";
import { clients } from "./clients";

const settings: RedlockSettings = { nodeTimeout: 10_000, keyPrefix: "", signal: undefined };

async function work(signal: RedlockAbortSignal, lock: Lock): Promise<string> {
  signal.throwIfAborted();
  await lock.extend(30_000);
  return lock.value;
}

function codeOf(error: unknown): ErrorCode | undefined {
  return error instanceof ExecutionError || error instanceof LockLostError ? error.code : undefined;
}

async function voters(lock: Lock): Promise<Client[]> {
  const stats: ExecutionStats[] = await Promise.all(lock.attempts);
  return stats.flatMap(({ votesFor }) => [...votesFor]);
}

/** Whether a lock is refused once a majority of nodes in memory is frozen. */
async function needsMajority(): Promise<boolean> {
  const nodes: [MemoryNode, MemoryNode, MemoryNode] = memoryNodes(3);
  const redlock = new Redlock(nodes, { retryCount: 0 });
  const lock = await redlock.acquire("free", 30_000);
  nodes[1].freeze();
  nodes[2].kill();
  const code = await redlock.acquire("another", 30_000).catch(codeOf);
  await nodes[1].thaw();
  await lock.release();
  await redlock.quit();
  return code === "ERR_REDLOCK_QUORUM";
}

async function main([first = "", second = "", third = ""]: string[]): Promise<void> {
  const redlock = new Redlock([...clients(first, second), third], settings);
  const worked: string = await redlock.using("work", 30_000, { retryCount: 1 }, work);
  const lock = await redlock.acquire("free", 30_000);
  const taken: Lock | null = await redlock.tryAcquire(["taken"], 30_000);
  const inspections: NodeInspection[] = await redlock.inspect("free");
  const health: NodeHealth[] = await redlock.health();
  const holders = inspections.filter(({ resources: [found] }) => found?.value === lock.value);
  const votes = await voters(lock);
  const adopted = redlock.adopt(lock.toJSON());
  await redlock.extend(adopted, 30_000);
  {
    await using another = await redlock.acquire("another", 30_000);
    if (!another.valid) throw new Error("a lock that was just acquired is not valid");
  }
  const code = await redlock.acquire("taken", 30_000, { retryCount: 0 }).catch(codeOf);
  await redlock.quit();

  const enough =
    worked !== "" &&
    holders.length >= 2 &&
    health.every(({ reachable }) => reachable) &&
    votes.length >= 2 &&
    (await needsMajority());
  const quorum = code === "ERR_REDLOCK_QUORUM";
  const same = DefaultRedlock === Redlock && enough && quorum && adopted.valid;
  console.log(JSON.stringify({ value: lock.value, taken, same }));
}

void main(process.argv.slice(2));
