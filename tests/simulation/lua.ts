// As much of Lua 5.1 as the library's scripts use, so that the simulated servers run those scripts
// themselves, and a changed script is a changed server. What it does not know it refuses.

export type LuaValue = undefined | boolean | number | string | LuaTable;

export class LuaTable {
  readonly entries = new Map<LuaValue, LuaValue>();

  static list(values: readonly LuaValue[]): LuaTable {
    const table = new LuaTable();
    for (const [index, value] of values.entries()) table.entries.set(index + 1, value);
    return table;
  }

  get(key: LuaValue): LuaValue {
    return this.entries.get(key);
  }

  set(key: LuaValue, value: LuaValue): void {
    if (value === undefined) this.entries.delete(key);
    else this.entries.set(key, value);
  }

  get length(): number {
    let length = 0;
    while (this.entries.has(length + 1)) length += 1;
    return length;
  }
}

export class LuaError extends Error {}

export type RedisCall = (args: readonly string[], isProtected: boolean) => LuaValue;

interface Frame {
  readonly slots: LuaValue[];
  readonly redis: RedisCall;
}

type Expression = (frame: Frame) => LuaValue;
interface Returned {
  readonly value: LuaValue;
}
type Statement = (frame: Frame) => Returned | undefined;

/** A script, ready to be run on KEYS and ARGV. */
export type Chunk = (
  keys: readonly string[],
  argv: readonly string[],
  redis: RedisCall,
) => LuaValue;

const compiled = new Map<string, Chunk>();

export function compile(text: string): Chunk {
  let chunk = compiled.get(text);
  if (chunk === undefined) {
    chunk = new Parser(text).chunk();
    compiled.set(text, chunk);
  }
  return chunk;
}

interface Token {
  readonly kind: "name" | "number" | "string" | "symbol" | "end";
  readonly text: string;
}

const KEYWORDS = new Set(
  "and do else elseif end false for if in local nil not or return then true while".split(" "),
);
const TOKEN =
  /\s+|--[^\n]*|([A-Za-z_]\w*)|(\d+(?:\.\d+)?)|'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(==|~=|<=|>=|\.\.|[-+*/%#<>=(){}[\],;.])/y;

function tokens(text: string): Token[] {
  const found: Token[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const from = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (match === null) throw new LuaError(`cannot read ${text.slice(from, from + 20)}`);
    const [, name, number, single, double, symbol] = match;
    const string = single ?? double;
    if (name !== undefined)
      found.push({ kind: KEYWORDS.has(name) ? "symbol" : "name", text: name });
    else if (number !== undefined) found.push({ kind: "number", text: number });
    else if (string !== undefined)
      found.push({ kind: "string", text: string.replace(/\\(.)/g, "$1") });
    else if (symbol !== undefined) found.push({ kind: "symbol", text: symbol });
  }
  found.push({ kind: "end", text: "the end" });
  return found;
}

const LEVELS: readonly (readonly string[])[] = [
  ["or"],
  ["and"],
  ["==", "~=", "<", "<=", ">", ">="],
  [".."],
  ["+", "-"],
  ["*", "/", "%"],
];

class Parser {
  readonly #tokens: Token[];
  #at = 0;
  #scope = [new Map<string, number>()];
  #slots = 0;

  constructor(text: string) {
    this.#tokens = tokens(text);
  }

  chunk(): Chunk {
    const keysSlot = this.#declare("KEYS");
    const argvSlot = this.#declare("ARGV");
    const body = this.#block();
    if (this.#token.kind !== "end") this.#refuse();
    return (keys, argv, redis) => {
      const frame: Frame = { slots: [], redis };
      frame.slots[keysSlot] = LuaTable.list(keys);
      frame.slots[argvSlot] = LuaTable.list(argv);
      return body(frame)?.value;
    };
  }

  get #token(): Token {
    return this.#tokens[this.#at] ?? { kind: "end", text: "the end" };
  }

