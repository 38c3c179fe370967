import js from "@eslint/js";
import { defineConfig, globalIgnores } from "eslint/config";
import ts from "typescript";
import tseslint from "typescript-eslint";

/**
 * Reports what the compiler says of a file. The rules with types need all that it knows of the code anyway, so this costs
 * little here, and a run of `tsc` of its own would cost a third of what all the rules do.
 */
const compiler = {
  create: ({ report, sourceCode }) => ({
    Program: (node) => {
      const { program, esTreeNodeToTSNodeMap } = sourceCode.parserServices;
      const file = esTreeNodeToTSNodeMap.get(node);
      for (const { start = 0, messageText } of ts.getPreEmitDiagnostics(program, file)) {
        const message = ts.flattenDiagnosticMessageText(messageText, "\n");
        report({ loc: sourceCode.getLocFromIndex(start), message });
      }
    },
  }),
};

export default defineConfig(
  globalIgnores(["dist/", "coverage/", "site/", "tests/consumers/"]),
  js.configs.recommended,
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { project: "./tsconfig.json" } },
    plugins: { typescript: { rules: { compiler } } },
    rules: {
      "typescript/compiler": "error",
      "@typescript-eslint/restrict-template-expressions": [
        "error",
        { allowNumber: true, allowBoolean: true },
      ],
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      "@typescript-eslint/consistent-type-imports": "error",
    },
  },
);
