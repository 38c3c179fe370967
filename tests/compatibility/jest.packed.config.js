import { join } from "node:path";
import process from "node:process";
import all from "../../jest.config.js";

/**
 * The tests of tests/redis with the library from the installed package, not from `src`. Their helpers read the
 * text of scripts and the names of keys from `src`: these are the same.
 *
 * @type {import("jest").Config}
 */
export default {
  ...all,
  rootDir: join(import.meta.dirname, "..", ".."),
  moduleNameMapper: {
    "^(\\.{2}/)+src/index\\.js$": process.env.REDLOCK_QUORUM_INDEX,
    ...all.moduleNameMapper,
  },
};
