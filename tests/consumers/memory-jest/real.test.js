const { Redlock } = require("redlock-quorum");
const { memoryNodes } = require("redlock-quorum/testing");
const { Booking } = require("./booking");

const turn = () => new Promise((resolve) => setImmediate(resolve));

let nodes, redlock;

beforeEach(() => {
  nodes = memoryNodes(5);
  redlock = new Redlock(nodes);
});

afterEach(() => redlock.quit());

test("two callers cannot book the same seat", async () => {
  const booking = new Booking(redlock);
  const answers = await Promise.all([booking.book("12A", turn), booking.book("12A", turn)]);
  expect(answers).toEqual([true, false]);
});

test("a minority of failed nodes changes nothing", async () => {
  nodes[0].kill();
  nodes[1].freeze();
  const booking = new Booking(redlock);
  expect(await booking.book("12A", turn)).toBe(true);
  await nodes[1].thaw();
});

test("a booking fails without a majority", async () => {
  for (const node of nodes.slice(2)) node.kill();
  const one = new Redlock(nodes, { retryCount: 0 });
  await expect(new Booking(one).book("12A", turn)).rejects.toMatchObject({
    code: "ERR_REDLOCK_QUORUM",
  });
});
