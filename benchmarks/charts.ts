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

const WIDTH = 900;
const HEIGHT = 480;
/** As the libraries come: ours stands out, and the colours can be told apart by those who see few. */
const COLORS = [
  "#999999",
  "#0072b2",
  "#d55e00",
  "#e69f00",
  "#cc79a7",
  "#009e73",
  "#56b4e9",
  "#000000",
];

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
      color: COLORS,
      title: { text: chart.title, left: "center", textStyle: { fontSize: 15 } },
      legend: { bottom: 0 },
      grid: { left: 80, right: 30, top: 50, bottom: 95 },
      ...(chart.kind === "lines" ? lines(chart) : bars(chart)),
    });
    const svg = canvas.renderToSVGString();
    canvas.dispose();
    return svg;
  };
}

function lines({ x, xName, yName, series }: LineChart): object {
  return {
    xAxis: {
      type: "log",
      logBase: x === "quantile" ? 10 : 2,
      name: xName,
      nameLocation: "middle",
      nameGap: 28,
      axisLabel: x === "quantile" ? { formatter: shareInText } : {},
    },
    yAxis: { type: "log", name: yName, minorSplitLine: { show: true } },
    series: series.map(({ name, points }) => ({
      type: "line",
      name,
      data: points,
      showSymbol: x === "number",
    })),
  };
}

/** Of what lies below: 1 / (1 - share) is 100 for p99. */
function shareInText(x: number): string {
  return x === 1 ? "least" : `p${Number((100 * (1 - 1 / x)).toFixed(4))}`;
}

function bars({ yName, categories, series }: BarChart): object {
  return {
    xAxis: { type: "category", data: categories },
    yAxis: { type: "value", name: yName },
    series: series.map(({ name, values }) => ({ type: "bar", name, data: values })),
  };
}
