import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { reportOf } from "./check/report.js";
import { judgeFolder } from "./check/verdict.js";
import type { ClientRecord, NemesisRecord, RegisterLine, RunFacts } from "./records.js";

const done = { type: "done", atUs: ms(10_000) };
const facts: RunFacts = {
  seed: 1,
  minutes: 1,
  nodeCount: 5,
  clientCount: 2,
  keys: ["a"],
  nodeTimeoutMs: 100,
  settleMs: {
    kill: 500,
    freeze: 500,
    cut: 500,
    partition: 500,
    mute: 500,
    deaf: 500,
    delay: 500,
  },
  emptyRestarts: false,
  broken: "",
};

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "redlock-quorum-check-"));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

interface HandMade {
  readonly emptyRestarts?: boolean;
  readonly nemesis?: readonly NemesisRecord[];
  /** Without `done`, which is added. */
  readonly clients: readonly [readonly ClientRecord[], readonly ClientRecord[]];
  /** The second life of client 0, which the nemesis killed. */
  readonly reborn?: readonly ClientRecord[];
  readonly register?: readonly RegisterLine[];
}

async function violationsOf({
  emptyRestarts = false,
  nemesis = [],
  clients,
  reborn,
  register = [],
}: HandMade): Promise<string[]> {
  const text = (entries: readonly object[]): string =>
    entries.map((entry) => `${JSON.stringify(entry)}\n`).join("");
  await writeFile(join(folder, "run.json"), JSON.stringify({ ...facts, emptyRestarts }));
  await writeFile(join(folder, "nemesis.jsonl"), text(nemesis));
  await writeFile(join(folder, "register-a.jsonl"), text(register));
  for (const [index, records] of clients.entries()) {
    const killed = index === 0 && reborn !== undefined;
    const all = killed ? records : [...records, done];
    await writeFile(join(folder, `client-${index}-0.jsonl`), text(all));
  }
  if (reborn !== undefined) {
    await writeFile(join(folder, "client-0-1.jsonl"), text([...reborn, done]));
  }
  const verdict = judgeFolder(folder);
  expect(reportOf(verdict)).toContain("Overlaps");
  return [...verdict.violations];
}

function ms(time: number): number {
  return 1_000_000 + time * 1_000;
}

function acquired(tenure: string, at: number, remainingMs: number): ClientRecord {
  const [atUs, askedUs] = [ms(at), ms(at - 1)];
  return { type: "acquired", atUs, tenure, call: "acquire", keys: ["a"], askedUs, remainingMs };
}

function ended(tenure: string, at: number): ClientRecord {
  return { type: "ended", atUs: ms(at), tenure, how: "released" };
}

function wrote(tenure: string, checked: number, remainingMs: number, at: number): ClientRecord {
  const [atUs, checkedUs] = [ms(at), ms(checked)];
  return { type: "wrote", atUs, tenure, key: "a", token: `${tenure}.1`, checkedUs, remainingMs };
}

function probed(asked: number, at: number, why?: string): ClientRecord {
  const times = { type: "probed", atUs: ms(at), askedUs: ms(asked) } as const;
  return why === undefined ? times : { ...times, why };
}

function nodeFault(fault: number, node: number, from: number, to: number): NemesisRecord[] {
  return [
    { type: "began", atUs: ms(from), fault, kind: "freeze", node, clients: [0, 1] },
    { type: "healed", atUs: ms(to), fault },
  ];
}

const probes = [probed(0, 2), probed(20, 22)];

test("holders one after the other are no overlap, and their writes none lost", async () => {
  const violations = await violationsOf({
    clients: [
      [...probes, acquired("0-1", 100, 900), wrote("0-1", 150, 850, 151), ended("0-1", 160)],
      [acquired("1-1", 161, 900), wrote("1-1", 170, 890, 171), ended("1-1", 180)],
    ],
    register: [
      { token: "0-1.1", read: "", count: 1 },
      { token: "1-1.1", read: "0-1.1", count: 2 },
    ],
  });
  expect(violations).toEqual([]);
});

