import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Redis } from "ioredis";
import { acquireFencedScript } from "../../src/operations/acquire-fenced.js";
import { extendFencedScript } from "../../src/operations/extend-fenced.js";
import { handOverScript } from "../../src/operations/hand-over.js";
import { joinScript } from "../../src/operations/join.js";
import { leaveScript } from "../../src/operations/leave.js";
import type { Script } from "../../src/operations/script.js";
import {
  acquireSharedScript,
  extendSharedScript,
  releaseSharedScript,
} from "../../src/operations/shared.js";
import { takeFencedScript } from "../../src/operations/take-fenced.js";
import { takeScript } from "../../src/operations/take.js";
import { defined } from "../support/nodes.js";
import { type RedisServer, startServer } from "../support/servers.js";

// A server does not roll back a script that fails. Here every call of a script fails once, from every kind of state, and
// so does every call of one command, as where a user lacks the right to it.

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await startServer();
  redis = new Redis(server.port, "127.0.0.1");
});

afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

/** Refuses the calls for which `condition` holds, and notes under a key that it did. */
const refusing = (condition: string): string => `
local server, count, hasWritten = redis, 0, false
local GROWS = { SET = true, ZADD = true, HSET = true }
local SHRINKS = { DEL = true, ZREM = true, HDEL = true, PEXPIRE = true }
local SPARED = { PEXPIRE = true, DEL = true }
local function isRefused(command)
  count = count + 1
  if ${condition} then
    server.call('SET', 'refused', command, 'PX', 60000)
    return true
  end
  hasWritten = hasWritten or GROWS[command] or SHRINKS[command]
  return false
end
local refusal = server.error_reply('NOPERM refused')
local redis = {
  error_reply = server.error_reply,
  call = function(...)
    if isRefused(...) then error(refusal) end
    return server.call(...)
  end,
  pcall = function(...)
    if isRefused(...) then return refusal end
    return server.pcall(...)
  end,
}
`;

const ONE_COMMAND = "SET GET DEL EXISTS PTTL TIME ZADD ZRANGE ZRANK ZREM HSET HGET HDEL PUBLISH";

/** As a server above its maxmemory: it refuses what needs memory, until a script has written something. */
const NO_MEMORY = "GROWS[command] and not hasWritten";

const CONDITIONS = [
  "false",
  NO_MEMORY,
  ...`${ONE_COMMAND} PEXPIRE`.split(" ").map((command) => `command == '${command}'`),
  // A key whose expiry or deletion fails, and nothing else, stays: only a user without the right is refused there.
  ...Array.from({ length: 40 }, (_, n) => `count == ${n + 1} and not SPARED[command]`),
];

const TTL_MS = 60_000;
const OLD_MS = 30_000;
const SLACK_MS = 100;
const TOKEN = "1800000000000000";
const ENTRY = [5, "me", "", 5000, 20_000];
const lined = ["a", "line", "alive"];

/** What is there before. Each readers' set has the members with the ms that they have left. */
interface State {
  readonly value?: string;
  readonly readers?: Readonly<Record<string, number>>;
  readonly waiters?: readonly string[];
  readonly group?: readonly string[];
  readonly fence?: string;
}

const STATES: Readonly<Record<string, State>> = {
  nothing: {},
  own: { value: "own", fence: `${TOKEN} own` },
  "own, and others wait": { value: "own", waiters: ["w1", "r2", "r3"] },
  "another's": { value: "another", fence: "1700000000000000 another" },
  "another's, with a higher fence": { value: "another", fence: "1900000000000000 another" },
  "a reservation": { value: "reserved 5 me", waiters: ["w9"] },
  "a reservation for another": { value: "reserved 1 early", waiters: ["me", "w9"] },
  "a group's reservation": { value: "reserved 5 me", group: ["me", "r2"] },
  "own reader": { value: "shared", readers: { own: OLD_MS } },
  "own reader, for which a writer waits": {
    value: "shared",
    readers: { own: OLD_MS },
    waiters: ["w9"],
  },
  "own reader among others": {
    value: "shared",
    readers: { own: OLD_MS, other: 40_000, old: -1000 },
  },
  "own reader among longer ones": { value: "shared", readers: { own: OLD_MS, other: 90_000 } },
  "other readers": { value: "shared", readers: { other: 40_000, "notified me": 5000, old: -1000 } },
  "a notified reader": { value: "shared", readers: { "notified me": 5000 } },
};

async function seed({ value, readers = {}, waiters = [], group, fence }: State): Promise<void> {
  const nowMs = Number(await redis.eval(`local t = redis.call('TIME') return t[1] .. '000'`, 0));
  const seeding = redis.pipeline().flushall();
  if (fence !== undefined) seeding.set("fence", fence, "PX", 86_400_000);
  const longestMs = Math.max(OLD_MS, ...Object.values(readers));
  if (value !== undefined) seeding.set("a", value, "PX", longestMs);
  for (const [member, leftMs] of Object.entries(readers)) {
    seeding.zadd("set", nowMs + leftMs, member).pexpire("set", longestMs);
  }
  for (const [index, id] of waiters.entries()) {
    const entry = [nowMs + 20_000, 5000, "", ...(id.startsWith("r") ? [1] : [])];
    seeding.zadd("line", 6 + index, id).pexpire("line", 20_000);
    seeding.hset("alive", id, JSON.stringify(entry)).pexpire("alive", 20_000);
  }
  if (group !== undefined) {
    const ends = [value, ...group.flatMap((id) => [id, nowMs + 5000])];
    seeding.hset("alive", "group", JSON.stringify(ends)).pexpire("alive", 20_000);
  }
  await seeding.exec();
}

