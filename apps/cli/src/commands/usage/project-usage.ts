import type { CommandBundle } from '@backend.ai/cli-kit';
import type { Client, KernelUsage, ProjectUsage } from '@backend.ai/client';
import { daySpan, monthSpan, type Span } from '@backend.ai/core';
import { UsageError } from 'clipanion';
import { adminCommand, type Shown } from '../admin/admin-command.ts';

/** `admin resource usage-per-…`: kernel by kernel, as official command lines have it. */
export const projectUsageCommands: CommandBundle['commands'] = [
  adminCommand(
    {
      words: [['resource', 'usage-per-month']],
      description: 'Show kernel by kernel what projects used in a month of UTC',
      example: ['January 2025, all projects', 'admin resource usage-per-month 202501'],
      takes: ['MONTH'],
      options: [{ field: 'projects', flag: '--projects', kind: 'text', description: 'Only of these: ids with commas' }],
    },
    async (client, { names: [month = ''], fields: { projects = '' } }) => {
      const span = monthSpan(month);
      if (!span) throw new UsageError(`MONTH is as 202501, not "${month}".`);
      return await usageOf(client, span, String(projects).split(',').filter(Boolean));
    },
  ),
  adminCommand(
    {
      words: [['resource', 'usage-per-period']],
      description: 'Show kernel by kernel what a project used in days of UTC, the last one included',
      example: ['Two weeks', 'admin resource usage-per-period 2f1b0c1e-7c55-4a52-9d0d-6f0e5f0c7a11 20250101 20250114'],
      takes: ['PROJECT', 'FIRST', 'LAST'],
    },
    async (client, { names: [project = '', first = '', last = ''] }) => {
      const span = daySpan(first, last);
      if (!span) throw new UsageError(`FIRST and LAST are days as 20250131 in their order, not "${first}" "${last}".`);
      return await usageOf(client, span, [project]);
    },
  ),
];

async function usageOf(
  client: Client,
  { from, to }: Span,
  projects: string[],
): Promise<{ document: { projects: ProjectUsage[] }; show: Shown }> {
  const used = await client.usage.projects({ from: from.toISOString(), to: to.toISOString(), projects });
  const rows = used.flatMap(({ domain, name, kernels }) => kernels.map((kernel) => [domain, name, ...cells(kernel)]));
  return { document: { projects: used }, show: { columns, rows, total: rows.length } };
}

const columns = ['domain', 'project', 'session', 'owner', 'image', 'held', 'from', 'to', 'cpu seconds', 'peak memory'];

function cells({ sessionName, email, accessKey, image, slots, beganAt, endedAt, metrics }: KernelUsage): unknown[] {
  const held = Object.entries(slots).map((slot) => slot.join('='));
  const { cpu_used: cpu, mem } = metrics;
  return [
    ...[sessionName, email ?? accessKey, image, held.join(','), beganAt, endedAt],
    ...[cpu && (cpu.current / 1_000).toFixed(1), mem?.max],
  ];
}
