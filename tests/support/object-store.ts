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
  put(path: string, body: string, fence: string): void;
  close(): Promise<void>;
}

/** Objects with a fence in their metadata, over HTTP, which are written on a condition. */
export async function startObjectStore(): Promise<ObjectStore> {
  const objects = new Map<string, { body: string; fence: string }>();
  const etagOf = (path: string): string | undefined => {
    const object = objects.get(path);
    if (object === undefined) return undefined;
    return `"${createHash("sha1").update(JSON.stringify(object)).digest("hex")}"`;
  };
  const store = {
    beforePut: undefined as (() => void) | undefined,
    refused: 0,
  };
  const server = createServer((request, response) => {
    const path = request.url ?? "";
    if (request.method === "HEAD") {
      const etag = etagOf(path);
      const fence = objects.get(path)?.fence;
      response.writeHead(etag === undefined ? 404 : 200, {
        ...(etag !== undefined && { etag }),
        ...(fence !== undefined && { "x-amz-meta-fence": fence }),
      });
      response.end();
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
      if (isMet) objects.set(path, { body, fence: String(request.headers["x-amz-meta-fence"]) });
      else store.refused += 1;
      response.writeHead(isMet ? 200 : 412).end();
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return Object.assign(store, {
    url: `http://127.0.0.1:${address.port}`,
    read: (path: string) => objects.get(path)?.body,
    put: (path: string, body: string, fence: string) => {
      objects.set(path, { body, fence });
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  });
}
