// As much of Lua 5.1 as scripts in Redis use, so that the simulated servers run the library's own
// scripts, and a changed script is a changed server. A script is translated to JavaScript once.
// What is missing (patterns, metatables, goto) it refuses.

import { compileFunction } from "node:vm";
import { CJSON, FUNCTIONS, isAtMost, isLess, MATH, REDIS, STRING, TABLE } from "./lua-library.js";
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
} from "./lua-values.js";

export { LuaError, LuaTable, type LuaValue } from "./lua-values.js";

/** `redis.call`, and `redis.pcall` where it is protected. */
export type RedisCall = (args: readonly LuaValue[], isProtected: boolean) => LuaValue;

/** A script, ready to be run on KEYS and ARGV. */
export type Chunk = (keys: LuaTable, argv: LuaTable, redis: RedisCall) => readonly LuaValue[];

const compiled = new Map<string, Chunk>();

/** Throws a LuaError where the text is no script. */
export function compile(text: string): Chunk {
  let chunk = compiled.get(text);
  if (chunk === undefined) {
    chunk = new Translator(text).chunk();
    compiled.set(text, chunk);
  }
  return chunk;
}

/** What the translated scripts call, by these names. */
const RUNTIME = {
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

const LIBRARIES: ReadonlyMap<string, ReadonlyMap<string, LuaFunction | number>> = new Map([
  ["string", STRING],
  ["table", TABLE],
  ["math", MATH],
  ["redis", REDIS],
  ["cjson", CJSON],
]);

interface Token {
  readonly kind: "name" | "number" | "string" | "symbol" | "end";
  readonly text: string;
  readonly line: number;
}

const KEYWORDS = new Set(
  (
    "and break do else elseif end false for function if in local nil not or repeat return then " +
    "true until while"
  ).split(" "),
);
const TOKEN =
  /\s+|--\[\[[^]*?\]\]|--[^\n]*|([A-Za-z_]\w*)|(0[xX][\dA-Fa-f]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|'((?:[^'\\\n]|\\[^])*)'|"((?:[^"\\\n]|\\[^])*)"|\[\[\n?([^]*?)\]\]|(\.\.\.|\.\.|==|~=|<=|>=|[-+*/%^#<>=(){}[\],;:.])/y;
const ESCAPE = /\\(\d{1,3}|[^])/g;
const ESCAPES: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", a: "\x07", b: "\b" };

function unescaped(text: string): string {
  return text.replace(ESCAPE, (_, what: string) =>
    /\d/.test(what) ? String.fromCharCode(Number(what)) : (ESCAPES[what] ?? what),
  );
}

function tokens(text: string): Token[] {
  const found: Token[] = [];
  let line = 1;
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const from = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (match === null) {
      throw new LuaError(
        `Error compiling script (new function): cannot read ${text.slice(from, from + 20)}`,
      );
    }
    const [all, name, number, single, double, long, symbol] = match;
    const quoted = single ?? double;
    if (name !== undefined) {
      found.push({ kind: KEYWORDS.has(name) ? "symbol" : "name", text: name, line });
    } else if (number !== undefined) found.push({ kind: "number", text: number, line });
    else if (quoted !== undefined) found.push({ kind: "string", text: unescaped(quoted), line });
    else if (long !== undefined) found.push({ kind: "string", text: long, line });
    else if (symbol !== undefined) found.push({ kind: "symbol", text: symbol, line });
    line += all.split("\n").length - 1;
  }
  found.push({ kind: "end", text: "<eof>", line });
  return found;
}

/** An expression in JavaScript. */
interface Expression {
  readonly js: string;
  /** Gives an array of values, not one value. */
  readonly many?: boolean;
  /** Stands as a statement, too. */
  readonly isCall?: boolean;
  /** Gives true or false. */
  readonly isBoolean?: boolean;
  /** Assigns what it is given the JavaScript of. */
  readonly assign?: (value: string) => string;
  /** The table and the key by which it is indexed. */
  readonly place?: readonly [string, string];
}

const ARITHMETIC: Readonly<Record<string, string>> = { "-": "-", "*": "*", "/": "/", "^": "**" };

