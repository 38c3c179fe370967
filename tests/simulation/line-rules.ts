import {
  type Crowd,
  crowd,
  type CrowdOptions,
  type Member,
  type Result,
  SIXTEEN,
} from "./crowd.js";
import type { Library } from "../virtual-world/library.js";
import type { Mutant } from "./mutants.js";
import { ReplyError } from "../../src/testing/redis/reply.js";

/** A rule of the line whose simpler form was broken: a crowd that shows it, and the library without it. */
export interface LineRule {
  readonly name: string;
  readonly simpler: Omit<Mutant, "name">;
  readonly options: CrowdOptions;
  /** What the rule is for, as a number, and the bound that it keeps. */
  readonly measure: (result: Result) => number;
  readonly atMost: number;
  /**
   * Its crowd takes seconds: only the long tests form it. Those of readers have their planted bugs in
   * exhaustive/readers.test.ts, too, on one node.
   */
  readonly isLong?: true;
}

const four: readonly Member[] = [{}, {}, {}, {}];
/** They come at once, nodes see them in different orders, and the first turns are over before any stands in line. */
const eight: readonly Member[] = Array.from({ length: 8 }, () => ({ variationMs: 1, workMs: 0.2 }));

/** They have three permits among them, and nodes see the releases of two of them in different orders. */
const limited: readonly Member[] = SIXTEEN.map((one) => ({
  ...one,
  variationMs: 1,
  settings: { permits: 3 },
}));

const shared = { shared: true } as const;
/** So many of them come and go at different times that some of them always read. */
const readers: readonly Member[] = Array.from({ length: 4 }, (_, index) => ({
  workMs: 10 + index,
  settings: shared,
}));
/** One writes, and then all of them read together. */
const readersBesideOne: readonly Member[] = [
  { workMs: 5 },
  ...Array.from({ length: 8 }, () => ({ workMs: 5, settings: shared })),
];

/** How many turns the luckiest had for one of the unluckiest. */
function unevenness({ turns }: Result): number {
  const all = turns.flat();
  return Math.max(...all) / Math.min(...all);
}

function longestHandOverMs({ handOversMs }: Result): number {
  return Math.max(...handOversMs);
}

/** Ms for one turn of the members from this on. */
function msPerTurn({ order }: Result, forMs: number, from: number): number {
  return forMs / order.filter((member) => member >= from).length;
}

function restartEmpty({ nodes, links }: Crowd): void {
  for (const node of nodes.slice(0, 3)) {
    node.crash();
    for (const own of links) own[node.index]?.reset();
    node.restart(false);
  }
}

/** No node has memory for a reservation: it fails once somebody was called. */
function exhaustMemory({ nodes }: Crowd): void {
  for (const { redis } of nodes) {
    redis.onPublish = () => {
      throw new ReplyError("OOM command not allowed when used memory > 'maxmemory'.");
    };
  }
}

