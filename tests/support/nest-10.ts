// A setup file: fails a run that is to be of Nest 10 and is not.

import { createRequire } from "node:module";

const { version } = createRequire(import.meta.url)("@nestjs/common/package.json") as {
  version: string;
};
if (!version.startsWith("10.")) throw new Error(`This run has Nest ${version}, not 10.`);
