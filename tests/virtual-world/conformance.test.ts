import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import * as fc from "fast-check";
import { Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";
import { isAtLeast } from "../support/server-version.js";
import { type RedisServer, startServer } from "../support/servers.js";
import { testedServer } from "../support/tested-server.js";
import { fieldsOf } from "../../src/nodes/restart-guard.js";
import { acquireFencedScript } from "../../src/operations/acquire-fenced.js";
import { acquireScript } from "../../src/operations/acquire.js";
import { batchOf, batchScript } from "../../src/operations/batch.js";
import { confirmFenceScript } from "../../src/operations/confirm-fence.js";
import { extendFencedScript } from "../../src/operations/extend-fenced.js";
import { extendScript } from "../../src/operations/extend.js";
import { inspectScript } from "../../src/operations/inspect.js";
import { Operation } from "../../src/operations/operation.js";
import { releaseScript } from "../../src/operations/release.js";
import { RedisModel } from "../../src/testing/redis/model.js";
import { ReplyError } from "../../src/testing/redis/reply.js";

let server: RedisServer;
let client: Redis;

beforeAll(async () => {
  server = await startServer();
  client = new Redis(server.port, "127.0.0.1");
});

afterAll(async () => {
  client.disconnect();
  await server.stop();
});

type Command = readonly [string, ...string[]];

/** What a server answers and holds, as text that can be compared. */
interface Effect {
  readonly reply: string;
  readonly held: ReadonlyMap<string, string>;
  readonly expiresAtMs: ReadonlyMap<string, number>;
}

const KEYS = ["a", "b", "c"];
const NEVER = 2 ** 53;

/** In one script, so that no time passes between one key and the next. */
const SNAPSHOT = `
local found = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  local held = ''
  if kind == 'string' then held = redis.call('GET', key) end
  if kind == 'zset' then held = table.concat(redis.call('ZRANGE', key, 0, -1, 'WITHSCORES'), ' ') end
  if kind == 'hash' then held = table.concat(redis.call('HGETALL', key), ' ') end
  found[i] = { kind, held, redis.call('PEXPIRETIME', key) }
end
return found`;

function inText(reply: unknown): string {
  if (reply instanceof Error || (reply as Error | null)?.name === "ReplyError") {
    // The real one goes on to name the script, its line, and what was wrong in the script's own words.
    const [told] = (reply as Error).message.split(/ script: |, with args| \(new function\)/);
    const text = told?.replace(/(?:user_script:\d+: )?(attempt to \w+).*/s, "$1") ?? "";
    return `error: ${withoutNameOfRedis(text)}`;
  }
  if (Array.isArray(reply)) return `[${reply.map(inText).join(", ")}]`;
  return typeof reply === "string"
    ? JSON.stringify(withoutNameOfRedis(reply))
    : JSON.stringify(reply);
}

/** Valkey words some errors of Redis without the name of Redis, and leaves a hint out. */
function withoutNameOfRedis(text: string): string {
  if (testedServer.name === "Redis") return text;
  return text
    .replace(/ Please use EVAL\.$/, "")
    .replace(/ (?:Lua )?redis(?: lib)?(?= )/gi, "")
    .replace("ERR Command", "ERR command");
}

function onModel(model: RedisModel, [command, ...args]: Command, nowMs: number): Effect {
  let reply: unknown;
  try {
    reply = model.execute(command, args, nowMs);
  } catch (error) {
    if (!(error instanceof ReplyError)) throw error;
    reply = error;
  }
  const held = new Map<string, string>();
  const expiresAtMs = new Map<string, number>();
  for (const key of KEYS) {
    const entry = model.peek(key, nowMs);
    if (entry === undefined) continue;
    const isSet = entry.type === "zset";
    const members = isSet ? model.execute("zrange", [key, "0", "-1", "WITHSCORES"], nowMs) : [];
    const all = [...(members as string[]), ...[...(entry.fields ?? [])].flat()];
    held.set(key, `${entry.type} ${entry.value}${all.join(" ")}`);
    expiresAtMs.set(key, entry.expiresAtMs === Infinity ? NEVER : entry.expiresAtMs);
  }
  return { reply: inText(reply), held, expiresAtMs };
}

/** What the real server did with the command, some time from `fromMs` to `toMs` by its clock. */
async function onServer([command, ...args]: Command): Promise<
  Effect & { fromMs: number; toMs: number }
> {
  const replies = await client
    .pipeline()
    .time()
    .call(command, ...args)
    .eval(SNAPSHOT, KEYS.length, ...KEYS)
    .time()
    .exec();
  const [begun, done, snapshot, ended] = replies ?? [];
  const [fromMs, toMs] = [begun, ended].map((time) => {
    const [seconds = 0, microseconds = 0] = (time?.[1] as string[]).map(Number);
    return 1000 * seconds + Math.floor(microseconds / 1000);
  });
  const held = new Map<string, string>();
  const expiresAtMs = new Map<string, number>();
  for (const [index, [type, value, expiry]] of (
    snapshot?.[1] as [string, string, number][]
  ).entries()) {
    if (type === "none") continue;
    held.set(KEYS[index] ?? "", `${type} ${value}`);
    expiresAtMs.set(KEYS[index] ?? "", expiry === -1 ? NEVER : expiry);
  }
  const reply = inText(done?.[0] ?? done?.[1]);
  return { reply, held, expiresAtMs, fromMs: fromMs ?? 0, toMs: toMs ?? 0 };
}

/** Whether replies are the same but for times to live, which may be read up to `spanMs` apart. */
function areSame(reply: string, real: string, spanMs: number): boolean {
  if (reply === real) return true;
  const [parts, realParts] = [reply, real].map((text) => text.split(/(?<![\w.])(\d+)(?![\w.])/));
  return (
    parts?.length === realParts?.length &&
    (parts ?? []).every((part, index) => {
      const realPart = realParts?.[index] ?? "";
      return part === realPart || (index % 2 === 1 && Math.abs(+part - +realPart) <= spanMs);
    })
  );
}

function givesTtls([name, text = ""]: Command): boolean {
  return name === "pttl" || text === inspectScript.text || text === inspectScript.sha1;
}

/**
 * The model in the state that the real server is in now, if there is a moment within the command at
 * which the model does the same. Without a faster or slower machine in it: the real server's own
 * clock says when the command ran, to the millisecond or to a few.
 */
async function agree(model: RedisModel, command: Command): Promise<RedisModel> {
  const real = await onServer(command);
  const { fromMs, toMs } = real;
  const spanMs = toMs - fromMs;
  const effects: Effect[] = [];
  for (let nowMs = fromMs; nowMs <= toMs; nowMs++) {
    const copy = model.copy(undefined);
    const effect = onModel(copy, command, nowMs);
    effects.push(effect);
    const isSameReply = areSame(effect.reply, real.reply, givesTtls(command) ? spanMs : 0);
    if (!isSameReply || !isSameState(copy, effect, real, toMs)) continue;
    // From here on both have the same expiries.
    for (const [key, expiresAtMs] of real.expiresAtMs) {
      if (expiresAtMs !== NEVER) copy.execute("pexpireat", [key, String(expiresAtMs)], fromMs - 1);
    }
    return copy;
  }
  const { reply, held, expiresAtMs } = real;
  expect({ command, effects }).toEqual({ command, effects: [{ reply, held, expiresAtMs }] });
  throw new Error("not reached");
}

function isSameState(
  model: RedisModel,
  effect: Effect,
  real: Effect & { fromMs: number; toMs: number },
  toMs: number,
): boolean {
  return KEYS.every((key) => {
    const [held, realHeld] = [effect.held.get(key), real.held.get(key)];
    // It may have expired between the command and the look.
    if (realHeld === undefined) return model.peek(key, toMs) === undefined || held === undefined;
    const apartMs = (effect.expiresAtMs.get(key) ?? 0) - (real.expiresAtMs.get(key) ?? 0);
    return held === realHeld && Math.abs(apartMs) <= real.toMs - real.fromMs;
  });
}

const key = fc.constantFrom(...KEYS);
const keys = fc.uniqueArray(key, { minLength: 1 });
const value = fc.constantFrom("v1", "v2", "v3");
/** Short ones run out within the sequence. */
const ttl = fc.oneof(fc.integer({ min: 1, max: 15 }), fc.constantFrom(5_000, 60_000)).map(String);
const oddTtl = fc.constantFrom("0", "-1", "1.5", "x", "", " 7", "+7", "007");
const score = fc.constantFrom("0", "1", "2", "2.5", "-3", "1e3", "inf", "1700000000000001", "x");
const bound = fc.constantFrom("-inf", "+inf", "0", "(1", "2", "(2.5", "1000", "y");
const rank = fc.integer({ min: -4, max: 4 }).map(String);
const script = fc.constantFrom(
  ...[acquireScript, extendScript, releaseScript, inspectScript].map(({ text, sha1 }) => ({
    text,
    sha1,
  })),
);

/** Of 1970, of 2023, of 2030, and the last that there is. */
const token = fc.constantFrom("5", "1700000000000001", "1900000000000000", "9007199254740991");
const fence = fc.tuple(token, fc.constantFrom("", " v1", " v2")).map((parts) => parts.join(""));

/** Runs of equal operations, and others. An acquisition of one key whose ttl is no number raises an error. */
const batch: fc.Arbitrary<Command> = fc
  .array(
    fc
      .oneof(
        fc.tuple(
          fc.constant(acquireScript),
          key.map((one) => [one]),
          value,
          fc.constantFrom("5000", "x"),
        ),
        fc.tuple(fc.constantFrom(acquireScript, extendScript, releaseScript), keys, value, ttl),
        fc.tuple(
          fc.constantFrom(acquireFencedScript, confirmFenceScript, extendFencedScript),
          fc.uniqueArray(key, { minLength: 2, maxLength: 2 }),
          value,
          ttl,
          token,
        ),
      )
      .map(([operationScript, ks, ...args]) => new Operation(operationScript, ks, args)),
    { minLength: 2, maxLength: 8 },
  )
  .map((operations) => {
    const [, ...args] = batchOf(operations).args;
    return ["eval", batchScript.text, ...args.map(String)];
  });

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(fc.constant("set"), key, value, fc.constant("NX"), fc.constant("PX"), ttl),
  },
  fc.tuple(fc.constant("set"), key, value),
  fc
    .tuple(
      key,
      value,
      fc.subarray(["NX", "XX", "KEEPTTL", "nonsense"]),
      fc.option(fc.oneof(ttl, oddTtl)),
    )
    .map(
      ([k, v, words, px]) => ["set", k, v, ...words, ...(px === null ? [] : ["px", px])] as const,
    ),
  fc.tuple(fc.constantFrom("get", "type", "pttl", "persist", "exists", "del", "zcard"), key),
  fc.tuple(keys, fc.constantFrom("exists", "del")).map(([ks, name]) => [name, ...ks] as const),
  fc.tuple(fc.constant("pexpire"), key, fc.oneof(ttl, oddTtl)),
  fc.tuple(fc.constant("pexpire"), key, ttl, fc.constantFrom("NX", "xx", "GT", "LT", "YY")),
  {
    weight: 8,
    arbitrary: fc
      .tuple(script, fc.boolean(), keys, value, ttl)
      .map(([{ text, sha1 }, isFull, ks, v, px]) =>
        isFull
          ? (["eval", text, String(ks.length), ...ks, v, px] as const)
          : (["evalsha", sha1, String(ks.length), ...ks, v, px] as const),
      ),
  },
  {
    weight: 5,
    arbitrary: fc
      .tuple(
        fc.constantFrom(acquireFencedScript, confirmFenceScript, extendFencedScript),
        fc.uniqueArray(key, { minLength: 2, maxLength: 2 }),
        value,
        ttl,
        token,
      )
      .map(([{ text }, ks, ...args]) => ["eval", text, "2", ...ks, ...args] as const),
  },
  { weight: 5, arbitrary: batch },
  fc.tuple(fc.constant("set"), key, fence),
  script.map(({ text }) => ["script", "LOAD", text] as const),
  fc.constant<Command>(["script", "FLUSH"]),
  script.map(({ sha1 }) => ["script", "EXISTS", sha1, "0".repeat(40)] as const),
  script.map(({ sha1 }) => ["evalsha", sha1, "2", "a"] as const),
  fc
    .tuple(
      key,
      fc.subarray(["NX", "XX", "GT", "LT", "CH"], { maxLength: 2 }),
      score,
      value,
      score,
      value,
    )
    .map(([k, words, ...pairs]) => ["zadd", k, ...words, ...pairs] as const),
  fc.tuple(fc.constant("zadd"), key, score, value),
  fc.tuple(fc.constantFrom("hset", "hdel"), key, value, value),
  fc.tuple(fc.constant("hset"), key, value, value, value, value),
  fc.tuple(fc.constant("hset"), key, value, value, value),
  fc.tuple(fc.constant("hget"), key, value),
  fc.tuple(fc.constantFrom("zrem", "zscore", "zrank"), key, value),
  fc.tuple(fc.constantFrom("zremrangebyscore", "zcount"), key, bound, bound),
  fc
    .tuple(key, rank, rank, fc.subarray(["REV", "WITHSCORES"]))
    .map(([k, from, to, words]) => ["zrange", k, from, to, ...words] as const),
  fc
    .tuple(key, bound, bound, fc.subarray(["REV", "WITHSCORES"]), fc.option(fc.tuple(rank, rank)))
    .map(
      ([k, from, to, words, limit]) =>
        [
          "zrange",
          k,
          from,
          to,
          "BYSCORE",
          ...words,
          ...(limit ? ["LIMIT", ...limit] : []),
        ] as const,
    ),
  fc.constantFrom<Command>(
    ["publish", "a", "b"],
    ["ping"],
    ["get"],
    ["zadd", "a", "1"],
    ["nonsense"],
  ),
);

