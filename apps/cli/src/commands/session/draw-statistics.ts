import type { SessionStatisticsView } from '@backend.ai/client';
import { drawChart } from '../../draw-chart.ts';

/** Processor and memory of each kernel over the time that is remembered. SVG. */
export function drawStatistics({ name, kernels }: SessionStatisticsView): Promise<string> {
  const points = kernels.flatMap(({ series }) => series.map(({ at }) => at)).sort();
  const [from = '', to = ''] = [points[0], points.at(-1)];
  const lines = kernels.flatMap(({ role, index, series }) => {
    const line = { type: 'line' as const, showSymbol: false, connectNulls: false };
    const kernel = kernels.length > 1 ? ` ${role}${index}` : '';
    return [
      { ...line, name: `cpu${kernel}`, data: series.map(({ at, cpuPercent }) => [at, cpuPercent]) },
      {
        ...{ ...line, name: `memory${kernel}`, yAxisIndex: 1, lineStyle: { type: 'dashed' as const } },
        data: series.map(({ at, memoryBytes }) => [at, memoryBytes === null ? null : memoryBytes / 1024 ** 2]),
      },
    ];
  });
  const subtext = from === '' ? 'nothing was measured lately' : `${secondOf(from)} to ${secondOf(to)} UTC`;
  return drawChart({
    title: { text: `use of ${name}`, subtext, left: 'center' },
    useUTC: true,
    xAxis: { type: 'time' },
    yAxis: [
      { type: 'value', name: '% of a core', min: 0 },
      { type: 'value', name: 'MiB', min: 0, splitLine: { show: false } },
    ],
    series: lines,
  });
}

function secondOf(moment: string): string {
  return moment.slice(0, 19).replace('T', ' ');
}
