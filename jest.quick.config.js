import all from "./jest.config.js";

/** @type {import("jest").Config} */
export default {
  ...all,
  // What takes long, and finds what the quick tests seldom miss: `npm run test:all` runs it, and so does CI.
  testPathIgnorePatterns: [...(all.testPathIgnorePatterns ?? []), "\\.long\\.test\\.ts$"],
};
