import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { findLocalCluster } from "../../docker/cluster-local.js";
import { nodesOf, type Site } from "../../docker/nodes.js";
import { ask, freePorts, isPortTaken, processHasEnded } from "../support/servers.js";
import { cluster, pidOnPort } from "../support/cluster-script.js";

let folder: string;
let site: Site;

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "redlock-quorum-cluster-")));
  site = { ports: await freePorts(5), directory: join(folder, "data") };
});

afterEach(async () => {
  const { cluster: local, exists } = await findLocalCluster(site);
  if (exists) await local.end(true);
  await rm(folder, { recursive: true, force: true });
});

test("npm run cluster -- up, status, up again, down: five processes outlive the command and end cleanly", async () => {
  const up = await cluster(site, ["up", "--local"]);
  expect(up).toMatchObject({ code: 0, err: "" });
  const pids = await Promise.all(site.ports.map(pidOnPort));
  for (const { name, port } of nodesOf(site)) {
    expect(up.out).toContain(`${name}  127.0.0.1:${port}  up`);
    const setting = await ask(port, ["INFO", "persistence"]);
    expect(setting).toContain("aof_enabled:1");
  }

  const status = await cluster(site, ["status", "--local"]);
  expect(status.code).toBe(0);
  expect(status.out).toContain("Mode: local");
  for (const pid of pids) expect(status.out).toMatch(new RegExp(`pid ${pid}  (Redis|Valkey) `));

  const again = await cluster(site, ["up", "--local"]);
  expect(again.code).toBe(0);
  expect(again.out).toContain("Already running (local)");
  expect(await Promise.all(site.ports.map(pidOnPort))).toEqual(pids);

  expect((await cluster(site, ["down", "--local"])).code).toBe(0);
  expect(pids.map(processHasEnded)).toEqual(pids.map(() => true));
  expect(await Promise.all(site.ports.map(isPortTaken))).not.toContain(true);
  expect((await cluster(site, ["status", "--local"])).code).toBe(1);
});
