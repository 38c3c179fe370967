// The functions of Lua 5.1 that scripts in Redis have: those that need no pattern.

import { createHash } from "node:crypto";
import {
  asFunction,
  asNumber,
  asTable,
  asText,
  general,
  isTrue,
  LuaError,
  type LuaFunction,
  LuaTable,
  type LuaValue,
  numberIn,
  typeOf,
} from "./values.js";

export function toText(value: LuaValue): string {
  if (typeof value === "string" || typeof value === "number") return asText(value);
  return typeof value === "boolean" ? String(value) : typeOf(value);
}

function next(table: LuaValue, key: LuaValue): readonly LuaValue[] {
  let isFound = key === undefined;
  for (const entry of asTable(table).entries()) {
    if (isFound) return entry;
    isFound = entry[0] === key;
  }
  if (!isFound) throw new LuaError("invalid key to 'next'");
  return [undefined];
}

/** Goes on also where the script removes what it has just been given. */
function pairs(table: LuaValue): readonly LuaValue[] {
  const entries = asTable(table).entries();
  return [
    () => {
      const entry = entries.next();
      return entry.done === true ? [undefined] : entry.value;
    },
    table,
    undefined,
  ];
}

function nextOfList(table: LuaValue, index: LuaValue): readonly LuaValue[] {
  const following = asNumber(index) + 1;
  const value = asTable(table).get(following);
  return value === undefined ? [undefined] : [following, value];
}

function toNumber(value: LuaValue, base: LuaValue = 10): number | undefined {
  if (base === 10) return numberIn(value);
  const digits = asText(value).trim().toLowerCase();
  const number = Number.parseInt(digits, asNumber(base));
  return number.toString(asNumber(base)) === digits.replace(/^0+(?=.)/, "") ? number : undefined;
}

function pcall(body: LuaValue, ...args: LuaValue[]): readonly LuaValue[] {
  try {
    return [true, ...asFunction(body)(...args)];
  } catch (error) {
    if (!(error instanceof LuaError)) throw error;
    const field = error.value instanceof LuaTable ? error.value.get("err") : undefined;
    // Source: Redis, luaRedisPcall: an error of redis.call's is given as its text.
    return [false, typeof field === "string" ? field : error.value];
  }
}

function select(which: LuaValue, ...args: LuaValue[]): readonly LuaValue[] {
  if (which === "#") return [args.length];
  const from = asNumber(which);
  return from < 0 ? args.slice(from) : args.slice(from - 1);
}

function unpack(table: LuaValue, from: LuaValue = 1, to?: LuaValue): readonly LuaValue[] {
  const list = asTable(table);
  const values: LuaValue[] = [];
  const last = to === undefined ? list.length : asNumber(to);
  for (let index = asNumber(from); index <= last; index++) values.push(list.get(index));
  return values;
}

export const FUNCTIONS: ReadonlyMap<string, LuaFunction> = new Map<string, LuaFunction>([
  ["type", (value) => [typeOf(value)]],
  ["tostring", (value) => [toText(value)]],
  ["tonumber", (value, base) => [toNumber(value, base)]],
  ["next", next],
  ["pairs", pairs],
  ["ipairs", (table) => [nextOfList, asTable(table), 0]],
  ["select", select],
  ["unpack", unpack],
  ["pcall", pcall],
  ["rawequal", (a, b) => [a === b]],
  [
    "error",
    (value) => {
      throw new LuaError(value);
    },
  ],
  [
    "assert",
    (value, message = "assertion failed!", ...others) => {
      if (!isTrue(value)) throw new LuaError(message);
      return [value, message, ...others];
    },
  ],
]);

/** From 1, or from the end where negative; gives the bounds of a JavaScript slice. */
function slice(length: number, from: number, to: number): [number, number] {
  const first = from < 0 ? Math.max(length + from + 1, 1) : Math.max(from, 1);
  const last = to < 0 ? length + to + 1 : Math.min(to, length);
  return [first - 1, Math.max(last, first - 1)];
}