/** Each is run with KEYS a and b, and ARGV one and 2. */
const PROGRAMS = [
  // Replies
  "return 3.99",
  "return -3.99",
  "return -0.5",
  "return true",
  "return false",
  "return nil",
  "return",
  "return {1, 2, nil, 4}",
  "return {1, {2, {'x'}}, true, 2.7, false}",
  "return {false, 1}",
  "",
  "return {ok = 'FINE'}",
  "return {err = 'CODE text'}",
  "return {{err = 'CODE text'}, 1}",
  "return {x = 1}",
  "return redis.status_reply('FINE')",
  "return redis.error_reply('CODE text')",
  "return redis.error_reply('oops')",
  "return function() end",
  "return 1, 2",
  "return {redis.call('SET', KEYS[1], 'v'), redis.call('GET', KEYS[1]), redis.call('GET', 'none')}",
  // Numbers and text
  "return {tostring(1.7e15), tostring(1e14), tostring(12345678901234), tostring(0.1), tostring(-0)}",
  "return {tostring(1/0), tostring(-1/0), tostring(1e100), tostring(1/3), tostring(123456.789e-10)}",
  "return {tostring(2^53), tostring(100), tostring(1e5), tostring(-1e-5), tostring(0.0001)}",
  "redis.call('SET', 'k', 1700000000000001) return redis.call('GET', 'k')",
  // A number whose shortest form has 17 digits: Redis writes 17, and Valkey 9 the shortest form.
  "redis.call('SET', 'k', 2^1000) return redis.call('GET', 'k')",
  "redis.call('SET', 'k', 0.25) return redis.call('GET', 'k')",
  "return {tonumber('0x10'), tonumber(' 12 '), tonumber('1e3'), tostring(tonumber('1x')), tonumber('ff', 16)}",
  "return {tostring(tonumber('')), tostring(tonumber(nil)), tonumber('.5') * 4, tonumber('7', 8)}",
  "return {ARGV[2] + 1, ARGV[2] * '3', '10' / 4, -ARGV[2], 7 % 3, -7 % 3, 7 % -3, 2 ^ 10}",
  "return {'a' .. 1, 1 .. '', 1.5 .. 'x', 2^63 .. ''}",
  "return {#'abc', #KEYS, #{}, #{1, 2, nil}, #{nil, 2}, #'a\\nb'}",
  "return {'tab\\tquote\\'', \"it's\", '\\065\\66', [[long\n'text']]}",
  "return {1 < 2, 'a' < 'b', 'B' < 'a', 'a' <= 'a', 2 >= 3, 1 == '1', 1 ~= 1, nil == false}",
  "return {not nil, not 0, nil and 1, 0 and 1, false or 'x', nil or false, 1 and 2 or 3}",
  "return {2 ^ 3 ^ 2, -2 ^ 2, not 1 == 2, 1 .. 2 .. 3, 2 + 3 * 4 - 1, (2 + 3) * 4, 1 + 1 == 2}",
  "return {string.sub('hello', 2, -2), string.sub('hello', -3), string.sub('hello', 4, 2), ('x'):rep(3)}",
  "return {string.format('%d %s %5.2f %x %03d|%-4s|%%', 3, 'a', 2.5, 255, 7, 'b')}",
  "return {string.format('%d', 1700000000000001), string.format('%.0f', 2^53), string.format('%s', 1e15)}",
  "return {string.upper('aB'), string.lower('aB'), string.len('four'), string.reverse('abc'), ('a'):byte()}",
  "return {string.find('a.b', '.', 1, true), string.find('abc', 'c'), string.char(72, 105)}",
  "return {math.max(1, 5, 3), math.min(4, 2), math.floor(-2.5), math.ceil(2.1), math.abs(-3)}",
  "return {math.fmod(-7, 3), tostring(math.huge), math.sqrt(16), redis.sha1hex('a')}",
  // Variables, functions, loops
  "local a, b, c = 1, 2 a, b = b, a return {a, b, tostring(c)}",
  "local a <const> = 1 return a",
  "local x = 1 do local x = 2 end local x = x + 10 return x",
  "local t = {1, 2, 3} local i = 1 i, t[i] = 2, 9 return {i, t[1], t[2]}",
  "local function f(...) return ... end return {f(1, 2), f(3, 4)}",
  "local function f(...) return select('#', ...), (select(2, ...)) end return {f('a', nil, 'c')}",
  "local function f(a, ...) local t = {...} return a + #t end return {f(1), f(1, 2, 3), (f(1, 2))}",
  "local f = function(n) if n == 0 then return end return n end return {tostring((f(0))), f(2)}",
  "local function fib(n) if n < 2 then return n else return fib(n - 1) + fib(n - 2) end end return fib(15)",
  "local fs = {} for i = 1, 3 do fs[i] = function() i = i + 10 return i end end return {fs[1](), fs[1](), fs[2]()}",
  "local n = 0 local function up() n = n + 1 return n end up() up() return n",
  "local t = {} for i = 10, 1, -3 do t[#t + 1] = i end for i = 1, 0 do t[#t + 1] = 'no' end return t",
  "local t = {} for i = 1, 10 do if i == 4 then break end t[i] = i end return t",
  "local i = 0 while i < 5 do i = i + 1 if i == 3 then break end end return i",
  "local i = 0 repeat local done = i >= 3 i = i + 1 until done return i",
  "local t = {} for i, v in ipairs({'a', 'b', nil, 'd'}) do t[#t + 1] = i .. v end return t",
  "local n, s = 0, 0 for k, v in pairs({10, 20, x = 30}) do n = n + 1 s = s + v end return {n, s}",
  "local t = {5, 6} local out = {} for k, v in next, t do out[#out + 1] = k .. ':' .. v end return out",
  "local t = {a = 1, b = 2} for k in pairs(t) do t[k] = nil end return {tostring(next(t)), next({7})}",
  "local function it(s, c) if c < s then return c + 1 end end local n = 0 for i in it, 4, 0 do n = n + i end return n",
  "if ARGV[1] == 'two' then return 1 elseif ARGV[1] == 'one' then return 2 else return 3 end",
  "local t = {} for i = 1, 3 do for j = 1, 3 do if j == 2 then break end t[#t + 1] = i * 10 + j end end return t",
  "return (function(...) return select('#', ...) end)(unpack({1, nil, 3}))",
  "return {unpack({1, 2, 3}, 2)}",
  "return {unpack({1, 2, 3}, 1, 2)}",
  "return {unpack({}), 5}",
  "-- a comment\n--[[ a long\none ]] return 1 -- the end",
  "local t = {1; 2, [10] = 'ten', x = {y = {z = 'deep'}}} return {t[10], t.x.y.z, t['x']['y'].z, #t}",
  "return #{n = 1, 2, 3}",
  "return type(nil) .. type({}) .. type('') .. type(2) .. type(print ~= 1)",
  // Tables
  "local t = {3, 1, 2} table.sort(t) return t",
  "local t = {3, 1, 2} table.sort(t, function(a, b) return a > b end) return t",
  "local t = {1, 3} table.insert(t, 2, 2) table.insert(t, 4) table.remove(t, 1) return t",
  "local t = {1, 2} return {table.remove(t), #t, table.remove(t), tostring((table.remove(t)))}",
  "return {table.concat({1, 'b', 3}, '-'), table.concat({}), table.concat({1, 2, 3}, ',', 2, 3)}",
  "local t = {} t[3] = 'c' t[2] = 'b' t[1] = 'a' t[2] = nil t[2] = 'B' return {#t, unpack(t)}",
  "local t = {1, 2, 3} t[#t] = nil t[#t + 1] = 9 return t",
  "local t = {} t[1.5] = 'half' t[true] = 'yes' return {t[1.5], t[true], tostring(t['1'])}",
  // Errors
  "error('text')",
  "error({err = 'CODE text'})",
  "error('text', 0)",
  "local x = nil return x + 1 == 1 or 2",
  "local ok, e = pcall(error, 'text') return {tostring(ok), e}",
  "\n\nlocal ok, e = pcall(function() error('text') end) return {tostring(ok), e}",
  "local ok, e = pcall(function() error({code = 7}) end) return {tostring(ok), e.code}",
  "local ok, a, b = pcall(function(x) return x, 2 end, 1) return {tostring(ok), a, b}",
  "local ok, e = pcall(redis.call, 'ZADD', 'k') return {tostring(ok), type(e), e}",
  "redis.call('ZADD', 'k', 1, 'm') local ok, e = pcall(redis.call, 'GET', 'k') return {tostring(ok), e}",
  "redis.call('ZADD', 'k', 1, 'm') return redis.pcall('GET', 'k')",
  "redis.call('ZADD', 'k', 1, 'm') return redis.call('GET', 'k')",
  "redis.call('ZADD', 'k', 1, 'm') return {redis.pcall('GET', 'k'), redis.pcall('GET', 'k').err}",
  "local ok = pcall(function() local t = nil return t.x end) return tostring(ok)",
  "local ok = pcall(function() return nil .. 'x' end) return tostring(ok)",
  "local ok = pcall(function() return {} < {} end) return tostring(ok)",
  "local ok = pcall(function() return 1 < '2' end) return tostring(ok)",
  "local ok = pcall(function() nonexistent() end) return tostring(ok)",
  "local ok, e = pcall(assert, false, 'said') return {tostring(ok), e, (assert(5))}",
  "local ok, e = pcall(assert, nil) return {tostring(ok), e}",
  "redis.call()",
  "redis.call('GET')",
  "redis.call('NOPE')",
  "return redis.pcall('GET', {})",
  "return redis.call('SET', 'k', 'v', 'PX', 0)",
  "return redis.pcall('SET', 'k', 'v', 'PX', 'x').err",
  // Redis
  "return {redis.call('SET', 'k', 'v', 'NX').ok, tostring(redis.call('SET', 'k', 'w', 'NX'))}",
  "return {redis.call('TYPE', 'k').ok, redis.call('exists', 'k', 'k'), redis.call('Del', 'k')}",
  "redis.call('ZADD', 'k', 1, 'a', 2, 'b') return {redis.call('ZRANGE', 'k', 0, -1), redis.call('ZSCORE', 'k', 'b')}",
  "redis.call('ZADD', 'k', 1700000000000001, 'a') return redis.call('ZRANGE', 'k', 0, -1, 'WITHSCORES')",
  "redis.call('ZADD', 'k', 1.5, 'a') return {redis.call('ZREM', 'k', 'a', 'b'), redis.call('TYPE', 'k').ok}",
  "return {redis.call('PUBLISH', 'c', 'm'), tostring(redis.call('ZRANK', 'k', 'm')), #redis.call('TIME')}",
  "return cjson.encode({1, 'a', true, {2.5, 'b\"c'}, 1700000000000})",
  "return cjson.encode({err = 'ERR text'})",
  "return cjson.encode({{'string', 'a1', 935}, {'none', '', -2}})",
  `local t = cjson.decode('["acquire",1,2,"a1",1000,["x"],true]') return {t[1], t[2] + t[3], t[5], t[6][1], tostring(t[7]), #t}`,
  "local t = redis.call('TIME') return {type(t[1]), tonumber(t[1]) > 1000, tonumber(t[2]) < 1000000}",
];

