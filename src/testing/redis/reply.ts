import { LuaTable, type LuaValue } from "../lua/values.js";

/** What a client library gives for a reply: a status or bulk string, an integer, null, a list; in a list also an error. */
export type Reply = string | number | null | ReplyError | readonly Reply[];

/** An error reply, as ioredis names it. */
export class ReplyError extends Error {
  override readonly name = "ReplyError";
}

export function field(name: string, value: string): LuaTable {
  const table = new LuaTable();
  table.set(name, value);
  return table;
}

export function toLua(reply: Reply): LuaValue {
  if (reply === null) return false;
  if (typeof reply === "string" || typeof reply === "number") return reply;
  if (reply instanceof ReplyError) return field("err", reply.message);
  return LuaTable.list(reply.map(toLua));
}

/** Source: Redis, luaReplyToRedisReply: numbers lose their fraction, a list ends at its first nil. */
export function toReply(value: LuaValue): Reply {
  if (value === undefined || value === false || typeof value === "function") return null;
  if (value === true) return 1;
  if (typeof value === "number") return Math.trunc(value) + 0;
  if (typeof value === "string") return value;
  const error = value.get("err");
  if (typeof error === "string") return new ReplyError(error);
  const status = value.get("ok");
  if (typeof status === "string") return status;
  const replies: Reply[] = [];
  for (let index = 1; value.get(index) !== undefined; index++) {
    replies.push(toReply(value.get(index)));
  }
  return replies;
}
