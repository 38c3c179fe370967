import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect } from "@jest/globals";
import { ask } from "./servers.js";
import { type Outcome, type PackedPackage, packPackage, run } from "./packed-package.js";
import { useServers } from "./use-servers.js";

export const consumers = join(import.meta.dirname, "..", "consumers");

/** Projects that depend on the packed package, with real servers for what they run. */
export class Consumers {
  #packed: PackedPackage | undefined;
  readonly #servers = useServers(3);

  constructor() {
    beforeAll(async () => {
      this.#packed = await packPackage();
    });

    afterAll(() => this.#packed?.remove());

    // Each consumer leaves "free" locked, and is refused "taken".
    beforeEach(async () => {
      for (const { port } of this.#servers) {
        await ask(port, ["FLUSHALL"]);
        await ask(port, ["SET", "taken", "by the test"]);
      }
    });
  }

  get tarball(): string {
    return this.#packed?.tarball ?? "";
  }

  get directory(): string {
    return this.#packed?.directory ?? "";
  }

  get urls(): string[] {
    return this.#servers.map(({ url }) => url);
  }

  /** A copy of a fixture next to the package, as a project that depends on it. */
  async install(fixture: string, name = fixture): Promise<string> {
    const directory = join(this.directory, name);
    await mkdir(directory);
    await cp(join(consumers, fixture), directory, { recursive: true });
    return directory;
  }

  /** What each server holds; empty where it holds nothing. */
  async valuesOf(resource: string): Promise<string[]> {
    const command = ["EVAL", "return redis.call('GET', KEYS[1]) or ''", "1", resource];
    return Promise.all(this.#servers.map(({ port }) => ask(port, command)));
  }

  /** What the program printed, once it took the lock on a majority of real servers. */
  async runProgram(file: string, directory: string): Promise<Record<string, unknown>> {
    const outcome = await run(process.execPath, [file, ...this.urls], directory);
    expectSilence({ ...outcome, out: "" });
    const printed = JSON.parse(outcome.out) as Record<string, unknown>;
    expect(printed["value"]).toMatch(/^[0-9a-f]{32} \S+\/\d+$/);
    const holding = (await this.valuesOf("free")).filter((value) => value === printed["value"]);
    expect(holding.length).toBeGreaterThanOrEqual(2);
    return printed;
  }
}

export function expectSilence(outcome: Outcome): void {
  expect(outcome).toEqual({ code: 0, out: "", err: "" });
}
