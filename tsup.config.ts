import { defineConfig, type Options } from "tsup";

const shared: Options = {
  entry: ["src/index.ts"],
  target: "node20",
  sourcemap: true,
  // tsup passes `baseUrl` to the declaration build, which TypeScript 6 rejects without this.
  dts: { compilerOptions: { ignoreDeprecations: "6.0" } },
};

export default defineConfig([
  { ...shared, format: ["esm"] },
  // p-retry and p-timeout are ES modules only: bundled, `require()` works, also under Jest.
  { ...shared, format: ["cjs"], noExternal: ["p-retry", "p-timeout", "is-network-error"] },
]);
