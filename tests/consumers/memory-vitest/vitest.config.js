import { defineConfig } from "vitest/config";

// Against hanging: a busy machine may take long.
export default defineConfig({ test: { testTimeout: 60_000, hookTimeout: 60_000 } });