test("a second holder before the first released is an overlap", async () => {
  const violations = await violationsOf({
    clients: [
      [...probes, acquired("0-1", 100, 900), ended("0-1", 160)],
      [acquired("1-1", 159, 900), ended("1-1", 180)],
    ],
  });
  expect(violations).toEqual([expect.stringMatching(/^overlap on a: 1-1 .* 0-1 .* 1\.0 ms/)]);
});

test("a holder that was never heard of again is one until its validity ends, extensions included", async () => {
  const extended: ClientRecord = {
    type: "valid",
    atUs: ms(500),
    tenure: "0-1",
    remainingMs: 900,
  };
  const silent = [...probes, acquired("0-1", 100, 900), extended];
  const after = await violationsOf({ clients: [silent, [acquired("1-1", 1_401, 900)]] });
  expect(after).toEqual([]);
  const before = await violationsOf({ clients: [silent, [acquired("1-1", 1_399, 900)]] });
  expect(before).toEqual([expect.stringContaining("overlap")]);
});

test("a holder that was told of its loss is none any more", async () => {
  const lost: ClientRecord = {
    type: "lost",
    atUs: ms(300),
    tenure: "0-1",
    call: "using",
    why: "ERR_REDLOCK_LOST",
  };
  const clients = [
    [...probes, acquired("0-1", 100, 900), lost],
    [acquired("1-1", 301, 900)],
  ] as const;
  expect(await violationsOf({ clients })).toEqual([]);
});

const death: readonly NemesisRecord[] = [
  { type: "began", atUs: ms(298), fault: 1, kind: "client kill", clients: [0] },
  { type: "died", atUs: ms(300), client: 0 },
  { type: "healed", atUs: ms(400), fault: 1 },
];

test("a holder that was killed believes in its lock until it is dead, and no longer", async () => {
  const killed = [...probes, acquired("0-1", 100, 900)];
  const next = (at: number): Promise<string[]> =>
    violationsOf({ nemesis: death, clients: [killed, [acquired("1-1", at, 900)]], reborn: [] });
  expect(await next(301)).toEqual([]);
  expect(await next(299)).toEqual([expect.stringContaining("overlap on a")]);
});

test("a client that was killed may have landed one write of which it could not tell", async () => {
  const killed = [...probes, acquired("0-1", 100, 900)];
  const first = { token: "0-1.1", read: "", count: 1 };
  const second = { token: "0-1.2", read: "0-1.1", count: 2 };
  const clients = [killed, []] as const;
  const one = await violationsOf({ nemesis: death, clients, reborn: [], register: [first] });
  expect(one).toEqual([]);
  const register = [first, second];
  const two = await violationsOf({ nemesis: death, clients, reborn: [], register });
  expect(two).toEqual(["register a has 0-1.2, of which no client tells"]);
});

test("a client that does not end after it was killed and begun again is a violation", async () => {
  const nemesis = death;
  await violationsOf({ nemesis, clients: [[...probes, acquired("0-1", 100, 9)], []], reborn: [] });
  await rm(join(folder, "client-0-1.jsonl"));
  expect(judgeFolder(folder).violations).toEqual([
    "client-0-1.jsonl is missing",
    expect.stringContaining("client 0 did not end by itself"),
  ]);
});

function used(tenure: string, at: number, remainingMs: number): ClientRecord {
  return { ...acquired(tenure, at, remainingMs), call: "using" } as ClientRecord;
}

function said(tenure: string, at: number): ClientRecord {
  return { type: "lost", atUs: ms(at), tenure, call: "using", why: "ERR_REDLOCK_LOST" };
}

test("a loss is in time before the end of the validity, and late after it", async () => {
  const holder = (at: number) => [...probes, used("0-1", 100, 900), said("0-1", at)];
  expect(await violationsOf({ clients: [holder(999), []] })).toEqual([]);
  expect(await violationsOf({ clients: [holder(1_001), []] })).toEqual([
    "the loss of 0-1 was said 1.0 ms after its validity's end, though the event loop had turned in between",
  ]);
});

