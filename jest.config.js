/** @type {import("jest").Config} */
export default {
  testEnvironment: "node",
  roots: ["<rootDir>/tests"],
  testPathIgnorePatterns: ["<rootDir>/tests/consumers/"],
  modulePathIgnorePatterns: ["<rootDir>/tests/consumers/"],
  extensionsToTreatAsEsm: [".ts"],
  moduleNameMapper: { "^(\\.{1,2}/.*)\\.js$": "$1" },
  // Types are checked by tsc, once, for the whole project.
  transform: { "\\.ts$": ["ts-jest", { useESM: true, diagnostics: false }] },
  // A limit against hanging, not a promise: a busy machine may take long over anything.
  testTimeout: 60_000,
  globalSetup: "<rootDir>/tests/support/global-setup.ts",
  globalTeardown: "<rootDir>/tests/support/global-teardown.ts",
};
