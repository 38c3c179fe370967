import { replyError } from "../clients/connection.js";
import { acquireFencedScript } from "./acquire-fenced.js";
import { acquireScript } from "./acquire.js";
import { confirmFenceScript } from "./confirm-fence.js";
import { extendFencedScript } from "./extend-fenced.js";
import { extendScript } from "./extend.js";
import { handOverScript } from "./hand-over.js";
import { inspectScript } from "./inspect.js";
import { joinPermitsScript } from "./join-permits.js";
import { joinScript } from "./join.js";
import { leaveScript } from "./leave.js";
import { lookScript } from "./look.js";
import { releaseScript } from "./release.js";
import { acquireSharedScript, extendSharedScript, releaseSharedScript } from "./shared.js";
import { script } from "./script.js";
import { takeFencedScript } from "./take-fenced.js";
import { takePermitScript } from "./take-permit.js";
import { takeScript } from "./take.js";
import { readersTogether, together } from "./together.js";
import { type Argument, type Command, type Operation, strangeReply } from "./operation.js";

const scripts = [
  acquireScript,
  extendScript,
  releaseScript,
  inspectScript,
  acquireFencedScript,
  confirmFenceScript,
  extendFencedScript,
  joinScript,
  takeScript,
  takeFencedScript,
  handOverScript,
  leaveScript,
  lookScript,
  acquireSharedScript,
  extendSharedScript,
  releaseSharedScript,
  joinPermitsScript,
  takePermitScript,
];
/** Each definition once, even if several scripts use it. */
const definitions = new Set(scripts.flatMap(({ definitions }) => definitions));

/** Runs many operations in one command, in their order. An error of one is the reply of that one alone. */
export const batchScript = script(`${together}
-- KEYS: those of all operations, in their order. ARGV: runs of operations of one shape. Each begins with the name of the
-- operations, the number of keys and of arguments that each has, and how many they are; their arguments follow.
-- Returns a JSON array of the replies; an error is {"err": its message}.
local replies, done, last, first, at = {}, 0, 0, 1, 1
local name, keyCount, argCount

-- Does what is left of a run together, if that can be.
local function doTogether()
  local run, count = together[name .. ' ' .. keyCount], last - done
  if not run then return end
  local ok, areDone = pcall(run, replies, done, count, first, keyCount, at, argCount)
  if ok and areDone then first, at, done = first + keyCount * count, at + argCount * count, last end
end

-- Does runs together as long as that can be. Returns whether nothing is left.
local function areAllDone()
  while done == last and at <= #ARGV do
    name, keyCount, argCount = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    last, at = done + tonumber(ARGV[at + 3]), at + 4
    doTogether()
  end
  return done == last
end

local function allReplies()
  return '[' .. table.concat(replies, ',') .. ']'
end

-- Mostly nothing is left, and then the functions below are not even defined.
if areAllDone() then return allReplies() end
local wasTried = together[name .. ' ' .. keyCount]
${[...definitions].join("")}
${readersTogether}
-- Readers could not be done together before their functions were defined.
if not wasTried then doTogether() end
local operations = { ${scripts.map(({ name }) => `${name} = ${name}`).join(", ")} }
local function goOn()
  local operation = operations[name]
  while done < last do
    local ownFirst, ownAt = first, at
    first, at, done = first + keyCount, at + argCount, done + 1
    replies[done] = cjson.encode(operation(KEYS, ownFirst, first - 1, unpack(ARGV, ownAt, at - 1)))
  end
end
repeat
  -- One pcall for the whole run, and one more for each error, not one for each operation.
  while done < last do
    local ok, failure = pcall(goOn)
    if not ok then replies[done] = cjson.encode({ err = type(failure) == 'table' and failure.err or failure }) end
  end
until areAllDone()
return allReplies()
`);

/** The last batch, to be used again: in one turn, mostly every node is asked the same. */
let lastBatch: { readonly operations: readonly Operation[]; readonly command: Command } | undefined;

/** Makes one command of several operations. */
export function batchOf(operations: readonly Operation[]): Command {
  if (lastBatch !== undefined && isSame(lastBatch.operations, operations)) return lastBatch.command;
  const keys: string[] = [];
  const args: Argument[] = [];
  const sets: string[] = [];
  let run: Operation | undefined;
  let countAt = 0;
  for (const operation of operations) {
    if (run === undefined || !isSameShape(operation, run)) {
      run = operation;
      countAt = args.push(run.script.name, run.keys.length, run.args.length, 0) - 1;
    }
    args[countAt] = Number(args[countAt]) + 1;
    if (operation.sets !== undefined) sets.push(operation.sets);
    keys.push(...operation.keys);
    args.push(...operation.args);
  }
  const command = {
    command: "evalsha",
    args: [batchScript.sha1, keys.length, ...keys, ...args],
    script: batchScript,
    sets,
  };
  lastBatch = { operations, command };
  return command;
}

function isSameShape(one: Operation, other: Operation): boolean {
  return (
    one.script === other.script &&
    one.keys.length === other.keys.length &&
    one.args.length === other.args.length
  );
}

function isSame(some: readonly Operation[], others: readonly Operation[]): boolean {
  return some.length === others.length && some.every((one, index) => one === others[index]);
}

/** Returns the replies to the operations of a batch, with an error for each that failed. */
export function repliesOf(batchReply: unknown): unknown[] {
  const replies: unknown = typeof batchReply === "string" ? JSON.parse(batchReply) : undefined;
  if (!Array.isArray(replies)) throw strangeReply(batchReply, "a string");
  return replies.map((reply: unknown) =>
    typeof reply === "object" && reply !== null && "err" in reply
      ? replyError(String(reply.err))
      : reply,
  );
}