test("a loss is late by no more than a timer of the client's own is, even of a frozen client", async () => {
  const holder = (at: number, watched: number): ClientRecord[] => [
    ...probes,
    used("0-1", 100, 900),
    said("0-1", at),
    { type: "watched", atUs: ms(watched), tenure: "0-1" },
  ];
  expect(await violationsOf({ clients: [holder(1_500, 1_500), []] })).toEqual([]);
  const { losses } = judgeFolder(folder);
  expect(losses).toMatchObject([{ lateMs: 500, allowedMs: 500, frozen: false }]);
  expect(await violationsOf({ clients: [holder(1_500, 1_400), []] })).toEqual([
    expect.stringContaining("said 500.0 ms after its validity's end"),
  ]);
});

test("an overlap is not judged where a node lost its data between the two acquisitions", async () => {
  const clients = [[...probes, acquired("0-1", 100, 900)], [acquired("1-1", 500, 900)]] as const;
  const restarted = (from: number, to: number): NemesisRecord[] => [
    { type: "began", atUs: ms(from), fault: 1, kind: "kill", node: 0, clients: [0, 1] },
    { type: "healed", atUs: ms(to), fault: 1 },
  ];
  const emptyRestarts = true;
  expect(await violationsOf({ emptyRestarts, nemesis: restarted(200, 300), clients })).toEqual([]);
  for (const [from, to] of [
    [10, 90],
    [600, 700],
  ] as const) {
    const nemesis = restarted(from, to);
    expect(await violationsOf({ emptyRestarts, nemesis, clients })).toHaveLength(1);
  }
  expect(await violationsOf({ nemesis: restarted(200, 300), clients })).toHaveLength(1);
});

const forked: readonly RegisterLine[] = [
  { token: "1-1.1", read: "", count: 1 },
  { token: "0-1.1", read: "", count: 1 },
];

test("a write made from an old value within the holder's validity is a lost update", async () => {
  const violations = await violationsOf({
    clients: [
      [...probes, acquired("0-1", 100, 900), ended("0-1", 110), wrote("0-1", 150, 850, 161)],
      [acquired("1-1", 120, 900), wrote("1-1", 130, 890, 140), ended("1-1", 141)],
    ],
    register: forked,
  });
  expect(violations).toEqual(["lost update on a: 0-1.1 was made without 1-1.1"]);
});

test("a write that landed after a pause past the validity is counted apart", async () => {
  const violations = await violationsOf({
    clients: [
      [...probes, acquired("0-1", 100, 900), wrote("0-1", 150, 850, 1_500)],
      [acquired("1-1", 1_200, 900), wrote("1-1", 1_230, 870, 1_240), ended("1-1", 1_241)],
    ],
    register: forked,
  });
  expect(violations).toEqual([]);
  const { updates } = judgeFolder(folder);
  expect(updates.lost).toMatchObject([{ lost: "1-1.1", by: "0-1.1", stale: "0-1.1" }]);
});

test("a write begun when no validity was left is excused by nothing", async () => {
  const violations = await violationsOf({
    clients: [
      [...probes, acquired("0-1", 100, 900), wrote("0-1", 1_499, 0, 1_500)],
      [acquired("1-1", 1_200, 900), wrote("1-1", 1_230, 870, 1_240), ended("1-1", 1_241)],
    ],
    register: forked,
  });
  expect(violations).toEqual([
    expect.stringContaining("lost update on a"),
    "0-1.1 was written with no validity left",
  ]);
});

test("a write that only one of client and register tells of is a violation", async () => {
  const violations = await violationsOf({
    clients: [[...probes, acquired("0-1", 100, 900), wrote("0-1", 150, 850, 151)], []],
    register: [{ token: "0-2.1", read: "", count: 1 }],
  });
  expect(violations).toEqual([
    "register a has 0-2.1, of which no client tells",
    "0-1.1 was written, but is in no register",
  ]);
});

const minorityDown = [...nodeFault(1, 0, 1_000, 3_000), ...nodeFault(2, 1, 1_000, 3_000)];
const late = [probed(990, 1_100, "ERR_REDLOCK_QUORUM"), probed(1_110, 1_300)];

