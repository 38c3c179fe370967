import { general } from "../lua/values.js";
import { float, integer, syntaxError } from "./arguments.js";
import type { Keyspace, Member } from "./keyspace.js";
import { type Reply, ReplyError } from "./reply.js";

/** Executes a command on a sorted set. */
export function sortedSet(
  keyspace: Keyspace,
  command: string,
  key: string,
  args: readonly string[],
): Reply {
  const [first = "", second = ""] = args;
  switch (command) {
    case "zadd":
      return zadd(keyspace, key, args);
    case "zrange":
      return zrange(first, second, args.slice(2), () => membersOf(keyspace, key));
    case "zremrangebyscore": {
      const isIn = scoreRange(first, second);
      const members = membersOf(keyspace, key);
      return keep(
        keyspace,
        key,
        members.filter(({ score }) => !isIn(score)),
      );
    }
    case "zrem": {
      const members = membersOf(keyspace, key);
      return keep(
        keyspace,
        key,
        members.filter(({ member }) => !args.includes(member)),
      );
    }
    case "zcard":
      return membersOf(keyspace, key).length;
    case "zcount": {
      const isIn = scoreRange(first, second);
      return membersOf(keyspace, key).filter(({ score }) => isIn(score)).length;
    }
    case "zscore": {
      const found = membersOf(keyspace, key).find(({ member }) => member === first);
      return found === undefined ? null : general(found.score, 17);
    }
    case "zrank": {
      const rank = membersOf(keyspace, key).findIndex(({ member }) => member === first);
      return rank === -1 ? null : rank;
    }
    default:
      throw new Error(`${command} has an arity, but is not written`);
  }
}

function membersOf(keyspace: Keyspace, key: string): readonly Member[] {
  return keyspace.typed(key, "zset")?.members ?? [];
}

/** Keeps these of the set's members, and gives how many are gone. */
function keep(keyspace: Keyspace, key: string, members: readonly Member[]): number {
  const entry = keyspace.get(key);
  if (entry === undefined) return 0;
  const gone = entry.members.length - members.length;
  if (members.length === 0) keyspace.delete(key);
  else if (gone > 0) keyspace.set(key, { ...entry, members });
  return gone;
}

function zadd(keyspace: Keyspace, key: string, args: readonly string[]): number {
  const count = args.findIndex((word) => !/^(?:nx|xx|gt|lt|ch)$/i.test(word));
  const options = new Set(args.slice(0, count).map((word) => word.toUpperCase()));
  const pairs = args.slice(count);
  if (count === -1 || pairs.length % 2 !== 0) throw syntaxError();
  if (options.has("NX") && options.has("XX")) {
    throw new ReplyError("ERR XX and NX options at the same time are not compatible");
  }
  if (Number(options.has("NX")) + Number(options.has("GT")) + Number(options.has("LT")) > 1) {
    throw new ReplyError("ERR GT, LT, and/or NX options at the same time are not compatible");
  }
  const given = Array.from({ length: pairs.length / 2 }, (_, index) => ({
    score: float(pairs[2 * index]),
    member: pairs[2 * index + 1] ?? "",
  }));
  const scores = new Map(membersOf(keyspace, key).map(({ member, score }) => [member, score]));
  let added = 0;
  let changed = 0;
  for (const { score, member } of given) {
    const old = scores.get(member);
    if (old === undefined ? options.has("XX") : options.has("NX")) continue;
    if (old !== undefined && options.has("GT") && score <= old) continue;
    if (old !== undefined && options.has("LT") && score >= old) continue;
    if (old === undefined) added += 1;
    else if (old !== score) changed += 1;
    scores.set(member, score);
  }
  if (added + changed > 0) {
    const members = Array.from(scores, ([member, score]) => ({ member, score })).sort(inOrder);
    const expiresAtMs = keyspace.get(key)?.expiresAtMs ?? Infinity;
    keyspace.set(key, { type: "zset", value: "", members, expiresAtMs });
  }
  return options.has("CH") ? added + changed : added;
}

function inOrder(a: Member, b: Member): number {
  if (a.score !== b.score) return a.score - b.score;
  return a.member < b.member ? -1 : Number(a.member > b.member);
}

/** Bounds that begin with a bracket are left out. */
function scoreRange(least: string, most: string): (score: number) => boolean {
  const [from, to] = [least, most].map((bound) =>
    float(bound.replace(/^\(/, ""), "ERR min or max is not a float"),
  );
  return (score) =>
    (least.startsWith("(") ? score > Number(from) : score >= Number(from)) &&
    (most.startsWith("(") ? score < Number(to) : score <= Number(to));
}

function zrange(
  first: string,
  last: string,
  words: readonly string[],
  members: () => readonly Member[],
): Reply {
  const options = new Set<string>();
  let limit: [number, number] | undefined;
  for (let index = 0; index < words.length; index++) {
    const word = words[index]?.toUpperCase() ?? "";
    if (word === "LIMIT" && index + 2 < words.length) {
      limit = [integer(words[index + 1]), integer(words[index + 2])];
      index += 2;
    } else if (["BYSCORE", "REV", "WITHSCORES"].includes(word)) options.add(word);
    else throw syntaxError();
  }
  if (limit !== undefined && !options.has("BYSCORE")) {
    throw new ReplyError(
      "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
    );
  }
  const isReversed = options.has("REV");
  const ranged = options.has("BYSCORE")
    ? byScore(isReversed ? [last, first] : [first, last], isReversed, limit, members)
    : byRank(integer(first), integer(last), isReversed, members());
  return ranged.flatMap(({ member, score }) =>
    options.has("WITHSCORES") ? [member, general(score, 17)] : [member],
  );
}

function byScore(
  [least, most]: [string, string],
  isReversed: boolean,
  limit: [number, number] | undefined,
  members: () => readonly Member[],
): readonly Member[] {
  const isIn = scoreRange(least, most);
  const found = members().filter(({ score }) => isIn(score));
  if (isReversed) found.reverse();
  if (limit === undefined) return found;
  const [offset, count] = limit;
  if (offset < 0) return [];
  return found.slice(offset, count < 0 ? undefined : offset + count);
}

function byRank(
  first: number,
  last: number,
  isReversed: boolean,
  members: readonly Member[],
): readonly Member[] {
  const ordered = isReversed ? members.toReversed() : members;
  const from = first < 0 ? Math.max(0, ordered.length + first) : first;
  return ordered.slice(from, last < 0 ? Math.max(0, ordered.length + last + 1) : last + 1);
}
