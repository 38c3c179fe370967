// The dashboard and the alert rules of docker/observe, with a real Prometheus that scrapes the real exporter.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { PrometheusExporter } from "@opentelemetry/exporter-prometheus";
import { MeterProvider } from "@opentelemetry/sdk-metrics";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Redlock } from "../../src/index.js";
import { observeRedlock } from "../../src/opentelemetry/index.js";
import { fresh, rejection } from "../support/nodes.js";
import { ensureDebianPackage, findOnPath, freePorts, until } from "../support/servers.js";
import { useServers } from "../support/use-servers.js";

const folder = join(import.meta.dirname, "..", "..", "docker", "observe");
const START_TIMEOUT_MS = 60_000;

async function findPrometheus(): Promise<boolean> {
  const programs = (): Promise<(string | undefined)[]> =>
    Promise.all(["prometheus", "promtool"].map((name) => findOnPath(name)));
  if ((await programs()).includes(undefined)) await ensureDebianPackage("prometheus");
  return !(await programs()).includes(undefined);
}

const isThere = await findPrometheus();
if (!isThere) {
  console.error(
    "Skipped: there is no prometheus and promtool, and this process cannot install Debian's. " +
      "Install them: apt-get install prometheus.",
  );
}
const whenThere = isThere ? describe : describe.skip;

interface Panel {
  readonly title: string;
  readonly targets: readonly { readonly expr: string }[];
}

const dashboard = JSON.parse(readFileSync(join(folder, "dashboard.json"), "utf8")) as {
  readonly panels: readonly Panel[];
};
const queries = dashboard.panels.flatMap(({ title, targets }) =>
  targets.map(({ expr }) => [title, expr.replaceAll("$__rate_interval", "1m")] as const),
);

whenThere("the alert rules", () => {
  const promtool = (...args: readonly string[]): Promise<{ readonly stdout: string }> =>
    promisify(execFile)("promtool", args, { cwd: folder });

  test("are rules that Prometheus accepts", async () => {
    expect((await promtool("check", "rules", "alerts.yml")).stdout).toContain("SUCCESS: 5 rules");
  });

  test("belong to a configuration that Prometheus accepts", async () => {
    expect((await promtool("check", "config", "prometheus.yml")).stdout).toContain("SUCCESS");
  });

  test("alert when they should, and not otherwise", async () => {
    expect((await promtool("test", "rules", "alerts.test.yml")).stdout).toContain("SUCCESS");
  });
});

whenThere("a Prometheus that scrapes the exporter of OpenTelemetry", () => {
  const servers = useServers(5);
  let directory: string;
  let exporter: PrometheusExporter;
  let prometheus: ChildProcess;
  let url: string;
  let stop: () => void;

  interface Answer {
    readonly status: string;
    readonly error?: string;
    readonly data: { readonly result: readonly { metric: object; value: [number, string] }[] };
  }

  async function query(expr: string): Promise<Answer["data"]["result"]> {
    const response = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(expr)}`);
    const { status, error, data } = (await response.json()) as Answer;
    if (status !== "success") throw new Error(`${expr}: ${String(error)}`);
    return data.result;
  }

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "redlock-observe-"));
    const [exporterPort = 0, port = 0] = await freePorts(2);
    exporter = new PrometheusExporter({ host: "127.0.0.1", port: exporterPort });
    const provider = new MeterProvider({ readers: [exporter] });
    stop = observeRedlock({ meterProvider: provider, tracerProvider: false });
    const config = readFileSync(join(folder, "prometheus.yml"), "utf8")
      .replace("host.docker.internal:9464", `127.0.0.1:${exporterPort}`)
      .replace("alerts.yml", join(folder, "alerts.yml"))
      .replaceAll("_interval: 5s", "_interval: 1s");
    writeFileSync(join(directory, "prometheus.yml"), config);
    url = `http://127.0.0.1:${port}`;
    const args = [
      `--config.file=${join(directory, "prometheus.yml")}`,
      `--storage.tsdb.path=${join(directory, "data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
      "--log.level=error",
    ];
    prometheus = spawn("prometheus", args, { stdio: "ignore" });
    const isReady = (): Promise<boolean> =>
      fetch(`${url}/-/ready`).then(
        ({ ok }) => ok,
        () => false,
      );
    await until(isReady, START_TIMEOUT_MS, () => "Prometheus does not start");
  });

  afterAll(async () => {
    stop();
    const ended = once(prometheus, "exit");
    prometheus.kill();
    await ended;
    await exporter.shutdown();
    rmSync(directory, { recursive: true, force: true });
  });

  /** Something of everything: waits, failures, a frozen node, a loss. */
  async function work(redlock: Redlock): Promise<void> {
    const resource = fresh();
    await Promise.all(
      [1, 2, 3].map(() => redlock.using(resource, 5000, (_, lock) => lock.extend(5000))),
    );
    const held = await redlock.acquire(resource, 5000);
    expect(await redlock.tryAcquire(resource, 5000)).toBeNull();
    await held.release();
    const short = await redlock.acquire(fresh(), 100);
    await until(
      () => !short.valid,
      5000,
      () => "it does not end",
    );
    const aborting = AbortSignal.timeout(50);
    const lock = await redlock.acquire(fresh(), 5000);
    await rejection(redlock.acquire(lock.resources, 5000, { signal: aborting, retryCount: -1 }));
    await lock.release();
  }

  test("has data for every query of the dashboard, and raises the alert of a lost lock", async () => {
    const redlock = new Redlock(
      servers.map(({ url: node }) => node),
      { nodeTimeout: 200 },
    );
    await work(redlock);
    await servers[4]?.freeze();
    const hasData = async (expr: string): Promise<boolean> =>
      (await query(expr)).some(({ value: [, value] }) => value !== "NaN");
    const missing = new Set(queries);
    expect(missing.size).toBeGreaterThanOrEqual(12);
    await until(
      async () => {
        await work(redlock);
        for (const one of missing) if (await hasData(one[1])) missing.delete(one);
        return missing.size === 0;
      },
      START_TIMEOUT_MS,
      () => `Without data: ${JSON.stringify([...missing])}`,
    );
    // On a busy machine, another node may time out now and then.
    const timeouts = 'sum by (redlock_node) (redlock_votes_total{redlock_vote="timeout"})';
    const [frozen] = await query(`topk(1, ${timeouts})`);
    expect(frozen?.metric).toMatchObject({ redlock_node: `127.0.0.1:${servers[4]?.port}` });
    await until(
      async () => (await query('ALERTS{alertname="RedlockLost"}')).length === 1,
      START_TIMEOUT_MS,
      () => "no alert",
    );
    servers[4]?.thaw();
    await redlock.quit();
  });
});
