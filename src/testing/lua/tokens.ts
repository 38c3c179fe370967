import { LuaError } from "./values.js";

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

/** Cuts a script into its words. Throws a LuaError where it cannot be read. */
export function tokens(text: string): Token[] {
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

/** Reads the words of a script one by one. */
export class TokenReader {
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(text: string) {
    this.#tokens = tokens(text);
  }

  /** The word after the next one. */
  protected get following(): Token | undefined {
    return this.#tokens[this.#at + 1];
  }

  protected get token(): Token {
    return this.#tokens[this.#at] ?? { kind: "end", text: "<eof>", line: 0 };
  }

  protected next(): Token {
    const token = this.token;
    this.#at += 1;
    return token;
  }

  protected is(...texts: string[]): boolean {
    const { kind, text } = this.token;
    return kind === "symbol" && texts.includes(text);
  }

  protected skip(text: string): boolean {
    if (!this.is(text)) return false;
    this.#at += 1;
    return true;
  }

  protected expect(text: string): void {
    if (!this.skip(text)) this.refuse(`'${text}' expected`);
  }

  protected name(): string {
    if (this.token.kind !== "name") this.refuse("<name> expected");
    return this.next().text;
  }

  protected refuse(why = "unexpected symbol"): never {
    const { text, line } = this.token;
    throw new LuaError(
      `Error compiling script (new function): user_script:${line}: ${why} near '${text}'`,
    );
  }
}