function find(text: LuaValue, part: LuaValue, from: LuaValue, plain: LuaValue): LuaValue[] {
  const sought = asText(part);
  if (!isTrue(plain) && /[\^$*+?.([%-]/.test(sought)) {
    throw new LuaError(`the simulated Lua knows no patterns such as ${sought}`);
  }
  const [start] = slice(asText(text).length, asNumber(from ?? 1), -1);
  const index = asText(text).indexOf(sought, start);
  return index === -1 ? [undefined] : [index + 1, index + sought.length];
}

const CONVERSION = /%([-+ #0]*)(\d*)(?:\.(\d+))?([a-zA-Z%])/g;

function format(template: LuaValue, ...args: LuaValue[]): string {
  let used = 0;
  return asText(template).replace(
    CONVERSION,
    (_, flags: string, width: string, digits: string | undefined, kind: string) => {
      if (kind === "%") return "%";
      const value = args[used++];
      const text = converted(kind, value, digits === undefined ? undefined : Number(digits));
      const signed =
        flags.includes("+") && kind !== "s" && asNumber(value) >= 0 ? `+${text}` : text;
      if (flags.includes("-")) return signed.padEnd(Number(width));
      if (!flags.includes("0") || kind === "s") return signed.padStart(Number(width));
      const [, sign = "", rest = ""] = /^([-+]?)(.*)$/s.exec(signed) ?? [];
      return sign + rest.padStart(Number(width) - sign.length, "0");
    },
  );
}

function fixed(value: number, digits: number): string {
  if (!Number.isFinite(value)) return general(value, 1);
  // Above this JavaScript writes an exponent.
  return Math.abs(value) < 1e21
    ? value.toFixed(digits)
    : `${BigInt(value)}.${"0".repeat(digits)}`.replace(/\.$/, "");
}

/** As C on x86: what is too large is the least number. */
function integer(value: LuaValue): bigint {
  const number = asNumber(value);
  return Math.abs(number) < 2 ** 63 ? BigInt(Math.trunc(number)) : -(2n ** 63n);
}

function converted(kind: string, value: LuaValue, digits: number | undefined): string {
  switch (kind) {
    case "d":
    case "i":
    case "u":
      return integer(value).toString();
    case "x":
      return BigInt.asUintN(64, integer(value)).toString(16);
    case "c":
      return String.fromCharCode(asNumber(value));
    case "f":
      return fixed(asNumber(value), digits ?? 6);
    case "g":
      return general(asNumber(value), digits ?? 6);
    case "s":
      return asText(value).slice(0, digits);
    default:
      throw new LuaError(`the simulated Lua does not know %${kind}`);
  }
}

export const STRING: ReadonlyMap<string, LuaFunction> = new Map<string, LuaFunction>([
  ["len", (text) => [asText(text).length]],
  [
    "sub",
    (text, from, to = -1) => {
      const whole = asText(text);
      return [whole.slice(...slice(whole.length, asNumber(from), asNumber(to)))];
    },
  ],
  ["rep", (text, count) => [asText(text).repeat(Math.max(0, asNumber(count)))]],
  ["upper", (text) => [asText(text).toUpperCase()]],
  ["lower", (text) => [asText(text).toLowerCase()]],
  ["reverse", (text) => [Array.from(asText(text)).reverse().join("")]],
  [
    "byte",
    (text, from = 1, to = from) => {
      const whole = asText(text);
      const bytes = whole.slice(...slice(whole.length, asNumber(from), asNumber(to)));
      return Array.from(bytes, (character) => character.charCodeAt(0));
    },
  ],
  ["char", (...codes) => [String.fromCharCode(...codes.map(asNumber))]],
  ["find", find],
  ["format", (template, ...args) => [format(template, ...args)]],
]);

function insert(table: LuaValue, ...args: LuaValue[]): readonly LuaValue[] {
  const list = asTable(table);
  const [position, value] = args.length === 1 ? [list.length + 1, args[0]] : args;
  const at = asNumber(position);
  for (let index = list.length; index >= at; index--) list.set(index + 1, list.get(index));
  list.set(at, value);
  return [];
}

function remove(table: LuaValue, position?: LuaValue): readonly LuaValue[] {
  const list = asTable(table);
  const last = list.length;
  if (last === 0) return [];
  const at = position === undefined ? last : asNumber(position);
  const removed = list.get(at);
  for (let index = at; index <= last; index++) list.set(index, list.get(index + 1));
  return [removed];
}

function concat(
  table: LuaValue,
  separator: LuaValue = "",
  from: LuaValue = 1,
  to?: LuaValue,
): readonly LuaValue[] {
  return [unpack(table, from, to).map(asText).join(asText(separator))];
}

export function isLess(a: LuaValue, b: LuaValue): boolean {
  if (typeof a === "number" && typeof b === "number") return a < b;
  if (typeof a === "string" && typeof b === "string") return a < b;
  throw new LuaError(`attempt to compare ${typeOf(a)} with ${typeOf(b)}`);
}

export function isAtMost(a: LuaValue, b: LuaValue): boolean {
  if (typeof a === "number" && typeof b === "number") return a <= b;
  return !isLess(b, a);
}

function sort(table: LuaValue, isBefore?: LuaValue): readonly LuaValue[] {
  const list = asTable(table);
  const less = (a: LuaValue, b: LuaValue): boolean =>
    isBefore === undefined ? isLess(a, b) : isTrue(asFunction(isBefore)(a, b)[0]);
  const sorted = unpack(list).toSorted((a, b) => (less(a, b) ? -1 : Number(less(b, a))));
  for (const [index, value] of sorted.entries()) list.set(index + 1, value);
  return [];
}

export const TABLE: ReadonlyMap<string, LuaFunction> = new Map<string, LuaFunction>([
  ["insert", insert],
  ["remove", remove],
  ["concat", concat],
  ["sort", sort],
  ["getn", (table) => [asTable(table).length]],
]);

function remainder(a: number, b: number): number {
  return a % b;
}

export const MATH: ReadonlyMap<string, LuaFunction | number> = new Map<
  string,
  LuaFunction | number
>([
  ["huge", Infinity],
  ["pi", Math.PI],
  ["floor", (value) => [Math.floor(asNumber(value))]],
  ["ceil", (value) => [Math.ceil(asNumber(value))]],
  ["abs", (value) => [Math.abs(asNumber(value))]],
  ["sqrt", (value) => [Math.sqrt(asNumber(value))]],
  ["max", (...values) => [Math.max(...values.map(asNumber))]],
  ["min", (...values) => [Math.min(...values.map(asNumber))]],
  ["fmod", (a, b) => [remainder(asNumber(a), asNumber(b))]],
  ["pow", (a, b) => [asNumber(a) ** asNumber(b)]],
]);

function field(name: string, value: LuaValue): LuaTable {
  const table = new LuaTable();
  table.set(name, asText(value));
  return table;
}

/** `redis.call` and `redis.pcall` are the server's. */
export const REDIS: ReadonlyMap<string, LuaFunction> = new Map<string, LuaFunction>([
  [
    "error_reply",
    (value) => {
      const text = asText(value);
      // Source: Redis, luaRedisReturnSingleFieldTable: a text without a code is given one.
      return [field("err", text.includes(" ") ? text.replace(/^-/, "") : `ERR ${text}`)];
    },
  ],
  ["status_reply", (value) => [field("ok", value)]],
  ["sha1hex", (value) => [createHash("sha1").update(asText(value)).digest("hex")]],
]);

function fromJson(value: unknown): LuaValue {
  if (Array.isArray(value)) return LuaTable.list(value.map(fromJson));
  if (typeof value === "object" && value !== null) {
    const table = new LuaTable();
    for (const [key, member] of Object.entries(value)) table.set(key, fromJson(member));
    return table;
  }
  if (value === null) throw new LuaError("the simulated Lua has no cjson.null");
  return value as string | number | boolean;
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw new LuaError("Expected value but found invalid token");
  }
}

function toJson(value: LuaValue): string {
  if (typeof value === "string" || typeof value === "boolean") return JSON.stringify(value);
  if (typeof value === "number") return general(value, 14);
  if (!(value instanceof LuaTable)) {
    throw new LuaError(`Cannot serialise ${typeOf(value)}: type not supported`);
  }
  const members = [...value.entries()];
  // Source: Lua CJSON, manual: a table whose keys are all positive integers is an array, and {} is an object.
  if (members.length > 0 && members.length === value.length) {
    return `[${members.map(([, member]) => toJson(member)).join(",")}]`;
  }
  const pairs = members.map(([key, member]) => `${JSON.stringify(asText(key))}:${toJson(member)}`);
  return `{${pairs.join(",")}}`;
}

export const CJSON: ReadonlyMap<string, LuaFunction> = new Map<string, LuaFunction>([
  ["decode", (text) => [fromJson(parsed(asText(text)))]],
  ["encode", (value) => [toJson(value)]],
]);