const step = fc.oneof(
  { weight: 12, arbitrary: command },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 12 }) },
);

// It is as Redis 7.0 and later are. Earlier, a script's errors were others, and PEXPIRETIME was missing.
const describeIfComparable = isAtLeast(testedServer, 7, 0) ? describe : describe.skip;

describeIfComparable("the simulated Redis", () => {
  test("answers and holds what a real one does, through any sequence of commands", async () => {
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 30 }), async (steps) => {
        await client.flushall();
        let model = await agree(new RedisModel(), ["script", "FLUSH"]);
        for (const next of steps) {
          if (typeof next === "number") await sleep(next);
          else {
            model = await agree(model, next);
            compared += 1;
          }
        }
      }),
      { seed: 20_261_121, numRuns: 150 },
    );
    expect(compared).toBeGreaterThan(1500);
  });

  test("says who it is as a real one does: another one after a restart", async () => {
    const model = new RedisModel();
    model.restart(false, 5000);
    const told = [model.execute("info", ["server"], 8900), await client.info("server")].map(
      (info) => fieldsOf(info),
    );
    for (const fields of told) {
      expect(fields["run_id"]).toMatch(/^[0-9a-f]{40}$/);
      expect(fields["uptime_in_seconds"]).toMatch(/^\d+$/);
    }
    expect(told[0]?.["uptime_in_seconds"]).toBe("3");
    const restarted = model.copy(undefined);
    restarted.restart(true, 9000);
    expect(fieldsOf(restarted.execute("info", ["server"], 9000))["run_id"]).not.toBe(
      told[0]?.["run_id"],
    );
  });

  test("names its settings as a real one does, and has those that keep every write", async () => {
    const model = new RedisModel("ab");
    const [fields, realFields] = [model.execute("info", [], 1000), await client.info()].map(
      (info) => fieldsOf(info),
    );
    expect(Object.keys(realFields ?? {})).toEqual(
      expect.arrayContaining(Object.keys(fields ?? {})),
    );
    expect(fields).toMatchObject({ role: "master", aof_enabled: "1" });
    expect(fields?.["run_id"]).toBe(`ab${"1".padStart(38, "0")}`);
    for (const name of ["save", "appendfsync", "nonsense"]) {
      const replies = [
        model.execute("config", ["get", name], 1000),
        await client.config("GET", name),
      ];
      const [names, realNames] = replies.map((reply) =>
        (reply as string[]).filter((_, index) => index % 2 === 0),
      );
      expect(names).toEqual(realNames);
    }
    expect(model.execute("config", ["GET", "save"], 1000)).toEqual(["save", ""]);
  });

  test("tells the time", () => {
    expect(new RedisModel().execute("time", [], 1_234_567)).toEqual(["1234", "567000"]);
  });

  test("runs Lua programs as a real one does", async () => {
    const given = ["2", "a", "b", "one", "2"];
    const model: string[] = [];
    const real: string[] = [];
    for (const program of PROGRAMS) {
      await client.flushall();
      const reply = replyOf(() =>
        new RedisModel().execute("eval", [program, ...given], Date.now()),
      );
      model.push(`${program} => ${inText(reply)}`);
      const realReply = await client.call("eval", program, ...given).catch((e: unknown) => e);
      real.push(`${program} => ${inText(realReply)}`);
    }
    expect(model).toEqual(real);
  });

  test("computes any expression as a real one does", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(expression, { minLength: 20, maxLength: 20 }), async (texts) => {
        // One program of many, each of which may fail by itself.
        const calls = texts.map((text) => `told(function() return ${text} end)`);
        const program = `local x, y, z = 3, 'text', nil
          local function told(f)
            local ok, v = pcall(f)
            if not ok then return 'fails' end
            if type(v) == 'table' then return 'table' end
            return tostring(v)
          end
          return { ${calls.join(", ")} }`;
        const model = replyOf(() => new RedisModel().execute("eval", [program, "0"], 1));
        expect({ texts, is: model }).toEqual({ texts, is: await client.eval(program, 0) });
      }),
      { seed: 20_261_121, numRuns: 150 },
    );
  });
});

