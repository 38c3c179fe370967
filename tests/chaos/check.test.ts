import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { reportOf } from "./check/report.js";
import { readersTogether } from "./check/tenures.js";
import { judgeFolder } from "./check/verdict.js";
import {
  type ClientRecord,
  guardedByPermit,
  type NemesisRecord,
  type RegisterLine,
  type RunFacts,
} from "./records.js";

const done = { type: "done", atUs: ms(10_000) };
const facts: RunFacts = {
  seed: 1,
  minutes: 1,
  nodeCount: 5,
  clientCount: 2,
  keys: ["a"],
  permits: 0,
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
  fencing: false,
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
  readonly fencing?: boolean;
  readonly permits?: number;
  readonly nemesis?: readonly NemesisRecord[];
  /** Without `done`, which is added. */
  readonly clients: readonly [readonly ClientRecord[], readonly ClientRecord[]];
  /** The second life of client 0, which the nemesis killed. */
  readonly reborn?: readonly ClientRecord[];
  readonly register?: readonly RegisterLine[];
}

async function violationsOf({
  emptyRestarts = false,
  fencing = false,
  permits = 0,
  nemesis = [],
  clients,
  reborn,
  register = [],
}: HandMade): Promise<string[]> {
  const text = (entries: readonly object[]): string =>
    entries.map((entry) => `${JSON.stringify(entry)}\n`).join("");
  await writeFile(
    join(folder, "run.json"),
    JSON.stringify({ ...facts, emptyRestarts, fencing, permits }),
  );
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
  const looked = { checkedUs, remainingMs };
  return { type: "wrote", atUs, tenure, key: "a", token: `${tenure}.1`, ...looked, accepted: true };
}

