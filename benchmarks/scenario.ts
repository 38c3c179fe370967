// What a scenario gets, and what it gives.

import type { RedisServer } from "../tests/support/servers.js";
import type { Library } from "./libraries.js";
import type { Spread } from "./measure.js";

export interface Scenario {
  readonly name: string;
  readonly title: string;
  /** What is done and how it is measured, for the reader of its figures. */
  readonly about: string;
  readonly rounds: { readonly usual: number; readonly short: number };
  run(stage: Stage): Promise<Outcome>;
}

export interface Stage {
  /** Five, the same for all scenarios. */
  readonly servers: readonly RedisServer[];
  readonly libraries: readonly Library[];
  /** The built library. */
  readonly packageUrl: string;
  readonly rounds: number;
  readonly short: boolean;
}

export interface Outcome {
  readonly tables: readonly Table[];
  readonly goals: readonly Goal[];
  readonly charts?: readonly Chart[];
  readonly notes?: readonly string[];
}

/** A spread over the rounds, or one figure; undefined where there is none. */
export type Figure = Spread | number | string | undefined;

export interface Table {
  readonly columns: readonly { readonly name: string; readonly digits?: number }[];
  readonly rows: readonly { readonly name: string; readonly figures: readonly Figure[] }[];
}

export interface Goal {
  readonly measure: string;
  readonly measured: Figure;
  readonly digits?: number;
  readonly goal: string;
  /** Undefined where it could not be judged, for want of a peer. */
  readonly met: boolean | undefined;
}

interface ChartBase {
  /** Of the file, without its ending. */
  readonly name: string;
  readonly title: string;
  readonly yName: string;
}

/** Points of x and y; both axes are logarithmic. */
export interface LineChart extends ChartBase {
  readonly kind: "lines";
  /** `quantile`: x is 1 / (1 - share), so that p90, p99 and p99.9 are equally far apart. */
  readonly x: "number" | "quantile";
  readonly xName: string;
  readonly series: readonly {
    readonly name: string;
    readonly points: readonly [number, number][];
  }[];
}

/** One bar a category and series. */
export interface BarChart extends ChartBase {
  readonly kind: "bars";
  readonly categories: readonly string[];
  readonly series: readonly { readonly name: string; readonly values: readonly number[] }[];
}

export type Chart = LineChart | BarChart;
