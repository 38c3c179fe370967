// Finds the dead links of Markdown files, as GitHub resolves them, and of a folder of HTML pages.

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";

/** One line for each link of the Markdown file to a file or a heading that is not there. Paths are relative to `root`. */
export function deadLinksOfMarkdown(root: string, path: string): string[] {
  const text = withoutCode(readFileSync(join(root, path), "utf8"));
  const inline = [...text.matchAll(/\]\(\s*<?([^)\s>]+)>?[^)]*\)/g)];
  const references = [...text.matchAll(/^\[[^\]]+\]:\s*<?([^\s>]+)/gm)];
  return [...inline, ...references].flatMap(([, link = ""]) => {
    if (/^[a-z]+:/i.test(link)) return [];
    const flaw = flawOfMarkdownLink(root, path, link);
    return flaw === undefined ? [] : [`${path}: ${link}: ${flaw}`];
  });
}

function flawOfMarkdownLink(root: string, path: string, link: string): string | undefined {
  const [file = "", anchor] = decodeURIComponent(link).split("#");
  const target = file === "" ? path : join(dirname(path), file);
  if (file.startsWith("/") || target.startsWith("..")) return "leads out of the repository";
  if (!existsExactly(root, target)) return "no such file";
  if (anchor === undefined) return undefined;
  if (!target.endsWith(".md")) return "only a Markdown file has headings";
  const headings = anchorsOfMarkdown(readFileSync(join(root, target), "utf8"));
  return headings.has(anchor) ? undefined : "no such heading";
}

/** In the same letters, also where the file system takes small letters for capital ones. */
function existsExactly(root: string, path: string): boolean {
  const name = relative(dirname(path), path);
  if (path === "." || name === "") return true;
  const parent = join(root, dirname(path));
  return existsSync(parent) && statSync(parent).isDirectory() && readdirSync(parent).includes(name);
}

/** The anchors that GitHub gives the headings of a Markdown text. */
export function anchorsOfMarkdown(text: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading = ""] of withoutBlocks(text).matchAll(/^#{1,6} +(.*?) *#*$/gm)) {
    const words = heading.replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1").replace(/[`*]/g, "");
    const slug = words
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M}_ -]/gu, "")
      .replaceAll(" ", "-");
    let anchor = slug;
    for (let count = 1; anchors.has(anchor); count++) anchor = `${slug}-${count}`;
    anchors.add(anchor);
  }
  return anchors;
}

function withoutBlocks(text: string): string {
  return text.replace(/^```.*\n[^]*?^```$/gm, "");
}

function withoutCode(text: string): string {
  return withoutBlocks(text).replace(/`[^`\n]*`/g, "");
}

/** One line for each link of the HTML pages in a folder to a file or an id that is not there. */
export function deadLinksOfPages(folder: string): string[] {
  const pages = new Map(
    readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((path) => path.endsWith(".html"))
      .map((path) => [path, readFileSync(join(folder, path), "utf8")]),
  );
  const ids = new Map(
    Array.from(pages, ([path, html]) => [
      path,
      new Set(Array.from(html.matchAll(/\sid="([^"]*)"/g), ([, id = ""]) => unescaped(id))),
    ]),
  );
  return Array.from(pages, ([path, html]) => {
    const links = html.matchAll(/<(?:a|img|link|script)\b[^>]*?\s(?:href|src)="([^"]*)"/g);
    const local = Array.from(links, ([, link = ""]) => unescaped(link)).filter(
      (link) => !/^[a-z]+:/i.test(link),
    );
    return [...new Set(local)].flatMap((link) => {
      const [address = "", anchor = ""] = decodeURIComponent(link).split("#");
      const file = address.replace(/\?.*$/, "");
      const named = file === "" ? path : join(dirname(path), file);
      const target = file.endsWith("/") ? join(named, "index.html") : named;
      if (target.startsWith("..") || !existsSync(join(folder, target))) {
        return [`${path}: ${link}: no such file`];
      }
      // TypeDoc copies what is no guide of the site, so that a reader would be shown the raw text.
      if (target.endsWith(".md"))
        return [`${path}: ${link}: a guide that is not in the navigation`];
      if (anchor === "" || ids.get(target)?.has(anchor) === true) return [];
      return [`${path}: ${link}: no such id`];
    });
  }).flat();
}

function unescaped(text: string): string {
  return text
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&quot;", '"')
    .replaceAll("&amp;", "&");
}
