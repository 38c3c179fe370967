import DefaultRedlock, { Redlock } from "redlock-quorum";

const redlock = new Redlock(process.argv.slice(2), { nodeTimeout: 10_000 });
const lock = await redlock.acquire("free", 30_000);
const taken = await redlock.tryAcquire("taken", 30_000);
await redlock.quit();

console.log(JSON.stringify({ value: lock.value, taken, same: DefaultRedlock === Redlock }));
