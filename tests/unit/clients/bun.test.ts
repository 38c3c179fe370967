// The library's side of a connection by Bun's own Redis client, which itself runs in Bun only. What the stand-in does
// was seen of the client of Bun 1.4.5; `npm run test:runtimes -- bun-client` runs the real one.

import { describe, expect, it, test } from "@jest/globals";
import { bunConnection, checkBunRedisClient } from "../../../src/clients/bun.js";
import type { BunRedisClient } from "../../../src/clients/client.js";
import { Redlock } from "../../../src/index.js";
import { played, type Stage } from "../../virtual-world/stage.js";

class StandIn implements BunRedisClient {
  onconnect: (() => void) | null = null;
  onclose: ((error: Error) => void) | null = null;
  connected = false;
  connects = 0;
  isClosed = false;
  readonly sent: string[] = [];
  readonly duplicates: StandIn[] = [];
  readonly listeners: ((message: string) => void)[] = [];
  reply: (command: string) => unknown = () => "OK";
  subscribing: () => Promise<unknown> = () => Promise.resolve(1);

  connect(): Promise<unknown> {
    this.connects += 1;
    this.isClosed = false;
    // Of a refused attempt, the client says nothing.
    return new Promise(() => undefined);
  }

  /** The server has accepted. */
  open(): void {
    this.connected = true;
    this.onconnect?.();
  }

  /** The connection is lost, and the client connects again by itself. */
  lose(): void {
    this.connected = false;
  }

  giveUp(): void {
    this.connected = false;
    this.onclose?.(new Error("Connection closed"));
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.giveUp();
  }

  duplicate(): Promise<StandIn> {
    const made = new StandIn();
    made.connected = this.connected;
    made.reply = this.reply;
    made.subscribing = this.subscribing;
    this.duplicates.push(made);
    return Promise.resolve(made);
  }

  send(command: string, args: string[]): Promise<unknown> {
    this.sent.push([command, ...args].join(" "));
    return Promise.resolve().then(() => this.reply(command));
  }

  subscribe(_channel: string, listener: (message: string) => void): Promise<unknown> {
    this.listeners.push(listener);
    return this.subscribing();
  }
}

function ofServer(message: string): Error {
  return Object.assign(new Error(message), { name: "RedisError", code: "ERR_REDIS_SERVER_ERROR" });
}

async function connectionOn(stage: Stage, source = new StandIn()) {
  const { environment } = stage.machine().internals;
  const connection = bunConnection(source, "nodes[0]", environment);
  const opened = connection.opened().then(
    () => "open",
    (error: unknown) => String(error),
  );
  await stage.sleep(1);
  const client = source.duplicates[0];
  if (client === undefined) throw new Error("no duplicate");
  return { connection, source, client, opened };
}

