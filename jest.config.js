import { availableParallelism } from "node:os";

/**
 * Every test: `npm run test:all`. `npm test` leaves the long ones out, see jest.quick.config.js.
 *
 * @type {import("jest").Config}
 */
export default {
  testEnvironment: "node",
  roots: ["<rootDir>/tests"],
  testPathIgnorePatterns: ["<rootDir>/tests/consumers/"],
  modulePathIgnorePatterns: ["<rootDir>/tests/consumers/"],
  extensionsToTreatAsEsm: [".ts"],
  moduleNameMapper: { "^(\\.{1,2}/.*)\\.js$": "$1" },
  transform: { "\\.ts$": "<rootDir>/tests/support/transform.js" },
  // A limit against hanging, not a promise: a busy machine may take long over anything.
  testTimeout: 600_000,
  // Five also on two cores: much of a test is waiting. And what a failed test leaves open ends with its worker,
  // which has time to end by itself before: half a second, the default, is too short for a busy machine.
  maxWorkers: Math.max(5, availableParallelism() - 1),
  workerGracefulExitTimeout: 10_000,
  testSequencer: "<rootDir>/tests/support/sequencer.js",
  setupFiles: ["<rootDir>/tests/support/quiet.ts"],
  globalSetup: "<rootDir>/tests/support/global-setup.ts",
  globalTeardown: "<rootDir>/tests/support/global-teardown.ts",
};