  #next(): Token {
    const token = this.#token;
    this.#at += 1;
    return token;
  }

  #is(text: string): boolean {
    const { kind, text: found } = this.#token;
    return kind === "symbol" && found === text;
  }

  #skip(text: string): boolean {
    if (!this.#is(text)) return false;
    this.#at += 1;
    return true;
  }

  #expect(text: string): void {
    if (!this.#skip(text)) this.#refuse(` where ${text} is expected`);
  }

  #name(): string {
    const token = this.#next();
    if (token.kind !== "name") this.#refuse(" where a name is expected");
    return token.text;
  }

  #refuse(why = ""): never {
    throw new LuaError(`the simulated Lua does not know ${this.#token.text}${why}`);
  }

  #declare(name: string): number {
    this.#scope.at(-1)?.set(name, this.#slots);
    return this.#slots++;
  }

  #slotOf(name: string): number | undefined {
    return this.#scope.findLast((names) => names.has(name))?.get(name);
  }

  #block(): Statement {
    this.#scope.push(new Map());
    const statements: Statement[] = [];
    while (!["end", "else", "elseif"].some((word) => this.#is(word))) {
      if (this.#token.kind === "end") break;
      statements.push(this.#statement());
      this.#skip(";");
    }
    this.#scope.pop();
    return (frame) => {
      for (const statement of statements) {
        const returned = statement(frame);
        if (returned !== undefined) return returned;
      }
      return undefined;
    };
  }

  #statement(): Statement {
    if (this.#skip("local")) return this.#local();
    if (this.#skip("if")) return this.#if();
    if (this.#skip("for")) return this.#for();
    if (this.#skip("return")) {
      const ends = this.#token.kind === "end" || this.#is("end") || this.#is("else");
      const value = ends ? () => undefined : this.#expression();
      return (frame) => ({ value: value(frame) });
    }
    return this.#assignmentOrCall();
  }

  #local(): Statement {
    const name = this.#name();
    const value = this.#skip("=") ? this.#expression() : () => undefined;
    const slot = this.#declare(name);
    return (frame) => {
      frame.slots[slot] = value(frame);
      return undefined;
    };
  }

  #if(): Statement {
    const condition = this.#expression();
    this.#expect("then");
    const then = this.#block();
    let otherwise: Statement = () => undefined;
    if (this.#skip("elseif")) otherwise = this.#if();
    else {
      if (this.#skip("else")) otherwise = this.#block();
      this.#expect("end");
    }
    return (frame) => (isTrue(condition(frame)) ? then(frame) : otherwise(frame));
  }

  #for(): Statement {
    const name = this.#name();
    if (this.#skip("=")) return this.#numericFor(name);
    this.#expect(",");
    const valueName = this.#name();
    this.#expect("in");
    if (this.#name() !== "ipairs") this.#refuse(" where ipairs is expected");
    const list = this.#expression();
    return this.#loop([name, valueName], (frame, run, [indexSlot, valueSlot]) => {
      const table = asTable(list(frame));
      for (let index = 1; ; index++) {
        const value = table.get(index);
        if (value === undefined) return undefined;
        frame.slots[indexSlot ?? 0] = index;
        frame.slots[valueSlot ?? 0] = value;
        const returned = run(frame);
        if (returned !== undefined) return returned;
      }
    });
  }

  #numericFor(name: string): Statement {
    const first = this.#expression();
    this.#expect(",");
    const last = this.#expression();
    return this.#loop([name], (frame, run, [slot]) => {
      const end = asNumber(last(frame));
      for (let index = asNumber(first(frame)); index <= end; index++) {
        frame.slots[slot ?? 0] = index;
        const returned = run(frame);
        if (returned !== undefined) return returned;
      }
      return undefined;
    });
  }

  #loop(
    names: readonly string[],
    run: (frame: Frame, body: Statement, slots: readonly number[]) => Returned | undefined,
  ): Statement {
    this.#expect("do");
    this.#scope.push(new Map());
    const slots = names.map((name) => this.#declare(name));
    const body = this.#block();
    this.#scope.pop();
    this.#expect("end");
    return (frame) => run(frame, body, slots);
  }

  #assignmentOrCall(): Statement {
    const from = this.#at;
    const name = this.#name();
    const slot = this.#slotOf(name);
    if (slot !== undefined && this.#skip("=")) {
      const value = this.#expression();
      return (frame) => {
        frame.slots[slot] = value(frame);
        return undefined;
      };
    }
    if (slot !== undefined && this.#skip("[")) {
      const key = this.#expression();
      this.#expect("]");
      this.#expect("=");
      const value = this.#expression();
      return (frame) => {
        asTable(frame.slots[slot]).set(key(frame), value(frame));
        return undefined;
      };
    }
    this.#at = from;
    const call = this.#expression();
    return (frame) => {
      call(frame);
      return undefined;
    };
  }

  #expression(level = 0): Expression {
    const operators = LEVELS[level];
    if (operators === undefined) return this.#unary();
    let left = this.#expression(level + 1);
    for (;;) {
      const operator = operators.find((candidate) => this.#is(candidate));
      if (operator === undefined) return left;
      this.#next();
      left = binary(operator, left, this.#expression(level + 1));
    }
  }

  #unary(): Expression {
    if (this.#skip("not")) {
      const operand = this.#unary();
      return (frame) => !isTrue(operand(frame));
    }
    if (this.#skip("-")) {
      const operand = this.#unary();
      return (frame) => -asNumber(operand(frame));
    }
    if (this.#skip("#")) {
      const operand = this.#unary();
      return (frame) => {
        const value = operand(frame);
        return typeof value === "string" ? value.length : asTable(value).length;
      };
    }
    return this.#indexed(this.#primary());
  }

  #indexed(value: Expression): Expression {
    if (this.#skip("[")) {
      const key = this.#expression();
      this.#expect("]");
      return this.#indexed((frame) => asTable(value(frame)).get(key(frame)));
    }
    if (this.#skip(".")) {
      const key = this.#name();
      return this.#indexed((frame) => asTable(value(frame)).get(key));
    }
    return value;
  }

  #primary(): Expression {
    const { kind, text } = this.#next();
    if (kind === "number") {
      const number = Number(text);
      return () => number;
    }
    if (kind === "string") return () => text;
    if (kind === "name") return this.#variableOrCall(text);
    switch (text) {
      case "nil":
        return () => undefined;
      case "true":
        return () => true;
      case "false":
        return () => false;
      case "(": {
        const inner = this.#expression();
        this.#expect(")");
        return inner;
      }
      case "{":
        return this.#table();
      default:
        this.#at -= 1;
        return this.#refuse();
    }
  }

  #table(): Expression {
    const items: Expression[] = [];
    while (!this.#skip("}")) {
      items.push(this.#expression());
      if (!this.#is("}")) this.#expect(",");
    }
    return (frame) => LuaTable.list(items.map((item) => item(frame)));
  }

  #variableOrCall(name: string): Expression {
    const slot = this.#slotOf(name);
    if (slot !== undefined) return (frame) => frame.slots[slot];
    if (name === "redis") {
      this.#expect(".");
      const method = this.#name();
      if (method !== "call" && method !== "pcall") this.#refuse();
      const args = this.#arguments();
      return (frame) =>
        frame.redis(
          args.map((arg) => asText(arg(frame))),
          method === "pcall",
        );
    }
    const [argument] = this.#arguments();
    if (argument === undefined) return this.#refuse();
    if (name === "tostring") return (frame) => asText(argument(frame));
    if (name === "tonumber") {
      return (frame) => {
        const number = Number(argument(frame));
        return Number.isNaN(number) ? undefined : number;
      };
    }
    return this.#refuse();
  }

  #arguments(): Expression[] {
    this.#expect("(");
    const args: Expression[] = [];
    while (!this.#skip(")")) {
      args.push(this.#expression());
      if (!this.#is(")")) this.#expect(",");
    }
    return args;
  }
}

