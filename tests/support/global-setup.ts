import type * as Servers from "./servers.js";
import { tsImport } from "tsx/esm/api";

/** Jest compiles this file alone, not what it imports. */
export default async function globalSetup(): Promise<void> {
  const servers = (await tsImport("./servers.ts", import.meta.url)) as typeof Servers;
  await servers.ensureServerBinary();
}
