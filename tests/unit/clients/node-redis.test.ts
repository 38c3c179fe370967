import { describe, expect, it } from "@jest/globals";
import { EventEmitter, once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { nodeRedisConnection } from "../../../src/clients/node-redis.js";
import { systemEnvironment } from "../../../src/runtime/environment.js";

/** A Sentinel client as that of node-redis 6, which emits `ready`. That of version 5 does not. */
class Sentinel extends EventEmitter {
  isOpen = false;
  isReady = false;

  async connect(): Promise<void> {
    this.isOpen = true;
    await sleep(1);
    this.isReady = true;
    this.emit("ready");
  }

  getSentinelNode(): undefined {
    return undefined;
  }

  sendCommand(): Promise<string> {
    return Promise.resolve("OK");
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
});
