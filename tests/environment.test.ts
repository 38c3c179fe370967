import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, it } from "@jest/globals";

describe("the end of a turn", () => {
  it("comes after all microtasks, for everybody, also where one of them throws", async () => {
    const program = `
      import { systemEnvironment } from "./src/environment.ts";
      process.on("uncaughtException", ({ message }) => console.log("thrown:", message));
      systemEnvironment.endOfTurn(() => console.log("first"));
      systemEnvironment.endOfTurn(() => { throw new Error("second"); });
      systemEnvironment.endOfTurn(() => {
        console.log("third");
        systemEnvironment.endOfTurn(() => console.log("next turn"));
      });
      systemEnvironment.endOfTurn(() => console.log("fourth"));
      queueMicrotask(() => console.log("microtask"));
    `;
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ["--import", "tsx", "--input-type=module", "--eval", program],
      { env: { ...process.env, NODE_OPTIONS: "" } },
    );
    expect(stdout.trim().split("\n")).toEqual([
      "microtask",
      "first",
      "thrown: second",
      "third",
      "fourth",
      "next turn",
    ]);
  }, 60_000);
});