export const LINE_RULES: readonly LineRule[] = [
  {
    name: "tickets are drawn by the nodes' median clock",
    isLong: true,
    simpler: {
      file: "waiting/node-clocks.ts",
      from: "return offsets[offsets.length >> 1];",
      to: "return now.wallMs - now.monotonicMs + 0 * offsets.length;",
    },
    options: { members: [{ clockAheadMs: -5000 }, {}, { clockAheadMs: 5000 }], forMs: 2000 },
    measure: unevenness,
    atMost: 1.1,
  },
  {
    name: "a failed attempt releases by deleting",
    isLong: true,
    simpler: {
      file: "algorithm/release.ts",
      from: "releaseRequest(pending), pending);",
      to: "releaseRequest(pending, call.instance.queues.keysFor(keys)), pending);",
    },
    // Without a majority, minorities would call one another without a pause.
    options: {
      members: four,
      forMs: 5000,
      events: [
        {
          atMs: 500,
          run: ({ nodes }) => {
            for (const node of nodes.slice(0, 3)) node.pause(10_000);
          },
        },
      ],
    },
    measure: ({ commands }) => commands,
    atMost: 7000,
  },
  {
    name: "the key is kept for as long as the one who is next needs to come",
    isLong: true,
    simpler: {
      file: "waiting/schedule.ts",
      from: "Math.max(3 * slowestMs + GRACE_MS, LEAST_GRACE_MS)",
      to: "Math.max(0 * slowestMs + GRACE_MS, LEAST_GRACE_MS)",
    },
    // One is far away from all nodes: its turn takes it four ways there or back, 300 ms. Others come anew
    // whenever the key is free.
    options: {
      members: [
        { wayMs: [75, 75, 75, 75, 75] },
        ...Array.from({ length: 8 }, () => ({ thinkMs: 20, settings: { queue: false } })),
        ...four,
      ],
      forMs: 20_000,
      ttlMs: 10_000,
    },
    measure: (result) => 20_000 / (result.turns[0]?.[0] ?? 0),
    atMost: 700,
  },
  {
    name: "who hears nothing is passed over",
    isLong: true,
    simpler: {
      file: "operations/queue.ts",
      from: "redis.call('PUBLISH', channel, what) > 0)",
      to: "redis.call('PUBLISH', channel, what) >= 0)",
    },
    options: {
      members: four,
      forMs: 2000,
      events: [
        {
          atMs: 1000,
          run: (all) => {
            all.kill(1);
          },
        },
      ],
    },
    measure: longestHandOverMs,
    atMost: 50,
  },
  {
    name: "who was called is out of the line until it asks again",
    isLong: true,
    simpler: {
      file: "operations/queue.ts",
      from: "      dequeue(order, alive, id)\n      isOfReaders",
      to: "      if not hears then dequeue(order, alive, id) end\n      isOfReaders",
    },
    options: {
      members: four,
      forMs: 2000,
      events: [
        {
          atMs: 1000,
          run: ({ hosts }) => {
            hosts[1]?.pause(900);
          },
        },
      ],
    },
    measure: ({ handOversMs }) => handOversMs.filter((ms) => ms > 50).length,
    atMost: 2,
  },
  {
    name: "who is refused for another resource hands its reservations on at once",
    isLong: true,
    simpler: {
      file: "operations/take.ts",
      from: "  passOnReserved(keys, first, last, id, sets)\n",
      to: "",
    },
    options: {
      members: [
        { resources: ["s"], workMs: 50 },
        { resources: ["s"], workMs: 50 },
        { resources: ["r", "s"] },
        {},
        {},
      ],
      forMs: 2000,
      ttlMs: 10_000,
    },
    measure: (result) => msPerTurn(result, 2000, 3),
    atMost: 4,
  },
  {
    name: "who waits for several stands only in the lines of what is in its way",
    simpler: {
      file: "operations/queue.ts",
      from: "if isOpen or not mayTake(keys, i, tonumber(time), id, sets) then",
      to: "if true then",
    },
    // Two for both: one of these is held for long, the other is released.
    options: {
      members: [
        { resources: ["s"], workMs: 1900 },
        { workMs: 100, turns: 1 },
        { resources: ["r", "s"], fromMs: 5 },
        { resources: ["s", "r"], fromMs: 5 },
      ],
      forMs: 1500,
      ttlMs: 10_000,
    },
    measure: ({ commands }) => commands,
    atMost: 600,
  },
  {
    name: "after votes that were split, each tries again by its place in line",
    simpler: {
      file: "waiting/waiter.ts",
      from: "if (this.#splitMs < this.#wait.mostDelayMs) this.#expect(this.#splitMs);",
      to: "",
    },
    options: { members: eight, forMs: 600, seed: 5 },
    measure: (result) => msPerTurn(result, 600, 0),
    atMost: 3,
  },
  {
    name: "the more often votes were split, the longer is the pause",
    simpler: {
      file: "waiting/schedule.ts",
      from: "Math.max(2 * lastMs, 2 * slowestMs, LEAST_SPLIT_MS)",
      to: "Math.max(0 * lastMs, 2 * slowestMs, LEAST_SPLIT_MS)",
    },
    // The nodes that are held back let it stand in line, and give no votes for their guard time.
    options: {
      members: Array.from({ length: 4 }, () => ({ settings: { restartGuard: 5000 } })),
      forMs: 3000,
      events: [{ atMs: 500, run: restartEmpty }],
    },
    measure: ({ commands }) => commands,
    atMost: 8000,
  },
  {
    name: "only the last attempt puts who failed back into the line",
    simpler: {
      file: "waiting/waiter.ts",
      from: "if (this.#lastRound !== failed) return;",
      to: "",
    },
    // They come again and again, so that some attempt before they stand in line.
    options: { members: eight.map((one) => ({ ...one, thinkMs: 10 })), forMs: 600, seed: 6 },
    measure: longestHandOverMs,
    atMost: 50,
  },
  {
    name: "who acquired before it stood in line leaves the line",
    simpler: {
      file: "waiting/waiter.ts",
      from: "if (lock === undefined || !this.#wasQueuedThen || last === undefined)",
      to: "if (lock === undefined || last === undefined)",
    },
    // The retry timer's attempt is on its way when it joins.
    options: {
      members: Array.from({ length: 2 }, () => ({
        wayMs: [2, 2, 2, 2, 2],
        settings: { retryDelay: 2, retryJitter: 1 },
      })),
      forMs: 400,
      seed: 3,
    },
    measure: longestHandOverMs,
    atMost: 50,
  },
  {
    name: "where calling fails, the key is deleted",
    isLong: true,
    simpler: {
      file: "operations/queue.ts",
      from: "local ok, result = pcall(reserve, key, order, alive, except)",
      to: "local ok, result = true, reserve(key, order, alive, except)",
    },
    options: { members: four, forMs: 3000, events: [{ atMs: 500, run: exhaustMemory }] },
    measure: ({ releasesMs }) => Math.max(...releasesMs),
    atMost: 10,
  },
  {
    name: "who waits for a permit is told which slot is kept for it",
    isLong: true,
    simpler: {
      file: "operations/queue.ts",
      from: "and id .. ' ' .. key or id",
      to: "and id or id",
    },
    options: { members: limited, forMs: 1500 },
    measure: ({ commands, order }) => commands / order.length,
    atMost: 21,
  },
  {
    name: "who takes a permit passes on the other slots that are kept for it",
    simpler: {
      file: "operations/take-permit.ts",
      from: "if i ~= own and reservedId == id then",
      to: "if false then",
    },
    options: { members: limited, forMs: 1500 },
    measure: longestHandOverMs,
    atMost: 50,
  },
  {
    name: "no reader passes a writer that waits",
    isLong: true,
    simpler: {
      file: "operations/queue.ts",
      from: "if ok and waits then return false end",
      to: "",
    },
    options: { members: [{}, ...readers], forMs: 2000 },
    measure: (result) => 2000 / (result.turns[0]?.[0] ?? 0),
    atMost: 30,
  },
  {
    name: "all readers up to the next writer are called together",
    isLong: true,
    simpler: {
      file: "operations/queue.ts",
      from: "if hears and not reads then break end",
      to: "if hears then break end",
    },
    options: { members: readersBesideOne, forMs: 2000 },
    measure: (result) => msPerTurn(result, 2000, 1),
    atMost: 2,
  },
  {
    name: "no writer is called together with readers",
    isLong: true,
    simpler: {
      file: "operations/queue.ts",
      from: "if group[1] and isAlive and not reads then break end",
      to: "",
    },
    options: { members: [{}, {}, {}, ...readers], forMs: 2000 },
    measure: longestHandOverMs,
    atMost: 50,
  },
  {
    name: "the last reader hands over",
    isLong: true,
    simpler: {
      file: "operations/hand-over.ts",
      from: "if isFree or sets and exit(keys[i], sets[i], value, ...) then",
      to: "if sets and exit(keys[i], sets[i], value, ...) then redis.call('DEL', keys[i]) end if isFree then",
    },
    options: { members: readersBesideOne, forMs: 2000 },
    measure: longestHandOverMs,
    atMost: 50,
  },
  {
    name: "the key is kept until all readers that were called together have come",
    simpler: {
      file: "operations/queue.ts",
      from: "for j = 2, ok and group and #group or 0, 2 do",
      to: "for j = 2, 0, 2 do",
    },
    // One is far away: the others have read and gone before it comes.
    options: {
      members: [
        { workMs: 30 },
        { workMs: 30 },
        ...Array.from({ length: 4 }, () => ({ workMs: 0.2, settings: shared })),
        { wayMs: [20, 20, 20, 20, 20], settings: shared },
      ],
      forMs: 10_000,
    },
    measure: (result) => msPerTurn(result, 10_000, 6),
    atMost: 250,
  },
];

export function measured({ options, measure }: LineRule, library: Library): number {
  return measure(crowd(options, library));
}
