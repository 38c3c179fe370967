// Finds phrases that a reader stumbles over, in the documents and in the comments and strings of src/.
//
//   npx tsx tests/support/prose.ts      prints one line for each

import { readdirSync, readFileSync, realpathSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";

interface Phrase {
  readonly pattern: RegExp;
  /** What to write. */
  readonly instead: string;
}

/** A space stands for any white space, so that a phrase is found where a line breaks in it. */
const PHRASES: readonly Phrase[] = [
  // The actor is missing.
  phrase(
    "who(ever)? (is|was|has been) (refused|next|called|asked|told)",
    "name the actor: “a waiter that …”",
  ),
  phrase(
    "(those|one|ones) who (waits?|polls?|stands?|asks?|comes?)",
    "“a waiter”, “a client that polls”",
  ),
  phrase("(of|by|from|to|for) who (waits?|stands?|is|has|comes?)", "“of the waiter”"),
  phrase("what is asked", "“operations”, “commands”"),
  phrase(
    "(is|are|was|were|be|been|being) (not |still )?told",
    "“the client sends the release to …”, “the caller learns …”",
  ),
  phrase("asked and answered", "“request and reply”"),
  phrase("(next|first|one|head|waiter|it) is called", "“the node notifies …”"),
  phrase("called by a quorum", "“notified by a quorum of nodes”"),
  phrase("(may|might|can|could) have heard of", "“may have received”"),
  // The field has another word.
  phrase("owe[ds]?", "“pending release”"),
  phrase(
    "(stand|stands|stood|standing|wait|waits|waited|waiting|place|places|rank|next|nobody|somebody) in (a |the )?line",
    "“queue”",
  ),
  phrase("in a line", "“in a queue”"),
  phrase("(is|are|was|were) in (the )?line", "“is in the queue”"),
  phrase(
    "(in|of|into|from|join|joins|joined|leave|leaves|left|touches|behind) the line",
    "“the queue”",
  ),
  phrase("the line (is|may|decides|works|delays?)", "“the queue”"),
  // A verb is turned into a riddle.
  phrase("cannot stop it", "“cannot block progress”"),
  phrase("cleared away", "“releases every node it may have locked”"),
  phrase("votes? for two", "“casts two votes”"),
  phrase("refusal for the moment", "“a BUSY or LOADING reply”"),
  phrase("pays nothing", "say what it does not settle or cost"),
  phrase("it is for it", "“granted”"),
  phrase("as young", "“also started recently”"),
  phrase("that was used so far", "“the longest ttl used so far”"),
  phrase("own come first", "“settings passed to a call override …”"),
  phrase("how an operation is not just", "“options of an operation”"),
  phrase("that was one of several", "“after a split vote”"),
  phrase("(is|are|as) to be had", "“is available”"),
  phrase("(is|are) at it", "“is already running it”"),
  phrase("(that|which|what) is none", "“that is not valid”"),
  phrase("(has|have) to answer in", "“the time within which a node must reply”"),
  phrase("anew", "“again”"),
];

function phrase(words: string, instead: string): Phrase {
  return { pattern: new RegExp(`\\b${words.replaceAll(" ", "\\s+")}\\b`, "gi"), instead };
}

/** The phrases in a text of prose: its line, the words, and what to write instead. */
export function findingsInText(text: string, name: string): string[] {
  const found = PHRASES.flatMap(({ pattern, instead }) =>
    Array.from(text.matchAll(pattern), (match) => ({
      line: text.slice(0, match.index).split("\n").length,
      words: match[0].replace(/\s+/g, " "),
      instead,
    })),
  );
  return found
    .sort((a, b) => a.line - b.line)
    .map(({ line, words, instead }) => `${name}:${line}: “${words}”: rather ${instead}`);
}

/** What stands for code in a text, so that no phrase is found across it. */
const CODE = "\u0000";

const blank = (text: string): string => text.replace(/\S/g, CODE);

/** A Markdown text with its code blanked, line for line. */
export function proseOfMarkdown(text: string): string {
  return text.replace(/^```.*\n[^]*?^```$/gm, blank).replace(/`[^`\n]*`/g, blank);
}

/** The comments and strings of a TypeScript text, line for line. */
export function proseOfCode(text: string): string {
  const pieces: string[] = [];
  const visit = (node: ts.Node): void => {
    if (node.getChildCount(file) > 0) {
      // A docstring is also among the comments before the first token.
      for (const child of node.getChildren(file)) if (!ts.isJSDoc(child)) visit(child);
      return;
    }
    const start = node.getStart(file);
    pieces.push(commentsOf(text.slice(node.getFullStart(), start)));
    const token = text.slice(start, node.getEnd());
    pieces.push(isString(node) ? token : blank(token));
  };
  const file = ts.createSourceFile("source.ts", text, ts.ScriptTarget.ES2023, false);
  visit(file);
  return pieces.join("");
}

/** The white space and comments before a token, without the marks of the comments. */
function commentsOf(trivia: string): string {
  return trivia
    .replace(
      /^(\s*)(\/\*\*?|\*\/|\*|\/\/)/gm,
      (_, space: string, mark: string) => space + " ".repeat(mark.length),
    )
    .replace(/\*\/|\/\*\*?/g, (mark) => " ".repeat(mark.length))
    .replace(/`[^`\n]*`/g, blank);
}

function isString(node: ts.Node): boolean {
  return (
    ts.isStringLiteralLike(node) ||
    node.kind === ts.SyntaxKind.TemplateHead ||
    node.kind === ts.SyntaxKind.TemplateMiddle ||
    node.kind === ts.SyntaxKind.TemplateTail
  );
}

/** What is released is history. */
function unreleased(changelog: string): string {
  const start = changelog.indexOf("\n## [Unreleased]");
  const end = changelog.indexOf("\n## [", start + 1);
  const part = start === -1 ? "" : changelog.slice(start, end === -1 ? undefined : end);
  return "\n".repeat(changelog.slice(0, Math.max(0, start)).split("\n").length - 1) + part;
}

/** The phrases in a file, by its path in the repository. */
export function findingsIn(root: string, path: string): string[] {
  const text = readFileSync(join(root, path), "utf8");
  if (path.endsWith(".ts")) return findingsInText(proseOfCode(text), path);
  return findingsInText(proseOfMarkdown(path === "CHANGELOG.md" ? unreleased(text) : text), path);
}

/** The files whose prose is read. */
export function proseFiles(root: string): string[] {
  const filesIn = (folder: string, extension: string, recursive: boolean) =>
    readdirSync(join(root, folder), { recursive, encoding: "utf8" })
      .filter((name) => name.endsWith(extension))
      .map((name) => join(folder, name))
      .sort();
  return [
    ...filesIn(".", ".md", false),
    ...filesIn("docs", ".md", false),
    ...filesIn("src", ".ts", true),
  ];
}

const [, script] = process.argv;
if (script !== undefined && realpathSync(script) === import.meta.filename) {
  const root = join(import.meta.dirname, "..", "..");
  for (const path of proseFiles(root)) for (const line of findingsIn(root, path)) console.log(line);
}
