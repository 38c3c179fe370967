import { replyError } from "../clients/connection.js";
import { acquireFencedScript } from "./acquire-fenced.js";
import { acquireScript } from "./acquire.js";
import { confirmFenceScript } from "./confirm-fence.js";
import { extendFencedScript } from "./extend-fenced.js";
import { extendScript } from "./extend.js";
import { handOverScript } from "./hand-over.js";
import { inspectScript } from "./inspect.js";
import { joinScript } from "./join.js";
import { leaveScript } from "./leave.js";
import { lookScript } from "./look.js";
import { releaseScript } from "./release.js";
import { acquireSharedScript, extendSharedScript, releaseSharedScript } from "./shared.js";
import { script } from "./script.js";
import { takeFencedScript } from "./take-fenced.js";
import { takeScript } from "./take.js";
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
];
/** Each definition once, even if several scripts use it. */
const definitions = new Set(scripts.flatMap(({ definitions }) => definitions));

/** Runs many operations in one command, in their order. An error of one is the reply of that one alone. */
export const batchScript = script(`${[...definitions].join("")}
-- KEYS: those of all operations, in their order. ARGV[1]: a JSON array with each operation's name, the number of its
-- keys, the number of its arguments, and the arguments.
-- Returns a JSON array of the replies; an error is {"err": its message}.
local operations = { ${scripts.map(({ name }) => `${name} = ${name}`).join(", ")} }
local batch = cjson.decode(ARGV[1])
local replies = {}
local first, at = 1, 1
while at <= #batch do
  local last = first + batch[at + 1] - 1
  local next = at + 3 + batch[at + 2]
  local ok, reply = pcall(operations[batch[at]], KEYS, first, last, unpack(batch, at + 3, next - 1))
  if not ok then reply = { err = type(reply) == 'table' and reply.err or reply } end
  replies[#replies + 1] = reply
  first, at = last + 1, next
end
return cjson.encode(replies)
`);

/** The last batch, to be used again: in one turn, mostly every node is asked the same. */
let lastBatch: { readonly operations: readonly Operation[]; readonly command: Command } | undefined;

/** Makes one command of several operations. */
export function batchOf(operations: readonly Operation[]): Command {
  if (lastBatch !== undefined && isSame(lastBatch.operations, operations)) return lastBatch.command;
  const keys: string[] = [];
  const batch: Argument[] = [];
  const sets: string[] = [];
  for (const { script, keys: own, args, sets: value } of operations) {
    if (value !== undefined) sets.push(value);
    for (const key of own) keys.push(key);
    batch.push(script.name, own.length, args.length, ...args);
  }
  const command = {
    command: "evalsha",
    args: [batchScript.sha1, keys.length, ...keys, JSON.stringify(batch)],
    script: batchScript,
    sets,
  };
  lastBatch = { operations, command };
  return command;
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
