// Draws the charts as SVG, by Apache ECharts, which is one of the suite's own dependencies.

import { createRequire } from "node:module";
import type { BarChart, Chart, LineChart } from "./scenario.js";

interface Echarts {
  init(
    element: null,
    theme: null,
    options: { renderer: "svg"; ssr: true; width: number; height: number },
  ): { setOption(option: object): void; renderToSVGString(): string; dispose(): void };
}

const WIDTH = 1000;
const HEIGHT = 480;
const LEGEND_WIDTH = 250;
/** One colour per library in all charts. Red-green colour-blind readers can tell them apart. */
const COLOR_OF: Readonly<Record<string, string>> = {
  "redlock-quorum": "#0072b2",
  "redlock 5 beta": "#d55e00",
  "redlock 4": "#e69f00",
  "@sesamecare-oss/redlock": "#cc79a7",
  "redis-semaphore": "#009e73",
  "redlock-universal": "#56b4e9",
  "ioredis alone": "#999999",
  "ioredis alone, auto-pipelining": "#000000",
};
/** For what is not in the list above. */
const OTHER_COLOR = "#7b4fa3";
const OURS = "redlock-quorum";
const TEXT_COLOR = "#333333";

/** Undefined where ECharts is not installed. */
export function drawingOf(): ((chart: Chart) => string) | undefined {
  let echarts: Echarts;
  try {
    echarts = createRequire(import.meta.url)("echarts") as Echarts;
  } catch {
    return undefined;
  }
  return (chart) => {
    const canvas = echarts.init(null, null, {
      renderer: "svg",
      ssr: true,
      width: WIDTH,
      height: HEIGHT,
    });
    canvas.setOption({
      animation: false,
      backgroundColor: "#ffffff",
      title: { text: chart.title, left: 15, top: 8, textStyle: { fontSize: 15 } },
      // One name below the other: ECharts cannot know how wide the reader's font is.
      legend: {
        orient: "vertical",
        left: WIDTH - LEGEND_WIDTH + 10,
        top: 60,
        itemGap: 14,
        textStyle: { color: TEXT_COLOR },
      },
      grid: { left: 75, right: LEGEND_WIDTH + 15, top: 70, bottom: 65 },
      ...(chart.kind === "lines" ? lines(chart) : bars(chart)),
    });
    const svg = canvas.renderToSVGString();
    canvas.dispose();
    return svg;
  };
}

function colorOf(name: string): string {
  return COLOR_OF[name] ?? OTHER_COLOR;
}

/** The name of the y axis, above it and starting at its left, where the longest name has room. */
function yAxisName(name: string): object {
  return { name, nameTextStyle: { align: "left", padding: [0, 0, 0, -55], color: TEXT_COLOR } };
}

function lines({ x, xName, yName, series }: LineChart): object {
  return {
    xAxis: {
      type: "log",
      logBase: x === "quantile" ? 10 : 2,
      name:
        x === "quantile"
          ? `${xName} that took at most this long, log scale`
          : `${xName}, log scale`,
      nameLocation: "middle",
      nameGap: 32,
      nameTextStyle: { color: TEXT_COLOR },
      axisLabel: x === "quantile" ? { formatter: shareInText } : {},
    },
    yAxis: { type: "log", ...yAxisName(`${yName}, log scale`), minorSplitLine: { show: true } },
    series: series.map(({ name, points }) => ({
      type: "line",
      name,
      data: points,
      showSymbol: x === "number",
      color: colorOf(name),
      lineStyle: { width: name === OURS ? 4 : 2 },
      z: name === OURS ? 3 : 2,
    })),
  };
}

/** The quantile at x = 1 / (1 - share): p99 at 100. */
function shareInText(x: number): string {
  return x === 1 ? "min" : `p${Number((100 * (1 - 1 / x)).toFixed(4))}`;
}

function bars({ yName, categories, series }: BarChart): object {
  return {
    xAxis: { type: "category", data: categories },
    yAxis: { type: "value", ...yAxisName(yName) },
    series: series.map(({ name, values }) => ({
      type: "bar",
      name,
      color: colorOf(name),
      data: values.map((value) => (value > 0 ? value : missingBar(name))),
    })),
  };
}

/** Says in the place of a bar why there is none. */
function missingBar(name: string): object {
  return {
    value: 0,
    label: {
      show: true,
      position: "insideBottom",
      rotate: 90,
      align: "left",
      verticalAlign: "middle",
      distance: 6,
      fontSize: 11,
      color: TEXT_COLOR,
      formatter: `${name}: never finished`,
    },
  };
}
