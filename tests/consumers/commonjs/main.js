const redlockQuorum = require("redlock-quorum");
const { Redlock } = redlockQuorum;

async function main() {
  const redlock = new Redlock(process.argv.slice(2), { nodeTimeout: 10_000 });
  const lock = await redlock.acquire("free", 30_000);
  const taken = await redlock.tryAcquire("taken", 30_000);
  await redlock.quit();

  const same = redlockQuorum.default === Redlock;
  console.log(JSON.stringify({ value: lock.value, taken, same }));
}

main();
