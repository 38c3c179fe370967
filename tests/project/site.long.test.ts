// Builds the documentation site as `npm run docs -- --serve` does.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { deadLinksOfPages } from "../support/links.js";
import { runTool } from "../support/packed-package.js";

const root = join(import.meta.dirname, "..", "..");

let parent = "";
let site = "";
let url = "";
let server: ChildProcess | undefined;

beforeAll(async () => {
  parent = await mkdtemp(join(tmpdir(), "redlock-quorum-site-"));
  site = join(parent, "site");
  const args = ["--import", "tsx", "docs/site/build.ts", "--out", site, "--serve"];
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: { ...process.env, NODE_OPTIONS: "" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  server = child;
  // A warning of TypeDoc, such as a link to nothing or an export without a docstring, ends it instead.
  url = await new Promise((resolve, reject) => {
    let said = "";
    const listen = (text: string) => {
      said += text;
      const found = /http:\/\/127\.0\.0\.1:\d+\//.exec(said)?.[0];
      if (found !== undefined) resolve(found);
    };
    child.stdout.setEncoding("utf8").on("data", listen);
    child.stderr.setEncoding("utf8").on("data", listen);
    child.once("close", (code) => {
      reject(new Error(`The site was not built (${code}):\n${said}`));
    });
  });
});

afterAll(async () => {
  server?.kill("SIGKILL");
  await rm(parent, { recursive: true, force: true });
});

async function get(path: string): Promise<{ status: number; type: string; text: string }> {
  const response = await fetch(new URL(path, url));
  return {
    status: response.status,
    type: response.headers.get("content-type") ?? "",
    text: await response.text(),
  };
}

describe("the documentation site", () => {
  test("has no dead link", () => {
    expect(deadLinksOfPages(site)).toEqual([]);
  });

  test("has the README, every guide and the API", async () => {
    expect(await readFile(join(site, "index.html"), "utf8")).toContain("<h1");
    for (const page of [
      "guides/fencing",
      "guides/architecture",
      "classes/redlock-quorum.Redlock",
    ]) {
      expect(existsSync(join(site, `${page}.html`))).toBe(true);
    }
  });

  test("is served, without what is outside its folder", async () => {
    expect(await get("")).toMatchObject({ status: 200, type: "text/html; charset=utf-8" });
    expect(await get("assets/custom.css")).toMatchObject({ status: 200 });
    expect(await get("none.html")).toMatchObject({ status: 404 });
    await writeFile(join(parent, "outside.txt"), "not for the world");
    expect(await get("%2e%2e%2foutside.txt")).toMatchObject({ status: 404 });
  });

  test("is no longer served after Ctrl-C", async () => {
    const ended = once(server ?? process, "exit");
    server?.kill("SIGINT");
    expect(await ended).toEqual([null, "SIGINT"]);
  });

  test("cannot be written into a folder of sources", async () => {
    const folder = join("docs", "not-a-site");
    const { code, out, err } = await runTool("typedoc/bin/typedoc", ["--out", folder], root);
    expect(code).not.toBe(0);
    expect(out + err).toContain("it may hold sources");
    expect(existsSync(join(root, folder))).toBe(false);
  });
});
