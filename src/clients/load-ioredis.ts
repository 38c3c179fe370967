import { createRequire } from "node:module";
import type * as Ioredis from "ioredis";

/** The build makes this the `require` of a CommonJS module, so that bundlers see what it loads. */
const load = createRequire(import.meta.url);

/**
 * Loads ioredis when a URL is first given. It takes four times as long to load as the library itself, and whoever passes
 * clients in does not need it.
 */
export function loadIoredis(): typeof Ioredis {
  return load("ioredis") as typeof Ioredis;
}
