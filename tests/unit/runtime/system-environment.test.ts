import { afterEach, describe, expect, it, jest } from "@jest/globals";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { endOfTurn, systemEnvironment } from "../../../src/runtime/environment.js";

/** Beyond this Node fires a timer at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** What a program prints that ends by itself. */
async function linesOf(program: string): Promise<string[]> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--import", "tsx", "--input-type=module", "--eval", program],
    { env: { ...process.env, NODE_OPTIONS: "" }, timeout: 50_000 },
  );
  return stdout.trim().split("\n");
}

afterEach(() => {
  jest.useRealTimers();
});

describe("the end of a turn", () => {
  it("comes after all microtasks, for everybody, also where one of them throws", async () => {
    const lines = await linesOf(`
      import { systemEnvironment } from "./src/runtime/environment.ts";
      const said = [];
      const say = (text) => said.push(text);
      process.on("uncaughtException", ({ message }) => say("thrown: " + message));
      process.on("exit", () => console.log(said.join("\\n")));
      // As fake timers do it.
      process.nextTick = () => undefined;
      systemEnvironment.endOfTurn(() => say("first"));
      systemEnvironment.endOfTurn(() => { throw new Error("second"); });
      systemEnvironment.endOfTurn(() => {
        say("third");
        systemEnvironment.endOfTurn(() => say("next turn"));
      });
      systemEnvironment.endOfTurn(() => say("fourth"));
      queueMicrotask(() => say("microtask"));
    `);
    expect(lines).toEqual(["microtask", "first", "thrown: second", "third", "fourth", "next turn"]);
  });

  it("comes, as a microtask does, also if fake timers were there before the library", async () => {
    const lines = await linesOf(`
      import { install } from "@sinonjs/fake-timers";
      import { createRequire } from "node:module";
      // A microtask of the fake timers runs when the test lets it run.
      install({ toFake: ["nextTick", "queueMicrotask"] });
      const require = createRequire(process.cwd() + "/main.js");
      const { inOwnTurn, systemEnvironment } = require("./src/runtime/environment.ts");
      inOwnTurn(() => console.log("own turn"));
      systemEnvironment.endOfTurn(() => console.log("end of the turn"));
      await Promise.resolve();
      console.log("microtask");
    `);
    expect(lines).toEqual(["microtask", "own turn", "end of the turn"]);
  });

  it("comes after the microtasks of a timer's callback, too", async () => {
    const said: string[] = [];
    await new Promise<void>((resolve) => {
      setTimeout(() => {
        void endOfTurn(systemEnvironment).then(() => {
          said.push("end");
          resolve();
        });
        let microtasks = Promise.resolve();
        for (let count = 1; count <= 5; count++) {
          microtasks = microtasks.then(() => void said.push("microtask"));
        }
      }, 0);
    });
    expect(said).toEqual([...Array<string>(5).fill("microtask"), "end"]);
  });
});

describe("values", () => {
  it("are 16 random bytes in hexadecimal, and never repeat, however many are drawn", () => {
    const values = Array.from({ length: 5000 }, () => systemEnvironment.randomValue());
    for (const value of values) expect(value).toMatch(/^[0-9a-f]{32}$/);
    expect(new Set(values).size).toBe(values.length);
    // Nor do they share a part, as the numbers of a counter would.
    for (const part of [0, 8, 16, 24]) {
      const parts = new Set(values.map((value) => value.slice(part, part + 8)));
      expect(parts.size).toBeGreaterThan(values.length - 10);
    }
  });

  it("differ between processes", async () => {
    const program = `
      import { systemEnvironment } from "./src/runtime/environment.ts";
      for (let count = 0; count < 300; count++) console.log(systemEnvironment.randomValue());
    `;
    const values = (await Promise.all([linesOf(program), linesOf(program)])).flat();
    expect(new Set(values).size).toBe(600);
  });

  it("of chance are spread between 0 and 1", () => {
    const drawn = Array.from({ length: 1000 }, () => systemEnvironment.random());
    expect(Math.min(...drawn)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...drawn)).toBeLessThan(1);
    expect(drawn.filter((number) => number < 0.5).length).toBeGreaterThan(300);
    expect(drawn.filter((number) => number >= 0.5).length).toBeGreaterThan(300);
  });
});