/** A write of a register, which landed at this time. */
function landed(token: string, read: string, at: number): RegisterLine {
  return { atUs: ms(at), what: "write", token, read, accepted: true };
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
    register: [landed("0-1.1", "", 151), landed("1-1.1", "0-1.1", 171)],
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

/** A reader's: its lock, and one of its reads. */
function reading(tenure: string, at: number, remainingMs: number): ClientRecord {
  return { ...acquired(tenure, at, remainingMs), shared: true } as ClientRecord;
}

function readAt(token: string, read: string, at: number): RegisterLine {
  return { ...landed(token, read, at), what: "read" };
}

test("readers beside each other are no overlap, a reader and a writer are one, whoever came first", async () => {
  const judged = (first: ClientRecord, second: ClientRecord): Promise<string[]> =>
    violationsOf({ clients: [[...probes, first], [second]] });
  expect(await judged(reading("0-1", 100, 900), reading("1-1", 159, 900))).toEqual([]);
  expect(readersTogether(judgeFolder(folder).tenures.values())).toBe(1);
  for (const [first, second] of [
    [reading("0-1", 100, 900), acquired("1-1", 159, 900)],
    [acquired("0-1", 100, 900), reading("1-1", 159, 900)],
  ] as const) {
    expect(await judged(first, second)).toEqual([
      expect.stringMatching(/^overlap on a: 1-1 .* 0-1 .* 841\.0 ms/),
    ]);
  }
});

test("a write between two reads of a reader is a violation, but not where its lock had ended", async () => {
  const judged = (secondRead: number): Promise<string[]> =>
    violationsOf({
      clients: [
        [...probes, reading("0-1", 100, 900)],
        [acquired("1-1", 1_001, 900), wrote("1-1", 1_002, 890, 1_004), ended("1-1", 1_005)],
      ],
      register: [
        readAt("0-1.1", "", 120),
        landed("1-1.1", "", secondRead - 5),
        readAt("0-1.1", "1-1.1", secondRead),
      ],
    });
  expect(await judged(990)).toEqual(["changed under a reader on a: 1-1.1 between the reads 0-1.1"]);
  expect(judgeFolder(folder).updates.readTwice).toBe(1);
  expect(await judged(1_010)).toEqual([]);
  expect(judgeFolder(folder).updates.readTwice).toBe(0);
});

test("a write between two reads that landed after its holder's validity is counted apart", async () => {
  const violations = await violationsOf({
    clients: [
      [...probes, acquired("0-1", 100, 900), wrote("0-1", 150, 850, 1_500)],
      [reading("1-1", 1_200, 900)],
    ],
    register: [
      readAt("1-1.1", "", 1_250),
      landed("0-1.1", "", 1_499),
      readAt("1-1.1", "0-1.1", 1_520),
    ],
  });
  expect(violations).toEqual([]);
  expect(judgeFolder(folder).updates.changed).toMatchObject([{ by: "0-1.1", stale: true }]);
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
  const first = landed("0-1.1", "", 200);
  const second = landed("0-1.2", "0-1.1", 290);
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

/** Client 0 writes from a value that client 1 had replaced. */
function forked(at: number): RegisterLine[] {
  return [landed("1-1.1", "", 130), landed("0-1.1", "", at)];
}

test("a write made from an old value within the holder's validity is a lost update", async () => {
  const violations = await violationsOf({
    clients: [
      [...probes, acquired("0-1", 100, 900), ended("0-1", 110), wrote("0-1", 150, 850, 161)],
      [acquired("1-1", 120, 900), wrote("1-1", 130, 890, 140), ended("1-1", 141)],
    ],
    register: forked(161),
  });
  expect(violations).toEqual(["lost update on a: 0-1.1 was made without 1-1.1"]);
});

test("a write that landed after a pause past the validity is counted apart", async () => {
  const violations = await violationsOf({
    clients: [
      [...probes, acquired("0-1", 100, 900), wrote("0-1", 150, 850, 1_500)],
      [acquired("1-1", 1_200, 900), wrote("1-1", 1_230, 870, 1_240), ended("1-1", 1_241)],
    ],
    register: forked(1_500),
  });
  expect(violations).toEqual([]);
  const { updates } = judgeFolder(folder);
  expect(updates.lost).toMatchObject([{ lost: "1-1.1", by: "0-1.1", stale: "0-1.1" }]);
});

test("a write that landed in time is no stale one, however late its holder learned of it", async () => {
  const violations = await violationsOf({
    clients: [
      [...probes, acquired("0-1", 100, 900), wrote("0-1", 150, 850, 1_500)],
      [acquired("1-1", 1_200, 900), wrote("1-1", 1_230, 870, 1_240), ended("1-1", 1_241)],
    ],
    register: forked(999),
  });
  expect(violations).toEqual(["lost update on a: 0-1.1 was made without 1-1.1"]);
});

test("a write begun when no validity was left is excused by nothing", async () => {
  const violations = await violationsOf({
    clients: [
      [...probes, acquired("0-1", 100, 900), wrote("0-1", 1_499, 0, 1_500)],
      [acquired("1-1", 1_200, 900), wrote("1-1", 1_230, 870, 1_240), ended("1-1", 1_241)],
    ],
    register: forked(1_500),
  });
  expect(violations).toEqual([
    expect.stringContaining("lost update on a"),
    "0-1.1 was written with no validity left",
  ]);
});

test("a write that only one of client and register tells of is a violation", async () => {
  const violations = await violationsOf({
    clients: [[...probes, acquired("0-1", 100, 900), wrote("0-1", 150, 850, 151)], []],
    register: [landed("0-2.1", "", 151)],
  });
  expect(violations).toEqual([
    "register a has 0-2.1, of which no client tells",
    "0-1.1 was written, but is in no register",
  ]);
});

/** Client 0 acquires, and after the end of its lock client 1: each under this token. */
function fenced(first: number, second: number): [ClientRecord[], ClientRecord[]] {
  return [
    [...probes, { ...acquired("0-1", 100, 900), fence: first } as ClientRecord],
    [{ ...acquired("1-1", 1_200, 900), fence: second } as ClientRecord, ended("1-1", 1_241)],
  ];
}

test("with fencing a stale write that is accepted after a later holder's is a violation, a refused one none", async () => {
  const [first, second] = fenced(7, 8);
  const judged = (accepted: boolean): Promise<string[]> =>
    violationsOf({
      fencing: true,
      clients: [
        [...first, { ...wrote("0-1", 150, 850, 1_500), accepted } as ClientRecord],
        [...second, wrote("1-1", 1_230, 870, 1_240)],
      ],
      register: [
        { ...landed("1-1.1", "", 1_240), fence: 8 },
        { ...landed("0-1.1", "", 1_500), fence: 7, accepted },
      ],
    });
  expect(await judged(false)).toEqual([]);
  expect(judgeFolder(folder).updates).toMatchObject({ lost: [], staleWrites: 1, staleRefused: 1 });
  expect(await judged(true)).toEqual([
    "lost update on a: 0-1.1 was made without 1-1.1",
    "stale write on a: 0-1.1 was accepted with 7 after 8",
  ]);
  expect(judgeFolder(folder).updates).toMatchObject({ staleWrites: 1, staleRefused: 0 });
});

test("with fencing a stale write is no violation where nobody came after, but one after a later holder's read", async () => {
  const [first, second] = fenced(7, 8);
  const judged = (at: number): Promise<string[]> => {
    const read: RegisterLine = { ...landed("1-1.1", "", 1_230), what: "read", fence: 8 };
    const write = { ...landed("0-1.1", "", at), fence: 7 };
    return violationsOf({
      fencing: true,
      clients: [[...first, wrote("0-1", 150, 850, 1_500)], second],
      register: at < 1_230 ? [write, read] : [read, write],
    });
  };
  expect(await judged(1_220)).toEqual([]);
  expect(judgeFolder(folder).updates).toMatchObject({ staleWrites: 1, staleRefused: 0 });
  expect(await judged(1_240)).toEqual(["stale write on a: 0-1.1 was accepted with 7 after 8"]);
});

test("with fencing a lost update is a violation also where its holder was frozen and all tokens are right", async () => {
  const [first, second] = fenced(7, 8);
  const violations = await violationsOf({
    fencing: true,
    clients: [
      [...first, wrote("0-1", 150, 850, 1_235)],
      [...second, wrote("1-1", 1_230, 870, 1_240)],
    ],
    // The later holder read without its token, so the frozen one was accepted after that.
    register: [
      { ...landed("0-1.1", "", 1_235), fence: 7 },
      { ...landed("1-1.1", "", 1_240), fence: 8 },
    ],
  });
  expect(violations).toEqual(["lost update on a: 1-1.1 was made without 0-1.1"]);
});

test("with fencing a holder that is refused before its lock is over is a violation, a reader too", async () => {
  const [first, second] = fenced(7, 8);
  const judged = (at: number, what: RegisterLine["what"]): Promise<string[]> => {
    const write = { ...wrote("0-1", 150, 850, at), accepted: false } as ClientRecord;
    return violationsOf({
      fencing: true,
      clients: [what === "write" ? [...first, write] : first, second],
      register: [{ ...landed("0-1.1", "", at), what, fence: 7, accepted: false }],
    });
  };
  for (const what of ["read", "write"] as const) {
    expect(await judged(1_001, what)).toEqual([]);
    expect(await judged(990, what)).toEqual([
      `fresh ${what} on a: 0-1.1 was refused, with 10.0 ms left`,
    ]);
  }
});

test("with fencing the tokens of locks that are held one after the other grow", async () => {
  const judged = (first: number, second: number): Promise<string[]> =>
    violationsOf({ fencing: true, clients: fenced(first, second) });
  expect(await judged(7, 8)).toEqual([]);
  for (const second of [6, 7]) {
    expect(await judged(7, second)).toEqual([
      `tokens on a: 1-1 has ${second}, 0-1 before it had 7`,
    ]);
  }
  const [first, second] = fenced(7, 8);
  expect(await violationsOf({ fencing: true, clients: [[...probes, ...second], first] })).toEqual(
    [],
  );
});

test("with fencing the resource may accept one token again and again", async () => {
  const [first] = fenced(7, 8);
  const [read, write] = [landed("0-1.1", "", 120), landed("0-1.1", "", 151)];
  const violations = await violationsOf({
    fencing: true,
    clients: [[...first, wrote("0-1", 150, 850, 151)], []],
    register: [
      { ...read, what: "read", fence: 7 },
      { ...write, fence: 7 },
    ],
  });
  expect(violations).toEqual([]);
});

test("with fencing a lock that was handed over keeps its token, and none is smaller", async () => {
  const judged = async (fence: number): Promise<string[]> => {
    const [first] = fenced(7, 0);
    const handed = { ...ended("0-1", 1_190), how: "handed over" } as ClientRecord;
    const adopted = { ...acquired("1-1", 1_200, 900), call: "adopt", fence } as ClientRecord;
    return violationsOf({ fencing: true, clients: [[...first, handed], [adopted]] });
  };
  expect(await judged(7)).toEqual([]);
  expect(await judged(6)).toEqual(["tokens on a: 1-1 has 6, 0-1 before it had 7"]);
});

test("with fencing a lock that is over when its holder learns of it counts for no order", async () => {
  const [, second] = fenced(7, 8);
  const late = { ...acquired("0-1", 1_300, 0), fence: 7 } as ClientRecord;
  const clients = [[...probes, late], second] as const;
  expect(await violationsOf({ fencing: true, clients })).toEqual([]);
});

test("a permit that two hold is a violation, and so is one that there is not; it needs no token", async () => {
  await Promise.all(
    [0, 1].map((permit) => writeFile(join(folder, `register-permit-${permit}.jsonl`), "")),
  );
  const permit = (tenure: string, at: number, number: number): ClientRecord =>
    ({ ...acquired(tenure, at, 900), keys: [guardedByPermit(number)] }) as ClientRecord;
  const first = [...probes, permit("0-1", 100, 0), permit("0-2", 110, 1)];
  const run = { fencing: true, permits: 2 };
  expect(await violationsOf({ ...run, clients: [first, [permit("1-1", 1_200, 0)]] })).toEqual([]);
  expect(await violationsOf({ ...run, clients: [first, [permit("1-1", 120, 1)]] })).toEqual([
    expect.stringMatching(/^overlap on permit-1: 1-1 began at .* while 0-2 had validity/),
  ]);
  expect(await violationsOf({ ...run, clients: [first, [permit("1-1", 120, 2)]] })).toEqual([
    "1-1 holds permit-2, which there is not",
  ]);
});

test("with fencing a lock without a token is a violation", async () => {
  const clients = [[...probes, acquired("0-1", 100, 900)], []] as const;
  expect(await violationsOf({ fencing: true, clients })).toEqual(["0-1 has no fencing token"]);
  expect(await violationsOf({ clients })).toEqual([]);
});

test("with fencing nothing is promised across a node's loss of its data", async () => {
  const [first, second] = fenced(8, 7);
  const clients = [
    [...first, { ...wrote("0-1", 150, 850, 500), accepted: false } as ClientRecord],
    second,
  ] as const;
  const refused = { ...landed("0-1.1", "", 500), fence: 8, accepted: false };
  const nemesis: NemesisRecord[] = [
    { type: "began", atUs: ms(200), fault: 1, kind: "kill", node: 0, clients: [0, 1] },
    { type: "healed", atUs: ms(300), fault: 1 },
  ];
  const run = { fencing: true, nemesis, clients, register: [refused] };
  expect(await violationsOf({ ...run, emptyRestarts: true })).toEqual([]);
  expect(await violationsOf(run)).toEqual([
    "tokens on a: 1-1 has 7, 0-1 before it had 8",
    "fresh write on a: 0-1.1 was refused, with 500.0 ms left",
  ]);
});

test("a run with fencing in which no stale write was refused says that it proves nothing", async () => {
  const [first, second] = fenced(7, 8);
  const clients = [first, second] as const;
  await violationsOf({ fencing: true, clients });
  expect(reportOf(judgeFolder(folder))).toContain("this run is no proof of fencing");
  const stale = { ...wrote("0-1", 150, 850, 1_500), accepted: false } as ClientRecord;
  const register = [{ ...landed("0-1.1", "", 1_500), fence: 7, accepted: false }];
  await violationsOf({ fencing: true, clients: [[...first, stale], second], register });
  expect(reportOf(judgeFolder(folder))).not.toContain("no proof");
});

test("a client that was told otherwise than the resource did is a violation", async () => {
  const [first] = fenced(7, 8);
  const refused = { ...landed("0-1.1", "", 1_500), fence: 7, accepted: false };
  const clients = [[...first, wrote("0-1", 150, 850, 1_500)], []] as const;
  expect(await violationsOf({ fencing: true, clients, register: [refused] })).toEqual([
    "of 0-1.1 the client was not told what became",
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
