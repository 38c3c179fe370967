import { once } from "node:events";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";

/** A TCP proxy in front of one server, with faults. */
export interface Proxy {
  readonly port: number;
  readonly url: string;
  /** Ms by which each reply is held back. */
  replyDelayMs: number;
  /** While true, requests are read and go nowhere. */
  swallowing: boolean;
  /** What clients read in place of what the server sent. */
  rewrite: (reply: string) => string;
  /** Everything clients have sent so far. */
  readonly received: string;
  /** Nothing goes through the present connections any more, not even their end, as behind a firewall that forgot them. */
  forget(): void;
  /** Resets every connection, with whatever is in flight on it. */
  cut(): void;
  close(): Promise<void>;
}

export async function startProxy(serverPort: number): Promise<Proxy> {
  const sockets = new Set<net.Socket>();
  const forgotten = new WeakSet<net.Socket>();
  const state = {
    replyDelayMs: 0,
    swallowing: false,
    rewrite: (reply: string) => reply,
    received: "",
  };
  const track = (socket: net.Socket): void => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
  };
  const listener = net.createServer((client) => {
    const server = net.connect(serverPort, "127.0.0.1");
    track(client);
    track(server);
    client.on("data", (chunk) => {
      state.received += chunk.toString();
      if (!state.swallowing && !forgotten.has(client)) server.write(chunk);
    });
    let previous = Promise.resolve();
    server.on("data", (chunk) => {
      const due = state.replyDelayMs === 0 ? Promise.resolve() : sleep(state.replyDelayMs);
      previous = Promise.all([previous, due]).then(() => {
        if (client.writable && !forgotten.has(server))
          client.write(state.rewrite(chunk.toString("latin1")), "latin1");
      });
    });
    const end = (one: net.Socket, other: net.Socket): void => {
      if (!forgotten.has(one)) other.destroy();
    };
    client.on("close", () => {
      end(client, server);
    });
    server.on("close", () => {
      end(server, client);
    });
  });
  await new Promise<void>((done) => listener.listen(0, "127.0.0.1", done));
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const cut = (): void => {
    for (const socket of sockets) {
      // Node 20 never closes a socket that is reset while it is shutting down.
      if (socket.writableEnded) socket.destroy();
      else socket.resetAndDestroy();
    }
  };
  return Object.assign(state, {
    port: address.port,
    url: `redis://127.0.0.1:${address.port}`,
    cut,
    forget: () => {
      for (const socket of sockets) forgotten.add(socket);
    },
    close: async () => {
      cut();
      await new Promise((done) => listener.close(done));
    },
  });
}

/** A server that accepts connections and answers every command with `answer`, or, without one, nothing. */
export async function startStubbornServer(
  answer?: string,
): Promise<{ port: number; url: string; close(): Promise<void> }> {
  const sockets = new Set<net.Socket>();
  const listener = net.createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      // Each command is an array: it begins with an asterisk at the start of a line.
      const commands = chunk.toString().match(/(^|\r\n)\*\d/g)?.length ?? 0;
      if (answer !== undefined) socket.write(`${answer}\r\n`.repeat(commands));
    });
  });
  await new Promise<void>((done) => listener.listen(0, "127.0.0.1", done));
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    port: address.port,
    url: `redis://127.0.0.1:${address.port}`,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((done) => listener.close(done));
    },
  };
}

/** A server with which no connection can be made: others lie before it, and it accepts none. */
export async function startFullServer(): Promise<{ url: string; close(): Promise<void> }> {
  const server = new Worker(
    `
      import net from "node:net";
      import { parentPort, workerData } from "node:worker_threads";
      const listener = net.createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
        parentPort.postMessage(listener.address().port);
        setImmediate(() => Atomics.wait(workerData, 0, 0));
      });
    `,
    {
      eval: true,
      execArgv: ["--input-type=module"],
      workerData: new Int32Array(new SharedArrayBuffer(4)),
    },
  );
  const [port] = (await once(server, "message")) as [number];
  // The kernel makes two of them, and lets all others wait.
  const sockets = Array.from({ length: 8 }, () => net.connect(port, "127.0.0.1"));
  for (const socket of sockets) socket.on("error", () => undefined);
  await Promise.race(sockets.map((socket) => once(socket, "connect")));
  return {
    url: `redis://127.0.0.1:${port}`,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await server.terminate();
    },
  };
}
