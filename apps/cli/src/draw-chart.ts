import type { EChartsOption } from 'echarts';

const size = { width: 960, height: 480 };

/** One chart as the text of an SVG picture, in the look that all of ours have. */
export async function drawChart(options: EChartsOption): Promise<string> {
  const { init } = await import('echarts');
  const chart = init(null, null, { renderer: 'svg', ssr: true, ...size });
  chart.setOption({
    animation: false,
    backgroundColor: '#ffffff',
    // Without a browser widths of texts are estimated, and a little too small.
    legend: { bottom: 0, type: 'plain', itemGap: 32 },
    grid: { left: 16, right: 24, top: 72, bottom: 64, containLabel: true },
    ...options,
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}

/** `2030-01-01 12:00` of a moment in ISO form. */
export function minuteOf(moment: string): string {
  return moment.slice(0, 16).replace('T', ' ');
}
