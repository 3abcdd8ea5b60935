import { writeFile } from 'node:fs/promises';
import { AppError } from '@backend.ai/core';
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

/** @throws AppError `invalid-path` where no file can be written */
export async function savePicture(path: string, svg: string): Promise<void> {
  await writeFile(path, svg).catch((cause: NodeJS.ErrnoException) => {
    const why = writeFailures[cause.code ?? ''] ?? cause.message;
    throw new AppError('invalid-path', `The picture cannot be written to ${path}: ${why}.`, {
      hint: 'Name a file in a folder that exists and that you may write to.',
      cause,
    });
  });
}

const writeFailures: Readonly<Record<string, string>> = {
  ENOENT: 'its folder does not exist',
  ENOTDIR: 'what it is in is no folder',
  EISDIR: 'that is a folder',
  EACCES: 'you may not write there',
  EROFS: 'nothing can be written there',
  ENOSPC: 'the disk is full',
};

/** `2030-01-01 12:00` of a moment in ISO form. */
export function minuteOf(moment: string): string {
  return moment.slice(0, 16).replace('T', ' ');
}