test("a lock that is late though a majority is up is a violation", async () => {
  const violations = await violationsOf({
    nemesis: minorityDown,
    clients: [[acquired("0-1", 100, 9), ...late], []],
  });
  expect(violations).toEqual([
    expect.stringMatching(/^client 0 had no lock for 310 ms while a majority was up/),
    expect.stringMatching(/^client 0 had no lock for 300 ms after a minority's failure/),
    expect.stringMatching(/^client 0 had no lock for 300 ms after a minority's failure/),
  ]);
});

test("a lock that is late is none while no majority is up, nor while the client stands still", async () => {
  const clients = [[acquired("0-1", 100, 9), ...late], []] as const;
  const majorityDown = [...minorityDown, ...nodeFault(3, 2, 980, 1_200)];
  expect(await violationsOf({ nemesis: majorityDown, clients })).toEqual([]);
  const frozen: NemesisRecord[] = [
    { type: "began", atUs: ms(1_000), fault: 9, kind: "client freeze", clients: [0] },
    { type: "healed", atUs: ms(1_290), fault: 9 },
  ];
  expect(await violationsOf({ nemesis: [...minorityDown, ...frozen], clients })).toEqual([]);
});

test("delays of an event loop are taken off a wait, all together but no more than they are", async () => {
  const delays = (each: number): ClientRecord[] =>
    [1_120, 1_160, 1_200, 1_240].map((at) => ({
      type: "stalled",
      sinceUs: ms(at),
      atUs: ms(at + each),
    }));
  const holder = (each: number) => [acquired("0-1", 100, 9), ...late, ...delays(each)];
  expect(await violationsOf({ clients: [holder(30), []] })).toEqual([]);
  expect(await violationsOf({ clients: [holder(20), []] })).toEqual([
    expect.stringMatching(/^client 0 had no lock for 230 ms while a majority was up/),
  ]);
});

test("a server that stands still by itself is not up meanwhile", async () => {
  const clients = [[acquired("0-1", 100, 9), ...late], []] as const;
  const stalled: NemesisRecord = {
    type: "server stalled",
    node: 2,
    sinceUs: ms(990),
    atUs: ms(1_250),
  };
  expect(await violationsOf({ nemesis: [...minorityDown, stalled], clients })).toEqual([]);
});

test("a client has time to reconnect in which it does not stand still", async () => {
  const clients = [[acquired("0-1", 100, 9), ...late], []] as const;
  const back = nodeFault(3, 2, 300, 500);
  const frozen = (to: number): NemesisRecord[] => [
    { type: "began", atUs: ms(400), fault: 9, kind: "client freeze", clients: [0] },
    { type: "healed", atUs: ms(to), fault: 9 },
  ];
  const [long, short] = [frozen(800), frozen(510)];
  const nemesis = [...minorityDown, ...back];
  expect(await violationsOf({ nemesis: [...nemesis, ...long], clients })).toEqual([]);
  expect(await violationsOf({ nemesis: [...nemesis, ...short], clients })).not.toEqual([]);
});

test("a majority that came back must give a lock", async () => {
  const nemesis = [0, 1, 2].flatMap((node) => nodeFault(node, node, 1_000, 2_000));
  const refused = (at: number): ClientRecord => probed(at, at + 10, "ERR_REDLOCK_QUORUM");
  const violations = await violationsOf({
    nemesis,
    clients: [[acquired("0-1", 100, 9), refused(1_010), refused(2_600), probed(2_790, 2_800)], []],
  });
  // 500 ms are for reconnecting, and 200 after that.
  expect(violations).toEqual([expect.stringContaining("300 ms while a majority was up")]);
});

test("a client that crashed, or has a call without an end, is a violation", async () => {
  await violationsOf({ clients: [[...probes, acquired("0-1", 100, 9)], []] });
  const crashed = { type: "crashed", atUs: ms(200), why: "Error: oops" };
  await writeFile(join(folder, "client-1-0.jsonl"), `${JSON.stringify(crashed)}\n`);
  expect(judgeFolder(folder).violations).toEqual([
    "client 1 crashed: Error: oops",
    expect.stringContaining("client 1 did not end by itself"),
  ]);
});

test("lines that cannot be read, and a run in which nothing was acquired, are violations", async () => {
  await violationsOf({ clients: [[], []] });
  await writeFile(join(folder, "nemesis.jsonl"), '{"type":"round"');
  expect(judgeFolder(folder).violations).toEqual([
    expect.stringMatching(/^nemesis.jsonl:1 cannot be read/),
    "nothing was ever acquired",
  ]);
});
