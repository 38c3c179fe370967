import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { Register } from "./register.js";

let folder: string;
let register: Register;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "redlock-quorum-register-"));
  register = new Register(folder, "a");
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

function read(token: string, fence?: number): string | undefined {
  return register.access({ what: "read", key: "a", token, ...(fence && { fence }) });
}

function write(token: string, from: string, fence?: number): string | undefined {
  return register.access({ what: "write", key: "a", token, read: from, ...(fence && { fence }) });
}

test("the resource takes the same token again, and refuses a smaller one than it was shown by a read", () => {
  expect(read("x", 7)).toBe("");
  expect(write("x", "", 7)).toBe("x");
  expect(read("y", 8)).toBe("x");
  expect(write("x", "x", 7)).toBeUndefined();
  expect(read("x", 7)).toBeUndefined();
  expect(write("y", "x", 8)).toBe("y");
});

test("without tokens the resource takes whatever comes", () => {
  expect(write("x", "")).toBe("x");
  expect(write("y", "")).toBe("y");
  expect(read("x")).toBe("y");
});

test("the resource writes each access down, with what became of it", async () => {
  read("y", 8);
  write("x", "", 7);
  const lines = (await readFile(join(folder, "register-a.jsonl"), "utf8")).trim().split("\n");
  expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
    { what: "read", token: "y", fence: 8, accepted: true },
    { what: "write", token: "x", read: "", fence: 7, accepted: false },
  ]);
});
