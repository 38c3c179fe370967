import { CJSON, isAtMost, isLess, MATH, REDIS, STRING, TABLE } from "./library.js";
import {
  asFunction,
  asNumber,
  asTable,
  asText,
  isTrue,
  LuaError,
  type LuaFunction,
  LuaTable,
  type LuaValue,
} from "./values.js";

/** What the translated scripts call, by these names. */
export const RUNTIME = {
  isTrue,
  asNumber,
  asTable,
  asText,
  asFunction,
  isLess,
  isAtMost,
  add: (a: LuaValue, b: LuaValue): number =>
    typeof a === "number" && typeof b === "number" ? a + b : asNumber(a) + asNumber(b),
  modulo: (a: LuaValue, b: LuaValue): number => {
    const [value, divisor] = [asNumber(a), asNumber(b)];
    return value - Math.floor(value / divisor) * divisor;
  },
  join: (a: LuaValue, b: LuaValue): string => asText(a) + asText(b),
  lengthOf: (value: LuaValue): number =>
    typeof value === "string" ? value.length : asTable(value).length,
  index: (value: LuaValue, key: LuaValue): LuaValue =>
    typeof value === "string" ? STRING.get(asText(key)) : asTable(value).get(key),
  tableOf: (items: readonly LuaValue[], fields: readonly [LuaValue, LuaValue][]): LuaTable => {
    const table = LuaTable.list(items);
    for (const [key, value] of fields) table.set(key, value);
    return table;
  },
  /** `error` called by the script itself, which puts the place before the text. */
  raise: (line: number, value: LuaValue, level: LuaValue = 1): never => {
    const isPlaced = typeof value === "string" && level === 1;
    throw new LuaError(isPlaced ? `user_script:${line}: ${value}` : value);
  },
  nonexistent: (line: number, name: string): never => {
    throw new LuaError(
      `user_script:${line}: Script attempted to access nonexistent global variable '${name}'`,
    );
  },
  readOnly: (): never => {
    throw new LuaError("Attempt to modify a readonly table");
  },
};

/** The libraries of which a script may use a member, by name. */
export const LIBRARIES: ReadonlyMap<string, ReadonlyMap<string, LuaFunction | number>> = new Map([
  ["string", STRING],
  ["table", TABLE],
  ["math", MATH],
  ["redis", REDIS],
  ["cjson", CJSON],
]);
