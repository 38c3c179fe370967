import { createHash } from "node:crypto";
import { createServer } from "node:http";

export interface ObjectStore {
  readonly url: string;
  /** What it holds under a path. */
  read(path: string): string | undefined;
  /** Called, once, before the next PUT is looked at. */
  beforePut: (() => void) | undefined;
  /** How many PUTs were refused for their condition. */
  readonly refused: number;
  put(path: string, body: string): void;
  close(): Promise<void>;
}

/** Objects over HTTP, which are written on a condition. As with S3, an ETag is of the content alone. */
export async function startObjectStore(): Promise<ObjectStore> {
  const objects = new Map<string, string>();
  const etagOf = (path: string): string | undefined => {
    const object = objects.get(path);
    if (object === undefined) return undefined;
    return `"${createHash("md5").update(object).digest("hex")}"`;
  };
  const store = {
    beforePut: undefined as (() => void) | undefined,
    refused: 0,
  };
  const server = createServer((request, response) => {
    const path = request.url ?? "";
    if (request.method === "GET") {
      const etag = etagOf(path);
      response.writeHead(etag === undefined ? 404 : 200, { ...(etag !== undefined && { etag }) });
      response.end(objects.get(path));
      return;
    }
    let body = "";
    request.setEncoding("utf8").on("data", (chunk: string) => (body += chunk));
    request.on("end", () => {
      const { beforePut } = store;
      store.beforePut = undefined;
      beforePut?.();
      const { "if-match": match, "if-none-match": none } = request.headers;
      const etag = etagOf(path);
      const isMet = none === "*" ? etag === undefined : match === undefined || match === etag;
      if (isMet) objects.set(path, body);
      else store.refused += 1;
      response.writeHead(isMet ? 200 : 412).end();
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return Object.assign(store, {
    url: `http://127.0.0.1:${address.port}`,
    read: (path: string) => objects.get(path),
    put: (path: string, body: string) => {
      objects.set(path, body);
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  });
}
