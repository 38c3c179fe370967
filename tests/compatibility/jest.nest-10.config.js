import { join } from "node:path";
import all from "../../jest.config.js";

/**
 * The tests of redlock-quorum/nestjs with Nest 10, the oldest that the package allows: tests/project/nest-10.test.ts.
 *
 * @type {import("jest").Config}
 */
export default {
  ...all,
  rootDir: join(import.meta.dirname, "..", ".."),
  setupFiles: [...all.setupFiles, "<rootDir>/tests/support/nest-10.ts"],
  moduleNameMapper: {
    "^@nestjs/(.*)$": "<rootDir>/tests/consumers/nest-10/node_modules/@nestjs/$1",
    ...all.moduleNameMapper,
  },
};
