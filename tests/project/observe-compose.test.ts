// `docker compose --profile observe`: what the Compose file starts, and that each file that it mounts is there and
// fits the others. Compose itself reads the file where it is installed.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { parse } from "yaml";
import { defined } from "../support/nodes.js";

const folder = join(import.meta.dirname, "..", "..", "docker");
const file = join(folder, "docker-compose.yml");
const observe = join(folder, "observe");

interface Service {
  readonly image: string;
  readonly profiles?: readonly string[];
  readonly ports?: readonly unknown[];
  readonly volumes?: readonly (
    string | { readonly type: string; readonly source: string; readonly target: string }
  )[];
  readonly extra_hosts?: unknown;
}

interface Model {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
}

function yamlOf(...path: string[]): unknown {
  // With `merge`, as Compose reads it.
  return parse(readFileSync(join(...path), "utf8"), { merge: true });
}

/** What Compose makes of the file: the plugin, or the program; undefined where there is none. */
function asComposeReadsIt(): Model | undefined {
  const args = ["-f", file, "--profile", "observe", "config"];
  for (const [program, ...first] of [["docker", "compose"], ["docker-compose"]] as const) {
    try {
      execFileSync(program, [...first, "version"], { stdio: "ignore" });
    } catch {
      continue;
    }
    return parse(execFileSync(program, [...first, ...args], { encoding: "utf8" })) as Model;
  }
  return undefined;
}

/** The mounts of files and folders of this repository: from where, and to where. */
function mountsOf({ volumes = [] }: Service, model: Model): [string, string][] {
  return volumes.flatMap((volume): [string, string][] => {
    const [source = "", target = ""] =
      typeof volume === "string" ? volume.split(":") : [volume.source, volume.target];
    if (source in model.volumes) return [];
    return [[isAbsolute(source) ? source : join(folder, source), target]];
  });
}

const models: [string, Model][] = [["as YAML", yamlOf(file) as Model]];
const read = asComposeReadsIt();
if (read !== undefined) models.push(["as Compose reads it", read]);

describe.each(models)("the Compose file, %s,", (_, model) => {
  const { prometheus, grafana, ...nodes } = model.services;

  test("starts Prometheus and Grafana only with the profile, and the five nodes always", () => {
    expect(prometheus?.profiles).toEqual(["observe"]);
    expect(grafana?.profiles).toEqual(["observe"]);
    expect(Object.values(nodes)).toHaveLength(5);
    for (const { profiles } of Object.values(nodes)) expect(profiles).toBeUndefined();
  });

  test("opens each port on loopback only", () => {
    const ports = Object.values(model.services).flatMap((service) => service.ports ?? []);
    expect(ports).toHaveLength(7);
    for (const port of ports) expect(JSON.stringify(port)).toContain("127.0.0.1");
  });

  test("mounts files that are there, where Prometheus and Grafana look for them", () => {
    const [ofPrometheus, ofGrafana] = [prometheus, grafana].map((service) =>
      mountsOf(defined(service), model),
    );
    for (const [source] of [...defined(ofPrometheus), ...defined(ofGrafana)]) {
      expect([source, existsSync(source)]).toEqual([source, true]);
    }
    expect(ofPrometheus).toEqual([[observe, "/etc/prometheus"]]);
    expect(existsSync(join(observe, "prometheus.yml"))).toBe(true);
    const targets = new Map(defined(ofGrafana));
    expect(targets.get(join(observe, "grafana", "provisioning"))).toBe("/etc/grafana/provisioning");
    const provisioned = yamlOf(observe, "grafana/provisioning/dashboards/redlock.yml") as {
      readonly providers: readonly { readonly options: { readonly path: string } }[];
    };
    const [provider] = provisioned.providers;
    const target = defined(targets.get(join(observe, "dashboard.json")));
    expect(target.startsWith(`${defined(provider).options.path}/`)).toBe(true);
  });

  test("gives Prometheus a name for this machine, which its configuration scrapes", () => {
    const { rule_files: rules, scrape_configs: scrapes } = yamlOf(observe, "prometheus.yml") as {
      readonly rule_files: readonly string[];
      readonly scrape_configs: readonly {
        readonly static_configs: readonly { readonly targets: readonly string[] }[];
      }[];
    };
    for (const rule of rules) expect(existsSync(join(observe, rule))).toBe(true);
    const targets = scrapes.flatMap((scrape) =>
      scrape.static_configs.flatMap((one) => one.targets),
    );
    const hosts = targets.map((target) => defined(target.split(":")[0]));
    expect(hosts).toHaveLength(1);
    expect(JSON.stringify(prometheus?.extra_hosts)).toContain(hosts[0]);
  });

  test("has the Prometheus that Grafana and its dashboard ask", () => {
    const { datasources } = yamlOf(observe, "grafana/provisioning/datasources/prometheus.yml") as {
      readonly datasources: readonly { readonly url: string; readonly uid: string }[];
    };
    const [source] = datasources;
    const { hostname, port } = new URL(defined(source).url);
    expect(hostname in model.services).toBe(true);
    expect(JSON.stringify(model.services[hostname]?.ports)).toContain(port);
    const dashboard = readFileSync(join(observe, "dashboard.json"), "utf8");
    const uids = [...dashboard.matchAll(/"type": "prometheus",\s*"uid": "([^"]*)"/g)];
    expect(uids.length).toBeGreaterThan(0);
    expect(new Set(uids.map(([, uid]) => uid))).toEqual(new Set([defined(source).uid]));
  });
});