/** Binary operators by how strongly they bind to the left and to the right. Source: Lua 5.1, lparser.c. */
const PRIORITIES: ReadonlyMap<string, readonly [number, number]> = new Map([
  ["or", [1, 1]],
  ["and", [2, 2]],
  ["<", [3, 3]],
  [">", [3, 3]],
  ["<=", [3, 3]],
  [">=", [3, 3]],
  ["~=", [3, 3]],
  ["==", [3, 3]],
  ["..", [5, 4]],
  ["+", [6, 6]],
  ["-", [6, 6]],
  ["*", [7, 7]],
  ["/", [7, 7]],
  ["%", [7, 7]],
  ["^", [10, 9]],
]);
const UNARY_PRIORITY = 8;

class Translator {
  readonly #tokens: readonly Token[];
  #at = 0;
  /** The variables in sight, by their names in Lua. */
  #scopes = [new Map<string, string>()];
  #names = 0;
  /** Where the function that is translated keeps what its expressions need twice. */
  #temporaries: string[] = [];
  #hasRest = false;
  /** What the script uses of the library. */
  readonly #constants: unknown[] = [];

  constructor(text: string) {
    this.#tokens = tokens(text);
  }

  chunk(): Chunk {
    const [keys, argv] = [this.#declare("KEYS"), this.#declare("ARGV")];
    const body = this.#body();
    if (this.#token.kind !== "end") this.#refuse();
    const constants = this.#constants.map((_, index) => `k${index}`);
    const make = compileFunction(
      `const { ${Object.keys(RUNTIME).join(", ")} } = runtime; const [${constants.join(", ")}] = constants;
      return (${keys}, ${argv}, redis) => { ${body} };`,
      ["runtime", "constants"],
    ) as (runtime: typeof RUNTIME, constants: readonly unknown[]) => Chunk;
    return make(RUNTIME, this.#constants);
  }

  get #token(): Token {
    return this.#tokens[this.#at] ?? { kind: "end", text: "<eof>", line: 0 };
  }

  #next(): Token {
    const token = this.#token;
    this.#at += 1;
    return token;
  }

  #is(...texts: string[]): boolean {
    const { kind, text } = this.#token;
    return kind === "symbol" && texts.includes(text);
  }

  #skip(text: string): boolean {
    if (!this.#is(text)) return false;
    this.#at += 1;
    return true;
  }

  #expect(text: string): void {
    if (!this.#skip(text)) this.#refuse(`'${text}' expected`);
  }

  #name(): string {
    if (this.#token.kind !== "name") this.#refuse("<name> expected");
    return this.#next().text;
  }

