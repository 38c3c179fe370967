// `npm run docs`: builds the documentation site from README.md, docs/*.md and the docstrings of src/.

import { createReadStream } from "node:fs";
import { rm, stat } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, relative } from "node:path";
import { parseArgs } from "node:util";
import { Application } from "typedoc";

const USAGE = `Usage: npm run docs [-- [--out FOLDER] [--serve] [--port PORT]]

  --out    the folder to write, outside the repository; by default it is site/, which is emptied first
  --serve  serves the site on 127.0.0.1 until Ctrl-C
  --port   the port to serve on; by default any free one`;

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

function parseCall(args: string[]) {
  try {
    const { values } = parseArgs({
      args,
      options: {
        out: { type: "string" },
        serve: { type: "boolean", default: false },
        port: { type: "string", default: "0" },
      },
    });
    const port = Number(values.port);
    return Number.isInteger(port) && port >= 0 && port < 65_536 ? { ...values, port } : undefined;
  } catch {
    return undefined;
  }
}

async function main(args: string[]): Promise<number> {
  const call = parseCall(args);
  if (call === undefined) {
    console.error(USAGE);
    return 2;
  }
  const folder = await build(call.out);
  if (folder === undefined) return 1;
  if (call.serve) {
    const url = await serve(folder, call.port);
    console.log(`The site is on ${url} until you press Ctrl-C.`);
  }
  return 0;
}

process.exitCode = await main(process.argv.slice(2));
