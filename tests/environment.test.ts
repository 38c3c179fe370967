import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, it } from "@jest/globals";

describe("the end of a turn", () => {
  it("comes after all microtasks, for everybody, also where one of them throws", async () => {
    const program = `
      import { systemEnvironment } from "./src/environment.ts";
      const said = [];
      const say = (text) => said.push(text);
      process.on("uncaughtException", ({ message }) => say("thrown: " + message));
      process.on("exit", () => console.log(said.join("\\n")));
      systemEnvironment.endOfTurn(() => say("first"));
      systemEnvironment.endOfTurn(() => { throw new Error("second"); });
      systemEnvironment.endOfTurn(() => {
        say("third");
        systemEnvironment.endOfTurn(() => say("next turn"));
      });
      systemEnvironment.endOfTurn(() => say("fourth"));
      queueMicrotask(() => say("microtask"));
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
