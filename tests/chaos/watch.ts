// Listens to each server's heart, past the proxies: a server that stands still by itself (its disk is
// slow to confirm a write, the machine is busy) is not up, and the library cannot help it.

import net from "node:net";
import { nowUs } from "./records.js";

const BEAT_MS = 20;
const LONGEST_BEAT_MS = 20;
const RECONNECT_MS = 50;

export type OnStall = (node: number, sinceUs: number, atUs: number) => void;

/** Tells of each PING that took long, once it is answered. The function that is returned ends it. */
export function watchServers(ports: readonly number[], onStall: OnStall): () => void {
  const ends = ports.map((port, node) =>
    watchServer(port, (...times) => {
      onStall(node, ...times);
    }),
  );
  return () => {
    for (const end of ends) end();
  };
}

function watchServer(port: number, onStall: (sinceUs: number, atUs: number) => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  let socket: net.Socket | undefined;
  const later = (callback: () => void, delayMs: number): void => {
    timer = setTimeout(callback, delayMs).unref();
  };
  const connect = (): void => {
    let sentUs = 0;
    const own = (socket = net.connect(port, "127.0.0.1"));
    const ping = (): void => {
      sentUs = nowUs();
      own.write("PING\r\n");
    };
    own.setNoDelay(true);
    own.on("connect", ping).on("error", () => undefined);
    own.on("data", () => {
      const atUs = nowUs();
      if (atUs - sentUs > LONGEST_BEAT_MS * 1_000) onStall(sentUs, atUs);
      later(ping, BEAT_MS);
    });
    own.on("close", () => {
      clearTimeout(timer);
      later(connect, RECONNECT_MS);
    });
  };
  connect();
  return () => {
    socket?.removeAllListeners("close").destroy();
    clearTimeout(timer);
  };
}
