// The guides in the order of the site's navigation, and what TypeDoc has to know of them.

import { existsSync, readFileSync } from "node:fs";
import { basename, join, relative, sep } from "node:path";
import { Application, Comment, CommentTag, Converter, KindRouter, ReflectionKind } from "typedoc";

const root = join(import.meta.dirname, "..", "..");

/** The folder that TypeDoc writes, in the repository. */
export const SITE = join(root, "site");

/** The files of docs/, without `.md`, in the order and groups of the navigation. One that is not there is left out. */
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
    const text = readFileSync(join(root, "docs", `${file}.md`), "utf8");
    const [group = ""] = Object.entries(navigation).find(([, files]) => files.includes(file)) ?? [];
    addresses.set(guide, `guides/${file}`);
    guide.name = /^# (.*)$/m.exec(text)?.[1] ?? file;
    guide.comment ??= new Comment();
    guide.comment.blockTags.push(new CommentTag("@group", [{ kind: "text", text: group }]));
  });

  // src/index.ts, the only module.
  app.converter.on(Converter.EVENT_CREATE_DECLARATION, (_context, declaration) => {
    if (declaration.kind === ReflectionKind.Module) declaration.name = "API";
  });

  // A guide's address stays the same when its title changes.
  class GuideRouter extends KindRouter {
    getIdealBaseName(target) {
      return addresses.get(target) ?? super.getIdealBaseName(target).replace("/API.", "/");
    }
  }
  app.renderer.defineRouter("guides", GuideRouter);
}

/** With `cleanOutputDir`, TypeDoc deletes the folder that it writes to. */
function refuseSources(out) {
  const inRepository = relative(root, out);
  const isOutside = inRepository.startsWith(`..${sep}`);
  if (isOutside || out === SITE) return;
  throw new Error(
    `The folder ${out} may hold sources. Let TypeDoc write to ${SITE}, or outside the repository.`,
  );
}
