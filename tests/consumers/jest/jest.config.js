module.exports = { testPathIgnorePatterns: [], watchman: false };
