import { expect, test } from "@jest/globals";
import { Cli } from "../support/cli.js";
import { fresh } from "../support/nodes.js";
import { useServers } from "../support/use-servers.js";
import { crowd } from "./crowd.js";

const cli = new Cli(useServers(3));
const SIZE = 200;

test(`${SIZE} redlock run at once on one resource run one at a time, and all of them run`, async () => {
  const { outcomes, lines } = await crowd(cli, fresh(), SIZE);
  expect(outcomes).toEqual(outcomes.map(() => ({ status: 0, out: "", err: "" })));
  expect(lines).toEqual(Array.from({ length: SIZE }, (_, index) => String(index + 1)));
});
