module.exports = {
  watchman: false,
  // Against hanging: a busy machine may take long.
  testTimeout: 60_000,
  projects: [
    { displayName: "real", testMatch: ["**/real.test.js"] },
    { displayName: "fake", testMatch: ["**/fake.test.js"] },
    // The library, too, is loaded under fake timers.
    {
      displayName: "global",
      testMatch: ["**/fake.test.js"],
      fakeTimers: { enableGlobally: true },
    },
  ].map((project) => ({ ...project, testPathIgnorePatterns: [] })),
};
