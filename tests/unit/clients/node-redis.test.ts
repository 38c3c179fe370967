import { describe, expect, it } from "@jest/globals";
import { EventEmitter, once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { replyError } from "../../../src/clients/connection.js";
import { nodeRedisConnection } from "../../../src/clients/node-redis.js";
import { systemEnvironment } from "../../../src/runtime/environment.js";

/** A Sentinel client as that of node-redis 6, which emits `ready`. That of version 5 does not. */
class Sentinel extends EventEmitter {
  isOpen = false;
  isReady = false;
  /** The names of the commands, in the order in which they are sent and answered. */
  readonly log: string[] = [];
  /** What INFO returns. */
  info: string | Error = "# Server\r\nrun_id:first\r\n";

  async connect(): Promise<void> {
    this.isOpen = true;
    await sleep(1);
    this.isReady = true;
    this.emit("ready");
  }

  getSentinelNode(): undefined {
    return undefined;
  }

  async sendCommand(_isReadonly: boolean, [name = ""]: readonly string[]): Promise<string> {
    this.log.push(name);
    // The client does not keep the order of its commands.
    await sleep(name === "set" ? 5 : 1);
    this.log.push(`${name} answered`);
    if (name !== "info") return "OK";
    if (typeof this.info === "string") return this.info;
    throw this.info;
  }
}

describe("the connection of a Sentinel client of node-redis", () => {
  it("opens once, also where the client says itself that it is ready", async () => {
    const client = new Sentinel();
    const connection = nodeRedisConnection(client, systemEnvironment);
    await Promise.all([connection.opened(), once(client, "ready")]);
    const { epoch } = connection;
    // Longer than the interval in which a client without the event is looked at.
    await sleep(100);
    expect({ epoch, later: connection.epoch }).toEqual({ epoch: 1, later: 1 });
  });

  it("sends a command when the one before is answered", async () => {
    const client = new Sentinel();
    const connection = nodeRedisConnection(client, systemEnvironment);
    await Promise.all([
      connection.send("set", ["key", "value"]),
      connection.send("evalsha", ["release", 1, "key"]),
    ]);
    const commands = client.log.filter((entry) => !entry.startsWith("info"));
    expect(commands).toEqual(["set", "set answered", "evalsha", "evalsha answered"]);
  });

  it("begins a new epoch before it passes on the reply of another server", async () => {
    const client = new Sentinel();
    const connection = nodeRedisConnection(client, systemEnvironment);
    const epochs: number[] = [];
    const set = async (): Promise<void> => {
      await connection.send("set", ["key", "value"]);
      epochs.push(connection.epoch);
    };
    await set();
    await set();
    client.info = "# Server\r\nrun_id:second\r\n";
    await set();
    await set();
    expect(epochs).toEqual([0, 0, 1, 1]);
  });

  it("takes the reply of a server that refuses INFO, and not of one that cannot answer it", async () => {
    const client = new Sentinel();
    const connection = nodeRedisConnection(client, systemEnvironment);
    client.info = replyError("NOPERM this user has no permissions to run the 'info' command");
    expect(await connection.send("set", ["key", "value"])).toBe("OK");
    client.info = new Error("Socket closed unexpectedly");
    await expect(connection.send("set", ["key", "value"])).rejects.toThrow(client.info);
    expect(connection.epoch).toBe(0);
    client.info = "# Server\r\nrun_id:first\r\n";
    expect(await connection.send("set", ["key", "value"])).toBe("OK");
    expect(connection.epoch).toBe(1);
  });
});
