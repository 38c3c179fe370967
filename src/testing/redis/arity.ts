import { ReplyError } from "./reply.js";

/** How many words each command has, itself included; where negative, at least. Source: COMMAND INFO. */
const ARITIES: Readonly<Record<string, number>> = {
  set: -3,
  get: 2,
  del: -2,
  exists: -2,
  type: 2,
  pttl: 2,
  pexpire: -3,
  pexpireat: -3,
  persist: 2,
  time: 1,
  publish: 3,
  hset: -4,
  hget: 3,
  hdel: -3,
  zadd: -4,
  zrange: -4,
  zremrangebyscore: 4,
  zrem: -3,
  zcard: 2,
  zcount: 4,
  zscore: 3,
  zrank: 3,
};

function fits(arity: number, argumentCount: number): boolean {
  return arity > 0 ? argumentCount + 1 === arity : argumentCount + 1 >= -arity;
}

/** Throws the error of a server for a command that it does not know, or with too few or too many words. */
export function checkFromClient(name: string, argumentCount: number): void {
  const arity = ARITIES[name];
  if (arity === undefined) throw new ReplyError(`ERR unknown command '${name}'`);
  if (!fits(arity, argumentCount)) {
    throw new ReplyError(`ERR wrong number of arguments for '${name}' command`);
  }
}

/** The same for a command that a script calls. */
export function checkFromScript(name: string, wordCount: number): void {
  if (wordCount === 0) {
    throw new ReplyError("ERR Please specify at least one argument for this redis lib call");
  }
  const arity = ARITIES[name];
  if (arity === undefined) throw new ReplyError("ERR Unknown Redis command called from script");
  if (!fits(arity, wordCount - 1)) {
    throw new ReplyError("ERR Wrong number of args calling Redis command from script");
  }
}
