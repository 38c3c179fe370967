import { guidePaths, guidesPlugin, keepCodeInHeadings, SITE } from "./docs/site/guides.js";

/**
 * The documentation site: `npm run docs`.
 *
 * @type {Partial<import("typedoc").TypeDocOptions>}
 */
export default {
  name: "redlock-quorum",
  entryPoints: ["src/index.ts", "src/nestjs/index.ts", "src/testing/index.ts"],
  readme: "README.md",
  projectDocuments: guidePaths(),
  plugin: [guidesPlugin],
  router: "guides",
  alwaysCreateEntryPointModule: false,

  out: SITE,
  // TypeDoc must never delete anything: `out` may come from the command line. `npm run docs` empties the site's folder.
  cleanOutputDir: false,
  // The repository's address is nowhere written, so there is nothing to link to.
  disableSources: true,

  excludeInternal: true,
  excludeExternals: true,
  excludeReferences: true,
  validation: { notExported: true, invalidLink: true, invalidPath: true, notDocumented: true },
  treatWarningsAsErrors: true,
  // Types of what a caller passes in, which no caller has to name.
  intentionallyNotExported: ["Subscriber", "Routine", "Takes"],

  includeVersion: true,
  searchInComments: true,
  searchInDocuments: true,
  navigation: { includeGroups: true },
  groupOrder: ["Guides", "For contributors", "Classes", "Interfaces", "Type Aliases"],
  sort: ["kind", "instance-first", "alphabetical-ignoring-documents"],
  highlightLanguages: [
    ...["typescript", "javascript", "shellscript", "console"],
    ...["text", "lua", "sql", "json", "ini"],
  ],
  markdownItLoader: keepCodeInHeadings,
  customCss: "docs/site/style.css",
};