function binary(operator: string, left: Expression, right: Expression): Expression {
  switch (operator) {
    case "or":
      return (frame) => {
        const value = left(frame);
        return isTrue(value) ? value : right(frame);
      };
    case "and":
      return (frame) => {
        const value = left(frame);
        return isTrue(value) ? right(frame) : value;
      };
    case "==":
      return (frame) => left(frame) === right(frame);
    case "~=":
      return (frame) => left(frame) !== right(frame);
    case "..":
      return (frame) => asText(left(frame)) + asText(right(frame));
    default: {
      const compute = ARITHMETIC[operator];
      if (compute === undefined) throw new LuaError(`unknown operator ${operator}`);
      return (frame) => compute(asNumber(left(frame)), asNumber(right(frame)));
    }
  }
}

const ARITHMETIC: Record<string, (a: number, b: number) => number | boolean> = {
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
  "+": (a, b) => a + b,
  "-": (a, b) => a - b,
  "*": (a, b) => a * b,
  "/": (a, b) => a / b,
  "%": (a, b) => a - Math.floor(a / b) * b,
};

function isTrue(value: LuaValue): boolean {
  return value !== undefined && value !== false;
}

function asNumber(value: LuaValue): number {
  if (typeof value === "number") return value;
  throw new LuaError(`attempt to compute or compare with ${describe(value)}`);
}

function asTable(value: LuaValue): LuaTable {
  if (value instanceof LuaTable) return value;
  throw new LuaError(`attempt to index ${describe(value)}`);
}

function asText(value: LuaValue): string {
  if (typeof value === "string") return value;
  // As Lua's %.14g prints whole numbers below 1e14; others the scripts do not pass on.
  if (typeof value === "number") return String(value);
  throw new LuaError(`expected a string or a number, not ${describe(value)}`);
}

function describe(value: LuaValue): string {
  if (value === undefined) return "nil";
  return value instanceof LuaTable ? "a table" : typeof value;
}