const LOOK = `
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local value, held, forever = redis.call('GET', 'a') or '', {}, {}
local leftMs = redis.call('PTTL', 'a')
local members = value == 'shared' and redis.call('ZRANGE', 'set', 0, -1, 'WITHSCORES') or {}
for i = 1, #members, 2 do
  local isReader = string.sub(members[i], 1, 9) ~= 'notified '
  if isReader then held[members[i]] = math.min(nowMs + leftMs, members[i + 1]) end
end
if #members == 0 and value ~= '' and string.sub(value, 1, 9) ~= 'reserved ' then held[value] = nowMs + leftMs end
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('PTTL', key) == -1 then forever[#forever + 1] = key end
end
local fence = string.match(redis.call('GET', 'fence') or '0', '^%d+')
local refused = redis.call('EXISTS', 'refused')
return cjson.encode({ nowMs = nowMs, held = held, forever = table.concat(forever), fence = fence, refused = refused })`;

interface Found {
  /** The server's clock, in epoch ms. */
  readonly nowMs: number;
  /** The value of each holder, with the time at which its lock ends. `shared` is a marker without readers. */
  readonly held: Readonly<Record<string, number>>;
  readonly forever: string;
  readonly fence: string;
  readonly refused: number;
}

const look = async (): Promise<Found> => JSON.parse(String(await redis.eval(LOOK, 0))) as Found;

interface Operation {
  readonly script: Script;
  readonly keys: readonly string[];
  readonly args: readonly (string | number)[];
  readonly grants?: (reply: unknown) => boolean;
  readonly ends?: true;
}

const one = (reply: unknown): boolean => reply === 1;
const token = (reply: unknown): boolean => typeof reply === "string" && !(Number(reply) === 0);

const OPERATIONS: Readonly<Record<string, Operation>> = {
  acquireFenced: {
    script: acquireFencedScript,
    keys: ["a", "fence"],
    args: ["own", TTL_MS, TOKEN],
    grants: token,
  },
  takeFenced: {
    script: takeFencedScript,
    keys: [...lined, "fence"],
    args: ["own", TTL_MS, TOKEN, ...ENTRY],
    grants: token,
  },
  takeShared: {
    script: takeScript,
    keys: [...lined, "set"],
    args: ["own", TTL_MS, ...ENTRY, 1],
    grants: one,
  },
  acquireShared: {
    script: acquireSharedScript,
    keys: ["a", "set"],
    args: ["own", TTL_MS, 1],
    grants: one,
  },
  extendFenced: {
    script: extendFencedScript,
    keys: ["a", "fence"],
    args: ["own", TTL_MS, TOKEN],
    grants: one,
  },
  extendShared: {
    script: extendSharedScript,
    keys: ["a", "set"],
    args: ["own", TTL_MS],
    grants: one,
  },
  join: { script: joinScript, keys: lined, args: ENTRY },
  joinShared: { script: joinScript, keys: [...lined, "set"], args: [...ENTRY, 1] },
  leave: { script: leaveScript, keys: lined, args: ["me", 0] },
  leaveShared: { script: leaveScript, keys: [...lined, "set"], args: ["me", 0, 1] },
  handOver: { script: handOverScript, keys: lined, args: ["own"], ends: true },
  handOverShared: { script: handOverScript, keys: [...lined, "set"], args: ["own", 1], ends: true },
  releaseShared: { script: releaseSharedScript, keys: ["a", "set"], args: ["own"], ends: true },
};

async function run({ script, keys, args }: Operation, before = ""): Promise<unknown> {
  return redis
    .eval(before + script.text, keys.length, ...keys, ...args)
    .catch((error: unknown) => error);
}

/** Says what a refused call broke. */
async function faultsOf(operation: Operation, condition: string): Promise<string[]> {
  const faults: string[] = [];
  const before = await look();
  const reply = await run(operation, refusing(condition));
  const { nowMs, held, forever, fence, refused } = await look();
  if (refused === 0 && condition !== "false") return faults;
  for (const [value, endMs] of Object.entries(before.held)) {
    if (endMs < before.nowMs || (value === "own" && operation.ends)) continue;
    if ((held[value] ?? 0) < endMs - SLACK_MS) faults.push(`${value} lost its lock`);
  }
  for (const value of Object.keys(held)) {
    const wasThere = value in before.held || value === "own";
    // Without the right to DEL nothing can be released.
    if (!wasThere && !condition.includes("DEL")) faults.push(`${value} holds it`);
  }
  if (forever !== "") faults.push(`${forever} has no expiry`);
  if (Number(fence) < Number(before.fence)) faults.push("the fence fell");
  const isGranted = operation.grants?.(reply) === true;
  if (isGranted && (held["own"] ?? 0) < before.nowMs + TTL_MS - SLACK_MS)
    faults.push("a grant that is none");
  const next = { script: acquireSharedScript, keys: ["a", "set"], args: ["next", 45_000, 1] };
  const isNext = (await run(next)) === 1;
  if (isNext && ((await look()).held["next"] ?? 0) < nowMs + 45_000 - SLACK_MS) {
    faults.push("the next reader's grant is none");
  }
  return faults;
}

test.each(Object.keys(OPERATIONS))(
  "a call that fails within %s costs nobody a lock",
  async (name) => {
    const found: string[] = [];
    for (const [state, seeds] of Object.entries(STATES)) {
      for (const condition of CONDITIONS) {
        await seed(seeds);
        const faults = await faultsOf(defined(OPERATIONS[name]), condition);
        found.push(...faults.map((fault) => `${state}, ${condition}: ${fault}`));
      }
    }
    expect(found).toEqual([]);
  },
);