function replyOf(execute: () => unknown): unknown {
  try {
    return execute();
  } catch (error) {
    if (error instanceof ReplyError) return error;
    throw error;
  }
}

const { expression } = fc.letrec<{ expression: string; operand: string }>((tie) => ({
  operand: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constantFrom("x", "y", "z", "nil", "true", "false", "1", "0", "2.5", "1e15", "0x10", "7"),
    fc.constantFrom("'10'", "' 0x1F '", "'a'", "''", "'1e2'", "{1, 2, 3}", "1700000000000001"),
    tie("expression").map((text) => `(${text})`),
  ),
  expression: fc.oneof(
    fc
      .tuple(
        tie("operand"),
        fc.constantFrom(..."+ - * / % ^ .. == ~= < > <= >= and or".split(" ")),
        tie("operand"),
        fc.constantFrom(..."+ - * / % ^ .. == < and or".split(" ")),
        tie("operand"),
      )
      .map((words) => words.join(" ")),
    fc
      .tuple(
        fc.constantFrom("not ", "- ", "#"),
        tie("operand"),
        fc.constantFrom("^ 2", "== 1", ".. 1"),
      )
      .map(([unary, operand, rest]) => `${unary}${operand} ${rest}`),
    fc
      .tuple(
        fc.constantFrom("tonumber", "type", "math.floor", "math.abs", "string.len"),
        tie("operand"),
      )
      .map(([name, operand]) => `${name}(${operand})`),
    fc
      .tuple(
        fc.constantFrom("math.max", "math.min", "string.rep", "select"),
        fc.constantFrom("1", "2", "'3'", "x"),
        fc.constantFrom("0", "2", "7.5", "x"),
      )
      .map(([name, a, b]) => `${name}(${a}, ${b})`),
    fc
      .tuple(tie("operand"), fc.integer({ min: -5, max: 6 }), fc.integer({ min: -5, max: 6 }))
      .map(([text, from, to]) => `string.sub(${text}, ${from}, ${to})`),
    fc
      .tuple(
        fc.constantFrom("%d", "%5d", "%-4d|", "%03d", "%s", "%.2f", "%x", "%g", "%5.1f", "%%"),
        tie("operand"),
      )
      .map(([template, operand]) => `string.format('${template}', ${operand})`),
  ),
}));