describe("a connection by Bun's Redis client", () => {
  it(
    "is of a client of its own, which connects when it is first needed",
    played(async (stage) => {
      const source = new StandIn();
      const { environment } = stage.machine().internals;
      const connection = bunConnection(source, "nodes[0]", environment);
      expect([connection.state, source.duplicates.length]).toEqual(["connecting", 0]);
      const opened = connection.opened();
      await stage.sleep(1);
      const client = source.duplicates[0];
      client?.open();
      await opened;
      expect([connection.state, connection.epoch]).toEqual(["ready", 1]);
      expect([source.connects, source.sent, source.onconnect]).toEqual([0, [], null]);
    }),
  );

  it(
    "is ready at once where the client is, since its duplicate is",
    played(async (stage) => {
      const source = new StandIn();
      source.connected = true;
      const { connection, client, opened } = await connectionOn(stage, source);
      expect(await opened).toBe("open");
      expect([connection.epoch, client.connects]).toEqual([1, 0]);
    }),
  );

  it(
    "is down after a second without a word, and ready when the server is there after all",
    played(async (stage) => {
      const { connection, client, opened } = await connectionOn(stage);
      await stage.sleep(900);
      expect(connection.state).toBe("connecting");
      await stage.sleep(200);
      expect(connection.state).toBe("down");
      expect(await opened).toBe("Error: no connection in 1.0 s");
      client.open();
      expect([connection.state, connection.failure]).toEqual(["ready", undefined]);
    }),
  );

  it(
    "is down while the client connects again, and of another epoch after",
    played(async (stage) => {
      const { connection, client } = await connectionOn(stage);
      client.open();
      const openedMs = connection.openedMs;
      await stage.sleep(100);
      client.lose();
      expect([connection.state, connection.epoch]).toEqual(["down", 1]);
      client.open();
      expect([connection.state, connection.epoch]).toEqual(["ready", 2]);
      expect(connection.openedMs - openedMs).toBeCloseTo(100, 6);
    }),
  );

  it(
    "connects again where the client has given up, less and less often",
    played(async (stage) => {
      const { connection, client } = await connectionOn(stage);
      const waits: number[] = [];
      for (let time = 0; time < 12; time++) {
        const connects = client.connects;
        client.giveUp();
        expect(connection.state).toBe("down");
        const startMs = stage.nowMs;
        while (client.connects === connects) await stage.sleep(1);
        waits.push(Math.round(stage.nowMs - startMs));
      }
      expect(waits).toEqual([50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 500, 500]);
      client.open();
      client.giveUp();
      await stage.sleep(51);
      expect(client.connects).toBe(14);
    }),
  );

  it(
    "is tried up to twice a second where the server takes no new connection, however often it is asked for",
    played(async (stage) => {
      const source = new StandIn();
      let times = 0;
      source.duplicate = () => {
        times += 1;
        return Promise.reject(ofServer("WRONGPASS"));
      };
      const { environment } = stage.machine().internals;
      const connection = bunConnection(source, "nodes[0]", environment);
      // Who waits for the node asks again as soon as it has failed.
      let isOver = false;
      const ask = (): void => {
        if (!isOver) connection.opened().catch(ask);
      };
      ask();
      await stage.sleep(5000);
      expect(connection.state).toBe("down");
      expect([times >= 10, times <= 20]).toEqual([true, true]);
      isOver = true;
      connection.disconnect();
    }),
  );

  it(
    "is named by the address that the server tells",
    played(async (stage) => {
      const { connection, client } = await connectionOn(stage);
      client.reply = () => "id=3 addr=10.0.0.9:4711 laddr=10.0.0.1:6379 fd=8 db=0";
      expect(connection.name).toBe("nodes[0]");
      client.open();
      await stage.sleep(1);
      expect(connection.name).toBe("10.0.0.1:6379");
      client.reply = () => {
        throw ofServer("NOPERM");
      };
      client.open();
      await stage.sleep(1);
      expect(connection.name).toBe("10.0.0.1:6379");
    }),
  );

  it(
    "sends strings only",
    played(async (stage) => {
      const { connection, client } = await connectionOn(stage);
      client.open();
      client.reply = () => [1, null];
      expect(await connection.send("evalsha", ["sha", 1, "key"])).toEqual([1, null]);
      expect(client.sent).toContain("evalsha sha 1 key");
    }),
  );

  it(
    "tells an error of the server from others",
    played(async (stage) => {
      const { connection, client } = await connectionOn(stage);
      client.open();
      client.reply = () => {
        throw ofServer("NOSCRIPT No matching script.");
      };
      const refused = { name: "ReplyError", message: "NOSCRIPT No matching script." };
      await expect(connection.send("evalsha", [])).rejects.toMatchObject(refused);
      client.reply = () => {
        throw Object.assign(new Error("Connection closed"), {
          code: "ERR_REDIS_CONNECTION_CLOSED",
        });
      };
      await expect(connection.send("evalsha", [])).rejects.toMatchObject({ name: "Error" });
    }),
  );

  it(
    "that is silent is closed and made again",
    played(async (stage) => {
      const { connection, client } = await connectionOn(stage);
      client.open();
      connection.renew?.();
      expect([connection.state, client.isClosed]).toEqual(["down", true]);
      await stage.sleep(60);
      expect(client.connects).toBe(2);
    }),
  );

  it(
    "is not made again once it was closed, nor by a duplicate that comes late",
    played(async (stage) => {
      const { connection, client } = await connectionOn(stage);
      client.open();
      await connection.quit();
      expect(client.sent.at(-1)).toBe("ping");
      await stage.sleep(2000);
      expect([connection.state, client.connects, client.isClosed]).toEqual(["down", 1, true]);
      await expect(connection.opened()).rejects.toThrow("Connection is closed.");

      const source = new StandIn();
      const late = bunConnection(source, "nodes[0]", stage.machine().internals.environment);
      const opened = late.opened();
      late.disconnect();
      await expect(opened).rejects.toThrow("Connection is closed.");
      await stage.sleep(2000);
      expect(source.duplicates.map(({ connects }) => connects)).toEqual([0]);
    }),
  );
});

