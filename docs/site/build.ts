// `npm run docs`: builds the documentation site from README.md, docs/*.md and the docstrings of src/.

import { createReadStream } from "node:fs";
import { rm, stat } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, relative } from "node:path";
import { InvalidArgumentError } from "commander";
import { Application } from "typedoc";
import { npmScript, wholeNumber } from "../../tests/support/terminal.js";

const ABOUT = `Builds the documentation site: README.md, the guides of docs/, and the API from
the docstrings of src/.`;

const CONTENT_TYPES: Record<string, string> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** Returns the folder of the site, unless there was an error or a warning, which TypeDoc has printed then. */
async function build(out: string | undefined): Promise<string | undefined> {
  // Reads typedoc.config.js, which refuses a folder that may hold sources.
  const app = await Application.bootstrapWithPlugins(out === undefined ? {} : { out });
  const folder = app.options.getValue("out");
  const project = await app.convert();
  if (project !== undefined) {
    app.validate(project);
    if (out === undefined) await rm(folder, { recursive: true, force: true });
    await app.generateOutputs(project);
  }
  return app.logger.hasErrors() || app.logger.hasWarnings() ? undefined : folder;
}

/** Resolves with the URL once the server listens. */
function serve(folder: string, port: number): Promise<string> {
  const server = createServer((request, response) => {
    void find(folder, request.url ?? "/").then((file) => {
      if (file === undefined) {
        response.writeHead(404, { "content-type": "text/plain" }).end("Not found\n");
        return;
      }
      const type = CONTENT_TYPES[extname(file)] ?? "application/octet-stream";
      response.writeHead(200, { "content-type": type, "cache-control": "no-store" });
      createReadStream(file).pipe(response);
    });
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => {
      resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    });
  });
}

/** Returns the file that a URL names, if it is there. A URL cannot lead out of the folder. */
async function find(folder: string, url: string): Promise<string | undefined> {
  try {
    const { pathname } = new URL(url, "http://127.0.0.1");
    const path = join(folder, decodeURIComponent(pathname));
    if (relative(folder, path).startsWith("..")) return undefined;
    const file = pathname.endsWith("/") ? join(path, "index.html") : path;
    return (await stat(file)).isFile() ? file : undefined;
  } catch {
    return undefined;
  }
}

interface Options {
  readonly out?: string;
  readonly serve: boolean;
  readonly port: number;
}

function portNumber(text: string): number {
  const port = wholeNumber(0)(text);
  if (port < 65_536) return port;
  throw new InvalidArgumentError("Give a port below 65536.");
}

async function main(): Promise<number> {
  const {
    out,
    serve: isServed,
    port,
  } = npmScript("docs", ABOUT)
    .option("--out <folder>", "write this folder, outside the repository, instead of site/")
    .option("--serve", "serve the site on 127.0.0.1 until Ctrl-C", false)
    .option("--port <port>", "the port to serve on; 0 for any free one", portNumber, 0)
    .addHelpText(
      "after",
      "\nExit status: 0 if there was no warning, 1 if there was, 2 for wrong arguments.",
    )
    .parse()
    .opts<Options>();
  const folder = await build(out);
  if (folder === undefined) return 1;
  if (isServed) {
    const url = await serve(folder, port);
    console.log(`The site is on ${url} until you press Ctrl-C.`);
  }
  return 0;
}

process.exitCode = await main();
