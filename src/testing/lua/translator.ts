// As much of Lua 5.1 as scripts in Redis use, so that the simulated servers run the library's own
// scripts, and a changed script is a changed server. A script is translated to JavaScript once.
// What is missing (patterns, metatables, goto) it refuses.

import { compileFunction } from "node:vm";
import { ExpressionTranslator } from "./expressions.js";
import { type Expression, oneOf, valuesOf } from "./javascript.js";
import { RUNTIME } from "./runtime.js";
import type { LuaTable, LuaValue } from "./values.js";

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

/** Translates statements, and with them the whole script. */
class Translator extends ExpressionTranslator {
  chunk(): Chunk {
    const [keys, argv] = [this.declare("KEYS"), this.declare("ARGV")];
    const body = this.body();
    if (this.token.kind !== "end") this.refuse();
    const constants = this.constants.map((_, index) => `k${index}`);
    const make = compileFunction(
      `const { ${Object.keys(RUNTIME).join(", ")} } = runtime; const [${constants.join(", ")}] = constants;
      return (${keys}, ${argv}, redis) => { ${body} };`,
      ["runtime", "constants"],
    ) as (runtime: typeof RUNTIME, constants: readonly unknown[]) => Chunk;
    return make(RUNTIME, this.constants);
  }

  protected block(): string {
    return this.scoped(() => this.#statements());
  }

  #statements(): string {
    const statements: string[] = [];
    while (this.token.kind !== "end" && !this.is("end", "else", "elseif", "until")) {
      const isLast = this.is("return", "break");
      statements.push(this.#statement());
      this.skip(";");
      if (isLast) break;
    }
    return statements.join("\n");
  }

  #statement(): string {
    if (this.skip("local")) {
      return this.skip("function") ? this.#localFunction() : this.#local();
    }
    if (this.skip("if")) return this.#if();
    if (this.skip("for")) return this.#for();
    if (this.skip("while")) {
      const condition = this.condition();
      this.expect("do");
      return `while (${condition}) { ${this.#bodyToEnd()} }`;
    }
    if (this.skip("repeat")) return this.#repeat();
    if (this.skip("do")) return `{ ${this.#bodyToEnd()} }`;
    if (this.skip("break")) return "break;";
    if (this.skip("return")) {
      const ends = this.token.kind === "end" || this.is("end", "else", "elseif", "until", ";");
      return `return ${ends ? "[]" : valuesOf(this.expressions())};`;
    }
    return this.#assignmentOrCall();
  }

  #bodyToEnd(): string {
    const body = this.block();
    this.expect("end");
    return body;
  }

  #local(): string {
    const names = [this.name()];
    while (this.skip(",")) names.push(this.name());
    const values = this.skip("=") ? this.expressions() : [];
    const variables = names.map((name) => this.declare(name));
    const [value] = values;
    if (variables.length === 1 && values.length <= 1) {
      return `let ${variables.join("")} = ${value === undefined ? "undefined" : oneOf(value)};`;
    }
    const given = this.fresh();
    const assigned = variables.map((variable, index) => `${variable} = ${given}[${index}]`);
    return `const ${given} = ${valuesOf(values)}; let ${assigned.join(", ")};`;
  }

  #localFunction(): string {
    const variable = this.declare(this.name());
    return `let ${variable} = ${this.function()};`;
  }

  #if(): string {
    const condition = this.condition();
    this.expect("then");
    const then = `if (${condition}) { ${this.block()} }`;
    if (this.skip("elseif")) return `${then} else ${this.#if()}`;
    const otherwise = this.skip("else") ? ` else { ${this.block()} }` : "";
    this.expect("end");
    return then + otherwise;
  }

  #repeat(): string {
    // The condition sees the body's variables.
    return this.scoped(() => {
      const body = this.#statements();
      this.expect("until");
      return `for (;;) { ${body}\nif (${this.condition()}) break; }`;
    });
  }

  #for(): string {
    const names = [this.name()];
    if (this.skip("=")) return this.#numericFor(names);
    while (this.skip(",")) names.push(this.name());
    this.expect("in");
    const start = valuesOf(this.expressions());
    const call = this.fresh("f");
    const state = this.fresh("s");
    const control = this.fresh("c");
    const found = this.fresh("r");
    return `{ let [${call}, ${state}, ${control}] = ${start};
      for (;;) {
        const ${found} = asFunction(${call})(${state}, ${control});
        ${control} = ${found}[0];
        if (${control} === undefined) break;
        ${this.#loopBody(names, (index) => `${found}[${index}]`)}
      } }`;
  }

  #numericFor(names: readonly string[]): string {
    const first = oneOf(this.expression());
    this.expect(",");
    const last = oneOf(this.expression());
    const step = this.skip(",") ? oneOf(this.expression()) : "1";
    const at = this.fresh("i");
    const end = this.fresh("end");
    const by = this.fresh("by");
    return `for (let ${at} = asNumber(${first}), ${end} = asNumber(${last}), ${by} = asNumber(${step});
      ${by} > 0 ? ${at} <= ${end} : ${at} >= ${end}; ${at} += ${by}) { ${this.#loopBody(names, () => at)} }`;
  }

  #loopBody(names: readonly string[], value: (index: number) => string): string {
    this.expect("do");
    return this.scoped(() => {
      const variables = names.map((name, index) => `${this.declare(name)} = ${value(index)}`);
      return `let ${variables.join(", ")}; ${this.#bodyToEnd()}`;
    });
  }

  #assignmentOrCall(): string {
    const first = this.suffixed();
    if (!this.is("=", ",")) {
      if (first.isCall !== true) this.refuse("syntax error");
      return `${first.js};`;
    }
    const targets = [first];
    while (this.skip(",")) targets.push(this.suffixed());
    this.expect("=");
    const values = this.expressions();
    const [value] = values;
    if (targets.length === 1 && values.length === 1 && value !== undefined) {
      return this.#assignment(first, oneOf(value));
    }
    const given = this.fresh();
    // What is assigned to is settled before anything is assigned.
    const places = this.fresh();
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
    return assign === undefined ? this.refuse("syntax error") : `${assign(value)};`;
  }
}
