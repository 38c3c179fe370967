// `npm run api`: writes what the packed package exports, as its types declare it, to docs/api/: one report for each entry.

import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Extractor, ExtractorConfig } from "@microsoft/api-extractor";
import { packPackage } from "./packed-package.js";
import { npmScript } from "./terminal.js";

const root = join(import.meta.dirname, "..", "..");

const ABOUT = `Packs the package, and writes the declarations of each entry's types to docs/api/.
A test compares them, so that nothing becomes public, or changes, unnoticed.`;

/** The entries of the package. Their types are `dist/<name>.d.cts`. */
const ENTRIES = ["index", "nestjs", "opentelemetry", "testing"] as const;

const COMPILER_OPTIONS = {
  target: "ES2023",
  lib: ["ES2023", "ESNext.Disposable"],
  types: ["node"],
  typeRoots: [join(root, "node_modules", "@types")],
  module: "nodenext",
  moduleResolution: "nodenext",
  strict: true,
  skipLibCheck: true,
};

/** Writes the report of each entry into `out`. `consumer` is a folder that has the package in its node_modules. */
async function writeReports(consumer: string, out: string): Promise<void> {
  const temporary = await mkdtemp(join(tmpdir(), "redlock-quorum-api-"));
  try {
    await mkdir(out, { recursive: true });
    for (const name of ENTRIES) {
      const report = `${name}.api.md`;
      extract(await entryOutside(consumer, name), consumer, report, temporary);
      await copyFile(join(temporary, report), join(out, report));
    }
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/**
 * Copies the types of an entry out of the package, and returns the path. There, the main entry is another package, whose
 * declarations are not repeated in this entry's report.
 */
async function entryOutside(consumer: string, name: string): Promise<string> {
  const file = `${name}.d.cts`;
  const text = await readFile(
    join(consumer, "node_modules", "redlock-quorum", "dist", file),
    "utf8",
  );
  const path = join(consumer, file);
  await writeFile(path, text.replaceAll("'./index.cjs'", "'redlock-quorum'"));
  return path;
}

/** Writes one report. */
function extract(entry: string, folder: string, reportFileName: string, out: string): void {
  const config = ExtractorConfig.prepare({
    configObjectFullPath: undefined,
    packageJsonFullPath: join(root, "package.json"),
    configObject: {
      projectFolder: folder,
      mainEntryPointFilePath: entry,
      compiler: {
        overrideTsconfig: { compilerOptions: COMPILER_OPTIONS, files: [entry] },
        skipLibCheck: true,
      },
      newlineKind: "lf",
      apiReport: {
        enabled: true,
        reportFileName,
        reportFolder: out,
        reportTempFolder: join(out, "temporary"),
        // What an exported declaration refers to is visible to users, exported or not.
        includeForgottenExports: true,
      },
      docModel: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
    },
  });
  Extractor.invoke(config, {
    localBuild: true,
    messageCallback: (message) => {
      // About release tags and docstrings, which this project checks with TypeDoc.
      message.handled = true;
    },
  });
}

interface Options {
  readonly consumer?: string;
  readonly out: string;
}

async function main(): Promise<void> {
  const { consumer, out } = npmScript("api", ABOUT)
    .option("--consumer <folder>", "a folder whose node_modules has the package")
    .option("--out <folder>", "write this folder", join("docs", "api"))
    .addHelpText("after", "\nExit status: 0 if the reports were written, 2 for wrong arguments.")
    .parse()
    .opts<Options>();
  if (consumer !== undefined) {
    await writeReports(consumer, out);
    return;
  }
  const packed = await packPackage();
  try {
    await writeReports(packed.directory, join(root, out));
  } finally {
    await packed.remove();
  }
}

await main();
