// The guides in the order of the site's navigation, and what TypeDoc has to know of them.

import { existsSync, readFileSync } from "node:fs";
import { basename, join, sep } from "node:path";
import { Application, Converter, JSX, KindRouter } from "typedoc";

const root = join(import.meta.dirname, "..", "..");

/** The folder that TypeDoc writes, in the repository. */
export const SITE = join(root, "site");

/** The files of docs/, without `.md`, in the order and groups of the navigation; `../` is the repository's folder. */
const navigation = JSON.parse(readFileSync(join(import.meta.dirname, "navigation.json"), "utf8"));

/** The paths of the guides that exist, in the order of the navigation. */
export function guidePaths() {
  return Object.values(navigation)
    .flat()
    .map((name) => join(root, "docs", `${name}.md`))
    .filter((path) => existsSync(path));
}

/**
 * Gives each guide the title, group and address that its file has.
 *
 * @param {Application} app
 */
export function guidesPlugin(app) {
  const addresses = new WeakMap();

  app.on(Application.EVENT_BOOTSTRAP_END, () => {
    refuseSources(app.options.getValue("out"));
  });

  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_context, guide) => {
    const file = basename(guide.name);
    const isNamed = (name) => basename(name) === file;
    const [group, files] = Object.entries(navigation).find(([, names]) => names.some(isNamed));
    const text = readFileSync(join(root, "docs", `${files.find(isNamed)}.md`), "utf8");
    addresses.set(guide, `guides/${file}`);
    guide.name = /^# (.*)$/m.exec(text)?.[1] ?? file;
    guide.frontmatter.group = group;
  });

  // A guide's address stays the same when its title changes.
  class GuideRouter extends KindRouter {
    getIdealBaseName(target) {
      return addresses.get(target) ?? super.getIdealBaseName(target);
    }
  }
  app.renderer.defineRouter("guides", GuideRouter);

  // TypeDoc's navigation opens closed, and keeps there what the reader opened.
  app.renderer.hooks.on("head.end", () => {
    const keys = JSON.stringify([...Object.keys(navigation), "Classes"]);
    const html = `try { for (const key of ${keys}) localStorage["tsd-accordion-" + key] ??= "true"; } catch {}`;
    return JSX.createElement("script", null, JSX.createElement(JSX.Raw, { html }));
  });
}

/**
 * Keeps inline code in a heading's anchor and in the table of contents, as GitHub does; TypeDoc leaves it out.
 *
 * @param {import("markdown-it").default} parser
 */
export function keepCodeInHeadings(parser) {
  parser.core.ruler.push("code-in-headings", ({ tokens, Token }) => {
    for (const [index, token] of tokens.entries()) {
      if (tokens[index - 1]?.type !== "heading_open") continue;
      for (const child of token.children ?? []) {
        if (child.type !== "code_inline") continue;
        const text = new Token("text", "", 0);
        text.content = child.content;
        child.children = [text];
      }
    }
  });
}

/** Refuses a folder that holds sources: with `cleanOutputDir`, TypeDoc would delete them. */
function refuseSources(out) {
  const isWithin = (folder, path) => `${path}${sep}`.startsWith(`${folder}${sep}`);
  if (out === SITE || !(isWithin(root, out) || isWithin(out, root))) return;
  throw new Error(
    `The site cannot be written to ${out}: it may hold sources. Choose ${SITE}, or a folder outside the repository.`,
  );
}
