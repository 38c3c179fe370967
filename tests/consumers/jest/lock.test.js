const redlockQuorum = require("redlock-quorum");
const { Redlock } = redlockQuorum;

test("takes a lock in Jest's CommonJS mode", async () => {
  const redlock = new Redlock(process.env.NODES.split(" "), { nodeTimeout: 10_000 });
  const lock = await redlock.acquire("free", 30_000);
  const taken = await redlock.tryAcquire("taken", 30_000);
  await redlock.quit();

  expect(lock.value).toMatch(/^[0-9a-f]{32} \S+\/\d+$/);
  expect(taken).toBeNull();
  expect(redlockQuorum.default).toBe(Redlock);
}, 60_000);
