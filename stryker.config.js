/** @type {import("@stryker-mutator/api/core").PartialStrykerOptions} */
export default {
  mutate: ["redlock", "lock", "algorithm/*", "quorum/*", "nodes/*"].map((name) => `src/${name}.ts`),
  // What a message says is no promise, but for the few that the tests quote.
  mutator: { excludedMutations: ["StringLiteral"] },
  testRunner: "jest",
  testRunnerNodeArgs: ["--experimental-vm-modules"],
  jest: {
    config: {
      roots: ["<rootDir>/tests/unit"],
      testMatch: ["**/all.ts"],
      globalSetup: null,
      globalTeardown: null,
      // Nobody reads them, and they take much of a killed mutant's time.
      noStackTrace: true,
    },
    enableFindRelatedTests: false,
  },
  coverageAnalysis: "perTest",
  concurrency: 2,
  // A busy machine must not pass for a mutant that never ends.
  timeoutMS: 60_000,
  reporters: ["clear-text", "progress-append-only", "html", "json"],
  htmlReporter: { fileName: "coverage/mutation.html" },
  jsonReporter: { fileName: "coverage/mutation.json" },
  tempDirName: "coverage/stryker",
  ignorePatterns: ["dist", "chaos-logs", ".cluster"],
};