describe("a subscription by Bun's Redis client", () => {
  async function subscribed(stage: Stage, source = new StandIn()) {
    source.connected = true;
    const { connection } = await connectionOn(stage, source);
    const seen: string[] = [];
    const subscription = connection.subscribe?.("channel", {
      onOpen: () => seen.push("open"),
      onLoss: (error) => seen.push(`lost ${error?.name ?? ""}`.trim()),
      onMessage: (message) => seen.push(message),
    });
    await stage.sleep(1);
    return { seen, subscription, clients: source.duplicates.slice(1), source, connection };
  }

  it(
    "is made anew after a loss, since the client does not subscribe again",
    played(async (stage) => {
      const { seen, clients, source, subscription } = await subscribed(stage);
      const [first] = clients;
      first?.listeners[0]?.("one");
      first?.lose();
      first?.open();
      await stage.sleep(1);
      const second = source.duplicates[2];
      expect([first?.isClosed, second?.listeners.length]).toEqual([true, 1]);
      first?.listeners[0]?.("late");
      second?.listeners[0]?.("two");
      expect(seen).toEqual(["open", "one", "lost", "open", "two"]);
      subscription?.close();
      expect(second?.isClosed).toBe(true);
      expect(seen).toHaveLength(5);
    }),
  );

  it(
    "that the server refuses is lost with that error",
    played(async (stage) => {
      const source = new StandIn();
      source.subscribing = () => Promise.reject(ofServer("NOPERM"));
      const { seen } = await subscribed(stage, source);
      expect(seen).toEqual(["lost ReplyError"]);
    }),
  );

  it(
    "ends with its connection",
    played(async (stage) => {
      const { seen, clients, connection } = await subscribed(stage);
      connection.disconnect();
      expect(clients.map(({ isClosed }) => isClosed)).toEqual([true]);
      expect(seen).toEqual(["open"]);
    }),
  );
});

describe("a client of Bun", () => {
  test("is known by its shape, and not twice in one list", () => {
    const client = new StandIn();
    const redlock = new Redlock([client, new StandIn()]);
    expect([...redlock.clients][0]).toBe(client);
    expect(() => new Redlock([client, client])).toThrow(
      /^nodes\[1\] is the same client as nodes\[0\]/,
    );
  });

  test("is refused before Bun 1.4, where replies go to the wrong commands after a loss", () => {
    for (const good of [undefined, "1.4.0", "1.4.5", "1.10.0", "2.0.1"]) {
      checkBunRedisClient("nodes[0]", good);
    }
    for (const bad of ["0.9.9", "1.2.23", "1.3.14"]) {
      const refuse = (): void => {
        checkBunRedisClient("nodes[2]", bad);
      };
      expect(refuse).toThrow(`nodes[2] is a client of Bun ${bad}, which `);
      expect(refuse).toThrow("Use Bun 1.4 or later, or pass a redis:// URL.");
    }
  });
});