describe("the clocks", () => {
  it("are two: a step of the wall clock moves it alone, and time moves both", () => {
    jest.useFakeTimers({ now: 1_000_000 });
    const start = systemEnvironment.now();
    expect(start.wallMs).toBe(1_000_000);
    expect(systemEnvironment.monotonicMs()).toBe(start.monotonicMs);
    jest.setSystemTime(1_060_000);
    expect(systemEnvironment.now()).toEqual({ ...start, wallMs: 1_060_000 });
    jest.advanceTimersByTime(100);
    expect(systemEnvironment.now()).toEqual({
      wallMs: 1_060_100,
      monotonicMs: start.monotonicMs + 100,
    });
    expect(systemEnvironment.monotonicMs()).toBe(start.monotonicMs + 100);
  });

  it("are the machine's", () => {
    const [performanceMs, dateMs] = [performance.now(), Date.now()];
    const { monotonicMs, wallMs } = systemEnvironment.now();
    expect(monotonicMs).toBeGreaterThanOrEqual(performanceMs);
    expect(monotonicMs).toBeLessThanOrEqual(performance.now());
    expect(wallMs).toBeGreaterThanOrEqual(dateMs);
    expect(wallMs).toBeLessThanOrEqual(Date.now());
  });
});

describe("a timer", () => {
  const kinds = ["setTimer", "setBackgroundTimer"] as const;

  it.each(kinds)("fires when its time is over, and not once it was cleared: %s", (kind) => {
    jest.useFakeTimers();
    const fired: string[] = [];
    systemEnvironment[kind](() => fired.push("first"), 50);
    systemEnvironment.clearTimer(systemEnvironment[kind](() => fired.push("cleared"), 50));
    jest.advanceTimersByTime(49);
    expect(fired).toEqual([]);
    jest.advanceTimersByTime(1);
    expect(fired).toEqual(["first"]);
    jest.advanceTimersByTime(1000);
    expect(fired).toEqual(["first"]);
  });

  it.each(kinds)("of more than 24 days does not fire at once: %s", (kind) => {
    // As Node does it, the fake ones fire such a timer at once.
    jest.useFakeTimers();
    for (const delayMs of [LONGEST_TIMER_MS, LONGEST_TIMER_MS + 1, 2 ** 40, Infinity]) {
      let hasFired = false;
      systemEnvironment[kind](() => {
        hasFired = true;
      }, delayMs);
      jest.advanceTimersByTime(LONGEST_TIMER_MS - 1);
      expect(hasFired).toBe(false);
      jest.advanceTimersByTime(1);
      expect(hasFired).toBe(true);
    }
  });

  it("keeps the process alive until it fires, and one in the background does not", async () => {
    const lines = await linesOf(`
      import { systemEnvironment } from "./src/runtime/environment.ts";
      process.on("exit", () => console.log("ends"));
      systemEnvironment.setBackgroundTimer(() => console.log("in the background"), 2 ** 30);
      systemEnvironment.setTimer(() => console.log("fires"), 20);
    `);
    expect(lines).toEqual(["fires", "ends"]);
  });
});

describe("after a poll", () => {
  it("what waits in the sockets has been read, also where fake timers are in place", async () => {
    const lines = await linesOf(`
      import net from "node:net";
      import { once } from "node:events";
      import { Worker } from "node:worker_threads";
      import { systemEnvironment } from "./src/runtime/environment.ts";
      // A server that answers while this thread is busy, and says when its answer is in the socket.
      const answered = new Int32Array(new SharedArrayBuffer(4));
      const server = new Worker(\`
        import net from "node:net";
        import { parentPort, workerData } from "node:worker_threads";
        const listener = net.createServer((socket) => {
          socket.once("data", () => socket.write("answer", () => {
            Atomics.store(workerData, 0, 1);
            Atomics.notify(workerData, 0);
          }));
        });
        listener.listen(0, "127.0.0.1", () => parentPort.postMessage(listener.address().port));
      \`, { eval: true, workerData: answered });
      const [port] = await once(server, "message");
      const socket = net.connect(port, "127.0.0.1");
      await once(socket, "connect");
      socket.on("data", () => console.log("answer"));
      // Timers come next after this phase of the event loop, and the sockets after them.
      await new Promise((resolve) => setImmediate(resolve));
      globalThis.setImmediate = () => undefined;
      socket.write("question");
      systemEnvironment.setTimer(() => {
        console.log("timer");
        systemEnvironment.afterPoll(() => {
          console.log("after the poll");
          process.exit();
        });
      }, 20);
      // Only now, and a millisecond longer: the timer counts whole ones, from when it was set.
      const dueMs = performance.now() + 21;
      Atomics.wait(answered, 0, 0);
      while (performance.now() <= dueMs) {}
    `);
    expect(lines).toEqual(["timer", "answer", "after the poll"]);
  });
});
