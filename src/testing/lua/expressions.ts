import { called, type Expression, indexed, listed, oneOf, test } from "./javascript.js";
import { FUNCTIONS } from "./library.js";
import { LIBRARIES } from "./runtime.js";
import { TokenReader } from "./tokens.js";
import type { LuaFunction } from "./values.js";

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

/** Translates expressions. */
export abstract class ExpressionTranslator extends TokenReader {
  /** The variables in sight, by their names in Lua. */
  readonly #scopes = [new Map<string, string>()];
  #names = 0;
  /** Where the function that is translated keeps what its expressions need twice. */
  #temporaries: string[] = [];
  #hasRest = false;
  /** What the script uses of the library. */
  protected readonly constants: unknown[] = [];

  /** Translates statements up to the word that ends their block. */
  protected abstract block(): string;

  protected condition(): string {
    return test(this.expression());
  }

  protected expressions(): Expression[] {
    const found = [this.expression()];
    while (this.skip(",")) found.push(this.expression());
    return found;
  }

  protected expression(above = 0): Expression {
    let left = this.#unary();
    for (;;) {
      const priority = this.token.kind === "symbol" ? PRIORITIES.get(this.token.text) : undefined;
      if (priority === undefined || priority[0] <= above) return left;
      const { text } = this.next();
      left = this.#binary(text, left, this.expression(priority[1]));
    }
  }

  #unary(): Expression {
    if (this.skip("not")) {
      return { js: `!${test(this.expression(UNARY_PRIORITY))}`, isBoolean: true };
    }
    if (this.skip("-")) {
      return { js: `(-asNumber(${oneOf(this.expression(UNARY_PRIORITY))}))` };
    }
    if (this.skip("#")) return { js: `lengthOf(${oneOf(this.expression(UNARY_PRIORITY))})` };
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
    const kept = this.fresh("v");
    this.#temporaries.push(kept);
    const condition = `isTrue(${kept} = ${oneOf(left)})`;
    const [then, otherwise] = isAnd ? [oneOf(right), kept] : [kept, oneOf(right)];
    return { js: `(${condition} ? ${then} : ${otherwise})` };
  }

  /** A name or an expression in brackets, and what is indexed or called of it. */
  protected suffixed(): Expression {
    let value = this.#primary();
    for (;;) {
      if (this.skip(".")) value = indexed(value, JSON.stringify(this.name()));
      else if (this.skip("[")) {
        value = indexed(value, oneOf(this.expression()));
        this.expect("]");
      } else if (this.skip(":")) value = this.#method(value, this.name());
      else if (this.is("(", "{") || this.token.kind === "string") {
        value = called(`asFunction(${oneOf(value)})(${this.#arguments()})`);
      } else return value;
    }
  }

  #method(value: Expression, name: string): Expression {
    const self = this.fresh("v");
    this.#temporaries.push(self);
    const method = `asFunction(index(${self} = ${oneOf(value)}, ${JSON.stringify(name)}))`;
    return called(`${method}(${self}, ${this.#arguments()})`);
  }

  #primary(): Expression {
    if (this.skip("(")) {
      const inner = oneOf(this.expression());
      this.expect(")");
      return { js: `(${inner})` };
    }
    const { line } = this.token;
    const name = this.name();
    const variable = this.#variable(name);
    if (variable !== undefined) {
      return { js: variable, assign: (value) => `${variable} = ${value}` };
    }
    if (name === "error" && this.is("(")) return called(`raise(${line}, ${this.#arguments()})`);
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
    this.expect(".");
    const member = this.name();
    if (name === "redis" && (member === "call" || member === "pcall")) {
      const isProtected = member === "pcall";
      if (this.is("(")) {
        return { js: `redis([${this.#arguments()}], ${isProtected})`, isCall: true };
      }
      return { js: `((...args) => [redis(args, ${isProtected})])` };
    }
    const found = library.get(member);
    if (found === undefined) this.refuse(`the simulated Lua has no ${name}.${member}`);
    return { js: this.#constant(found), assign: () => "readOnly()" };
  }

  #constant(value: unknown): string {
    return `k${this.constants.push(value) - 1}`;
  }

  #simple(): Expression {
    const { kind, text } = this.token;
    if (kind === "number") {
      this.next();
      return { js: `(${Number(text)})` };
    }
    if (kind === "string") {
      this.next();
      return { js: JSON.stringify(text) };
    }
    if (this.skip("nil")) return { js: "undefined" };
    if (this.skip("true")) return { js: "true", isBoolean: true };
    if (this.skip("false")) return { js: "false", isBoolean: true };
    if (this.is("{")) return this.#table();
    if (this.skip("function")) return { js: `(${this.function()})` };
    if (this.skip("...")) {
      if (!this.#hasRest) this.refuse("cannot use '...' outside a vararg function");
      return { js: "rest", many: true };
    }
    return this.suffixed();
  }

  /** From its parameters on. */
  protected function(): string {
    const outerRest = this.#hasRest;
    const translated = this.scoped(() => {
      this.expect("(");
      const parameters: string[] = [];
      this.#hasRest = false;
      while (!this.skip(")")) {
        this.#hasRest = this.skip("...");
        parameters.push(this.#hasRest ? "...rest" : this.declare(this.name()));
        if (!this.is(")")) this.expect(",");
      }
      return `(${parameters.join(", ")}) => { ${this.body()} }`;
    });
    this.expect("end");
    this.#hasRest = outerRest;
    return translated;
  }

  /** A function's statements, and what they keep in between. */
  protected body(): string {
    const outer = this.#temporaries;
    this.#temporaries = [];
    const statements = this.block();
    const kept = this.#temporaries.length > 0 ? `let ${this.#temporaries.join(", ")};` : "";
    this.#temporaries = outer;
    return `${kept} ${statements} return [];`;
  }

  #arguments(): string {
    if (this.token.kind === "string" || this.is("{")) return this.#simple().js;
    this.expect("(");
    if (this.skip(")")) return "";
    const args = this.expressions();
    this.expect(")");
    return listed(args);
  }

  #table(): Expression {
    this.expect("{");
    const items: Expression[] = [];
    const fields: string[] = [];
    while (!this.skip("}")) {
      const { following } = this;
      if (this.skip("[")) {
        const key = oneOf(this.expression());
        this.expect("]");
        this.expect("=");
        fields.push(`[${key}, ${oneOf(this.expression())}]`);
      } else if (this.token.kind === "name" && following?.text === "=") {
        const key = JSON.stringify(this.name());
        this.expect("=");
        fields.push(`[${key}, ${oneOf(this.expression())}]`);
      } else items.push(this.expression());
      if (!this.skip(",") && !this.skip(";") && !this.is("}")) this.refuse("'}' expected");
    }
    return { js: `tableOf([${listed(items)}], [${fields.join(", ")}])` };
  }

  protected fresh(name = "t"): string {
    return `${name}_${this.#names++}`;
  }

  protected declare(name: string): string {
    const variable = this.fresh(name);
    this.#scopes.at(-1)?.set(name, variable);
    return variable;
  }

  #variable(name: string): string | undefined {
    return this.#scopes.findLast((names) => names.has(name))?.get(name);
  }

  /** Translates within a scope of its own. */
  protected scoped<T>(translate: () => T): T {
    this.#scopes.push(new Map());
    const result = translate();
    this.#scopes.pop();
    return result;
  }
}
