// The values of Lua 5.1, as JavaScript's. Strings are JavaScript's own: `#` counts bytes in ASCII only.

export type LuaFunction = (...args: LuaValue[]) => readonly LuaValue[];
/** `undefined` is nil. */
export type LuaValue = undefined | boolean | number | string | LuaTable | LuaFunction;

export class LuaTable {
  /** The keys 1 to its length. */
  readonly #list: LuaValue[] = [];
  #others: Map<LuaValue, LuaValue> | undefined;

  static list(values: readonly LuaValue[]): LuaTable {
    const table = new LuaTable();
    for (const value of values) table.#list.push(value);
    table.#trim();
    return table;
  }

  get length(): number {
    return this.#list.length;
  }

  get(key: LuaValue): LuaValue {
    if (typeof key === "number" && key >= 1 && key <= this.#list.length) {
      return this.#list[key - 1];
    }
    return this.#others?.get(key);
  }

  set(key: LuaValue, value: LuaValue): void {
    const { length } = this.#list;
    if (typeof key === "number" && key >= 1 && key <= length && Number.isInteger(key)) {
      this.#list[key - 1] = value;
      if (value === undefined) this.#trim();
    } else if (key === length + 1 && value !== undefined) {
      this.#list.push(value);
      this.#takeOver(key);
    } else if (value === undefined) this.#others?.delete(key);
    else if (key === undefined || Number.isNaN(key)) {
      throw new LuaError(`table index is ${key === undefined ? "nil" : "NaN"}`);
    } else (this.#others ??= new Map()).set(key, value);
  }

  /** The list in its order, then the others. */
  *entries(): Generator<[LuaValue, LuaValue]> {
    for (let index = 0; index < this.#list.length; index++) {
      const value = this.#list[index];
      if (value !== undefined) yield [index + 1, value];
    }
    if (this.#others !== undefined) yield* this.#others;
  }

  /** A list ends at no nil. */
  #trim(): void {
    while (this.#list.length > 0 && this.#list.at(-1) === undefined) this.#list.pop();
  }

  /** Keys that were set before those below them. */
  #takeOver(key: number): void {
    const others = this.#others;
    if (others === undefined) return;
    others.delete(key);
    for (let next = key + 1; others.has(next); next++) {
      this.#list.push(others.get(next));
      others.delete(next);
    }
  }
}

/** What `error` raises: any value, in Redis often a table with the field `err`. */
export class LuaError extends Error {
  readonly value: LuaValue;

  constructor(value: LuaValue) {
    const field = value instanceof LuaTable ? value.get("err") : value;
    super(typeof field === "string" ? field : typeOf(value));
    this.value = value;
  }
}

export function typeOf(value: LuaValue): string {
  if (value === undefined) return "nil";
  return value instanceof LuaTable ? "table" : typeof value;
}

export function isTrue(value: LuaValue): boolean {
  return value !== undefined && value !== false;
}

/** C's `%.<digits>g`. */
export function general(value: number, digits: number): string {
  if (!Number.isFinite(value)) {
    if (Number.isNaN(value)) return "-nan";
    return value > 0 ? "inf" : "-inf";
  }
  if (Object.is(value, -0)) return "-0";
  if (Number.isInteger(value) && Math.abs(value) < 10 ** Math.min(digits, 15)) return String(value);
  const [mantissa = "", exponent = ""] = value.toExponential(digits - 1).split("e");
  const power = Number(exponent);
  if (power >= -4 && power < digits) return withoutZeros(value.toFixed(digits - 1 - power));
  const sign = power < 0 ? "-" : "+";
  return `${withoutZeros(mantissa)}e${sign}${String(Math.abs(power)).padStart(2, "0")}`;
}

function withoutZeros(decimal: string): string {
  return decimal.includes(".") ? decimal.replace(/\.?0+$/, "") : decimal;
}

const DECIMAL = /^\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*$/;
const NOT_FINITE = /^\s*([-+]?)(inf|nan)(?:inity)?\s*$/i;
const HEXADECIMAL = /^\s*(-?)\+?(0[xX][\dA-Fa-f]+)\s*$/;

/** As `tonumber` does it. */
export function numberIn(value: LuaValue): number | undefined {
  if (typeof value === "number") return value;
  if (typeof value !== "string") return undefined;
  if (DECIMAL.test(value)) return Number(value);
  const [, sign, word] = NOT_FINITE.exec(value) ?? [];
  if (word !== undefined) return word.toLowerCase() === "nan" ? NaN : Number(`${sign}Infinity`);
  const [, minus, digits] = HEXADECIMAL.exec(value) ?? [];
  if (digits === undefined) return undefined;
  return minus === "-" ? -Number(digits) : Number(digits);
}

export function asNumber(value: LuaValue): number {
  const number = numberIn(value);
  if (number !== undefined) return number;
  throw new LuaError(`attempt to perform arithmetic on a ${typeOf(value)} value`);
}

/** The strings and numbers that `..` and the string functions take. */
export function asText(value: LuaValue): string {
  if (typeof value === "string") return value;
  if (typeof value === "number") return general(value, 14);
  throw new LuaError(`attempt to concatenate a ${typeOf(value)} value`);
}

export function asTable(value: LuaValue): LuaTable {
  if (value instanceof LuaTable) return value;
  throw new LuaError(`attempt to index a ${typeOf(value)} value`);
}

export function asFunction(value: LuaValue): LuaFunction {
  if (typeof value === "function") return value;
  throw new LuaError(`attempt to call a ${typeOf(value)} value`);
}