  #refuse(why = "unexpected symbol"): never {
    const { text, line } = this.#token;
    throw new LuaError(
      `Error compiling script (new function): user_script:${line}: ${why} near '${text}'`,
    );
  }

  #fresh(name = "t"): string {
    return `${name}_${this.#names++}`;
  }

  #declare(name: string): string {
    const variable = this.#fresh(name);
    this.#scopes.at(-1)?.set(name, variable);
    return variable;
  }

  #variable(name: string): string | undefined {
    return this.#scopes.findLast((names) => names.has(name))?.get(name);
  }

  /** Translates within a scope of its own. */
  #scoped<T>(translate: () => T): T {
    this.#scopes.push(new Map());
    const result = translate();
    this.#scopes.pop();
    return result;
  }

  #block(): string {
    return this.#scoped(() => this.#statements());
  }

  #statements(): string {
    const statements: string[] = [];
    while (this.#token.kind !== "end" && !this.#is("end", "else", "elseif", "until")) {
      const isLast = this.#is("return", "break");
      statements.push(this.#statement());
      this.#skip(";");
      if (isLast) break;
    }
    return statements.join("\n");
  }

  #statement(): string {
    if (this.#skip("local")) {
      return this.#skip("function") ? this.#localFunction() : this.#local();
    }
    if (this.#skip("if")) return this.#if();
    if (this.#skip("for")) return this.#for();
    if (this.#skip("while")) {
      const condition = this.#condition();
      this.#expect("do");
      return `while (${condition}) { ${this.#bodyToEnd()} }`;
    }
    if (this.#skip("repeat")) return this.#repeat();
    if (this.#skip("do")) return `{ ${this.#bodyToEnd()} }`;
    if (this.#skip("break")) return "break;";
    if (this.#skip("return")) {
      const ends = this.#token.kind === "end" || this.#is("end", "else", "elseif", "until", ";");
      return `return ${ends ? "[]" : valuesOf(this.#expressions())};`;
    }
    return this.#assignmentOrCall();
  }

  #bodyToEnd(): string {
    const body = this.#block();
    this.#expect("end");
    return body;
  }

  #local(): string {
    const names = [this.#name()];
    while (this.#skip(",")) names.push(this.#name());
    const values = this.#skip("=") ? this.#expressions() : [];
    const variables = names.map((name) => this.#declare(name));
    const [value] = values;
    if (variables.length === 1 && values.length <= 1) {
      return `let ${variables.join("")} = ${value === undefined ? "undefined" : oneOf(value)};`;
    }
    const given = this.#fresh();
    const assigned = variables.map((variable, index) => `${variable} = ${given}[${index}]`);
    return `const ${given} = ${valuesOf(values)}; let ${assigned.join(", ")};`;
  }

  #localFunction(): string {
    const variable = this.#declare(this.#name());
    return `let ${variable} = ${this.#function()};`;
  }

  #if(): string {
    const condition = this.#condition();
    this.#expect("then");
    const then = `if (${condition}) { ${this.#block()} }`;
    if (this.#skip("elseif")) return `${then} else ${this.#if()}`;
    const otherwise = this.#skip("else") ? ` else { ${this.#block()} }` : "";
    this.#expect("end");
    return then + otherwise;
  }

  #repeat(): string {
    // The condition sees the body's variables.
    return this.#scoped(() => {
      const body = this.#statements();
      this.#expect("until");
      return `for (;;) { ${body}\nif (${this.#condition()}) break; }`;
    });
  }

  #for(): string {
    const names = [this.#name()];
    if (this.#skip("=")) return this.#numericFor(names);
    while (this.#skip(",")) names.push(this.#name());
    this.#expect("in");
    const start = valuesOf(this.#expressions());
    const call = this.#fresh("f");
    const state = this.#fresh("s");
    const control = this.#fresh("c");
    const found = this.#fresh("r");
    return `{ let [${call}, ${state}, ${control}] = ${start};
      for (;;) {
        const ${found} = asFunction(${call})(${state}, ${control});
        ${control} = ${found}[0];
        if (${control} === undefined) break;
        ${this.#loopBody(names, (index) => `${found}[${index}]`)}
      } }`;
  }

  #numericFor(names: readonly string[]): string {
    const first = oneOf(this.#expression());
    this.#expect(",");
    const last = oneOf(this.#expression());
    const step = this.#skip(",") ? oneOf(this.#expression()) : "1";
    const at = this.#fresh("i");
    const end = this.#fresh("end");
    const by = this.#fresh("by");
    return `for (let ${at} = asNumber(${first}), ${end} = asNumber(${last}), ${by} = asNumber(${step});
      ${by} > 0 ? ${at} <= ${end} : ${at} >= ${end}; ${at} += ${by}) { ${this.#loopBody(names, () => at)} }`;
  }

  #loopBody(names: readonly string[], value: (index: number) => string): string {
    this.#expect("do");
    return this.#scoped(() => {
      const variables = names.map((name, index) => `${this.#declare(name)} = ${value(index)}`);
      return `let ${variables.join(", ")}; ${this.#bodyToEnd()}`;
    });
  }

  #assignmentOrCall(): string {
    const first = this.#suffixed();
    if (!this.#is("=", ",")) {
      if (first.isCall !== true) this.#refuse("syntax error");
      return `${first.js};`;
    }
    const targets = [first];
    while (this.#skip(",")) targets.push(this.#suffixed());
    this.#expect("=");
    const values = this.#expressions();
    const [value] = values;
    if (targets.length === 1 && values.length === 1 && value !== undefined) {
      return this.#assignment(first, oneOf(value));
    }
    const given = this.#fresh();
    // What is assigned to is settled before anything is assigned.
    const places = this.#fresh();
    const settled = targets.map(({ place }) =>
      place === undefined ? "0" : `[${place.join(", ")}]`,
    );
    const assignments = targets.map((target, index) => {
      const value = `${given}[${index}]`;
      if (target.place === undefined) return this.#assignment(target, value);
      return `asTable(${places}[${index}][0]).set(${places}[${index}][1], ${value});`;
    });
    return `{ const ${places} = [${settled.join(", ")}], ${given} = ${valuesOf(values)};
      ${assignments.reverse().join(" ")} }`;
  }

  #assignment({ assign }: Expression, value: string): string {
    return assign === undefined ? this.#refuse("syntax error") : `${assign(value)};`;
  }

  #condition(): string {
    return test(this.#expression());
  }

  #expressions(): Expression[] {
    const found = [this.#expression()];
    while (this.#skip(",")) found.push(this.#expression());
    return found;
  }

  #expression(above = 0): Expression {
    let left = this.#unary();
    for (;;) {
      const priority = this.#token.kind === "symbol" ? PRIORITIES.get(this.#token.text) : undefined;
      if (priority === undefined || priority[0] <= above) return left;
      const { text } = this.#next();
      left = this.#binary(text, left, this.#expression(priority[1]));
    }
  }

  #unary(): Expression {
    if (this.#skip("not")) {
      return { js: `!${test(this.#expression(UNARY_PRIORITY))}`, isBoolean: true };
    }
    if (this.#skip("-")) {
      return { js: `(-asNumber(${oneOf(this.#expression(UNARY_PRIORITY))}))` };
    }
    if (this.#skip("#")) return { js: `lengthOf(${oneOf(this.#expression(UNARY_PRIORITY))})` };
    return this.#simple();
  }

  #binary(operator: string, left: Expression, right: Expression): Expression {
    const [a, b] = [oneOf(left), oneOf(right)];
    switch (operator) {
      case "and":
      case "or":
        return this.#shortCircuit(operator, left, right);
      case "==":
        return { js: `(${a} === ${b})`, isBoolean: true };
      case "~=":
        return { js: `(${a} !== ${b})`, isBoolean: true };
      case "<":
        return { js: `isLess(${a}, ${b})`, isBoolean: true };
      case ">":
        return { js: `isLess(${b}, ${a})`, isBoolean: true };
      case "<=":
        return { js: `isAtMost(${a}, ${b})`, isBoolean: true };
      case ">=":
        return { js: `isAtMost(${b}, ${a})`, isBoolean: true };
      case "..":
        return { js: `join(${a}, ${b})` };
      case "+":
        return { js: `add(${a}, ${b})` };
      case "%":
        return { js: `modulo(${a}, ${b})` };
      default:
        return { js: `(asNumber(${a}) ${ARITHMETIC[operator] ?? ""} asNumber(${b}))` };
    }
  }

  #shortCircuit(operator: "and" | "or", left: Expression, right: Expression): Expression {
    const isAnd = operator === "and";
    if (left.isBoolean === true && right.isBoolean === true) {
      return { js: `(${left.js} ${isAnd ? "&&" : "||"} ${right.js})`, isBoolean: true };
    }
    const kept = this.#fresh("v");
    this.#temporaries.push(kept);
    const condition = `isTrue(${kept} = ${oneOf(left)})`;
    const [then, otherwise] = isAnd ? [oneOf(right), kept] : [kept, oneOf(right)];
    return { js: `(${condition} ? ${then} : ${otherwise})` };
  }

  /** A name or an expression in brackets, and what is indexed or called of it. */
  #suffixed(): Expression {
    let value = this.#primary();
    for (;;) {
      if (this.#skip(".")) value = indexed(value, JSON.stringify(this.#name()));
      else if (this.#skip("[")) {
        value = indexed(value, oneOf(this.#expression()));
        this.#expect("]");
      } else if (this.#skip(":")) value = this.#method(value, this.#name());
      else if (this.#is("(", "{") || this.#token.kind === "string") {
        value = called(`asFunction(${oneOf(value)})(${this.#arguments()})`);
      } else return value;
    }
  }

  #method(value: Expression, name: string): Expression {
    const self = this.#fresh("v");
    this.#temporaries.push(self);
    const method = `asFunction(index(${self} = ${oneOf(value)}, ${JSON.stringify(name)}))`;
    return called(`${method}(${self}, ${this.#arguments()})`);
  }

  #primary(): Expression {
    if (this.#skip("(")) {
      const inner = oneOf(this.#expression());
      this.#expect(")");
      return { js: `(${inner})` };
    }
    const { line } = this.#token;
    const name = this.#name();
    const variable = this.#variable(name);
    if (variable !== undefined) {
      return { js: variable, assign: (value) => `${variable} = ${value}` };
    }
    if (name === "error" && this.#is("(")) return called(`raise(${line}, ${this.#arguments()})`);
    const library = LIBRARIES.get(name);
    if (library !== undefined) return this.#member(name, library);
    const global = FUNCTIONS.get(name);
    return {
      js:
        global === undefined
          ? `nonexistent(${line}, ${JSON.stringify(name)})`
          : this.#constant(global),
      assign: () => "readOnly()",
    };
  }

  #member(name: string, library: ReadonlyMap<string, LuaFunction | number>): Expression {
    this.#expect(".");
    const member = this.#name();
    if (name === "redis" && (member === "call" || member === "pcall")) {
      const isProtected = member === "pcall";
      if (this.#is("(")) {
        return { js: `redis([${this.#arguments()}], ${isProtected})`, isCall: true };
      }
      return { js: `((...args) => [redis(args, ${isProtected})])` };
    }
    const found = library.get(member);
    if (found === undefined) this.#refuse(`the simulated Lua has no ${name}.${member}`);
    return { js: this.#constant(found), assign: () => "readOnly()" };
  }

  #constant(value: unknown): string {
    return `k${this.#constants.push(value) - 1}`;
  }

  #simple(): Expression {
    const { kind, text } = this.#token;
    if (kind === "number") {
      this.#next();
      return { js: `(${Number(text)})` };
    }
    if (kind === "string") {
      this.#next();
      return { js: JSON.stringify(text) };
    }
    if (this.#skip("nil")) return { js: "undefined" };
    if (this.#skip("true")) return { js: "true", isBoolean: true };
    if (this.#skip("false")) return { js: "false", isBoolean: true };
    if (this.#is("{")) return this.#table();
    if (this.#skip("function")) return { js: `(${this.#function()})` };
    if (this.#skip("...")) {
      if (!this.#hasRest) this.#refuse("cannot use '...' outside a vararg function");
      return { js: "rest", many: true };
    }
    return this.#suffixed();
  }

  /** From its parameters on. */
  #function(): string {
    const outerRest = this.#hasRest;
    const translated = this.#scoped(() => {
      this.#expect("(");
      const parameters: string[] = [];
      this.#hasRest = false;
      while (!this.#skip(")")) {
        this.#hasRest = this.#skip("...");
        parameters.push(this.#hasRest ? "...rest" : this.#declare(this.#name()));
        if (!this.#is(")")) this.#expect(",");
      }
      return `(${parameters.join(", ")}) => { ${this.#body()} }`;
    });
    this.#expect("end");
    this.#hasRest = outerRest;
    return translated;
  }

  /** A function's statements, and what they keep in between. */
  #body(): string {
    const outer = this.#temporaries;
    this.#temporaries = [];
    const statements = this.#block();
    const kept = this.#temporaries.length > 0 ? `let ${this.#temporaries.join(", ")};` : "";
    this.#temporaries = outer;
    return `${kept} ${statements} return [];`;
  }

  #arguments(): string {
    if (this.#token.kind === "string" || this.#is("{")) return this.#simple().js;
    this.#expect("(");
    if (this.#skip(")")) return "";
    const args = this.#expressions();
    this.#expect(")");
    return listed(args);
  }

  #table(): Expression {
    this.#expect("{");
    const items: Expression[] = [];
    const fields: string[] = [];
    while (!this.#skip("}")) {
      const following = this.#tokens[this.#at + 1];
      if (this.#skip("[")) {
        const key = oneOf(this.#expression());
        this.#expect("]");
        this.#expect("=");
        fields.push(`[${key}, ${oneOf(this.#expression())}]`);
      } else if (this.#token.kind === "name" && following?.text === "=") {
        const key = JSON.stringify(this.#name());
        this.#expect("=");
        fields.push(`[${key}, ${oneOf(this.#expression())}]`);
      } else items.push(this.#expression());
      if (!this.#skip(",") && !this.#skip(";") && !this.#is("}")) this.#refuse("'}' expected");
    }
    return { js: `tableOf([${listed(items)}], [${fields.join(", ")}])` };
  }
}

function called(js: string): Expression {
  return { js, many: true, isCall: true };
}

function indexed(table: Expression, key: string): Expression {
  const js = oneOf(table);
  return {
    js: `index(${js}, ${key})`,
    assign: (value) => `asTable(${js}).set(${key}, ${value})`,
    place: [js, key],
  };
}

function oneOf({ js, many }: Expression): string {
  return many === true ? `${js}[0]` : js;
}

function test(expression: Expression): string {
  return expression.isBoolean === true ? expression.js : `isTrue(${oneOf(expression)})`;
}

/** Only the last of several gives all its values. */
function listed(expressions: readonly Expression[]): string {
  return expressions
    .map((expression, index) =>
      expression.many === true && index === expressions.length - 1
        ? `...${expression.js}`
        : oneOf(expression),
    )
    .join(", ");
}

function valuesOf(expressions: readonly Expression[]): string {
  return `[${listed(expressions)}]`;
}
