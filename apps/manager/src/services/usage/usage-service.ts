import {
  type KernelUsage,
  type Metrics,
  mostKernelRows,
  mostUsageRows,
  type ProjectUsage,
  type ProjectUsageInput,
  scopeOf,
  type UsageReport,
  type UsageReportInput,
  type UserActor,
} from '@backend.ai/contract';
import { AppError, type Clock } from '@backend.ai/core';
import type { KernelUsageRecord, UsageRepository } from '../../repositories/usage.ts';
import { toIso } from '../sessions/session-view.ts';

type UsageRows = Pick<UsageRepository, 'report' | 'kernels' | 'unknownFilter'>;

/** What is measured of kernels that run. */
export interface LiveMetrics {
  find(kernelId: string): Promise<{ readonly metrics?: Metrics | undefined } | undefined>;
}

/** How much was used, as far as the actor may see. */
export class UsageService {
  readonly #usage: UsageRows;
  readonly #live: LiveMetrics;
  readonly #clock: Clock;

  constructor(usage: UsageRows, live: LiveMetrics, clock: Clock) {
    this.#usage = usage;
    this.#live = live;
    this.#clock = clock;
  }

  /**
   * @throws AppError `invalid-input` for a time that ends before it begins, or a report that is too long, `object-not-found`
   * for whom the actor does not know
   */
  async report(input: UsageReportInput, actor: UserActor): Promise<UsageReport> {
    const { by, period, project = null, domain = null } = input;
    const user = input.user?.toLowerCase() ?? null;
    const { from, to } = spanOf(input.from, input.to ?? this.#clock.now());
    const scope = scopeOf(actor, 'usage:read');
    const query = { from, to, by, period, user, project, domain, scope, limit: mostUsageRows + 1 };
    const rows = await this.#usage.report(query);
    if (rows.length > mostUsageRows) throw tooManyRows();
    const unknown = rows.length === 0 && (await this.#usage.unknownFilter(query));
    if (unknown) throw new AppError('object-not-found', `There is no ${unknown} "${query[unknown]}".`);
    return { from, to, by, period, rows: rows.map((row) => ({ ...row, period: toIso(row.period) })) };
  }

  /**
   * Kernel by kernel, of projects that used anything.
   * @throws AppError `forbidden`, `invalid-input` for a time that ends before it begins, or too many kernels
   */
  async projects(input: ProjectUsageInput, actor: UserActor): Promise<ProjectUsage[]> {
    scopeOf(actor, 'usage:read-kernels');
    const span = spanOf(input.from, input.to);
    const rows = await this.#usage.kernels({ ...span, projects: input.projects ?? [], limit: mostKernelRows + 1 });
    if (rows.length > mostKernelRows) throw tooManyKernels();
    const kernels = await Promise.all(
      rows.map(async ({ projectId: id, projectName: name, domain, ...row }) => ({
        project: { id, name, domain },
        kernel: await this.#measured(row),
      })),
    );
    const projects = new Map<string, ProjectUsage>();
    for (const { project, kernel } of kernels) {
      const known = projects.get(project.id) ?? { ...project, kernels: [] };
      projects.set(project.id, known);
      known.kernels.push(kernel);
    }
    return [...projects.values()];
  }

  async #measured(row: Omit<KernelUsageRecord, 'projectId' | 'projectName' | 'domain'>): Promise<KernelUsage> {
    const live = row.endedAt === null ? await this.#live.find(row.kernelId) : undefined;
    return {
      ...row,
      beganAt: toIso(row.beganAt),
      endedAt: row.endedAt === null ? null : toIso(row.endedAt),
      history: Object.fromEntries(Object.entries(row.history).map(([status, at]) => [status, toIso(at)])),
      metrics: live?.metrics ?? row.metrics ?? {},
    };
  }
}

/** @throws AppError `invalid-input` */
function spanOf(begin: string, end: string | number): { from: string; to: string } {
  const [from, to] = [new Date(begin).toISOString(), new Date(end).toISOString()];
  if (from < to) return { from, to };
  throw new AppError('invalid-input', 'The time of the report ends before it begins.', {
    data: { fields: { to: 'must be later than from' } },
  });
}

function tooManyRows(): AppError {
  return new AppError('invalid-input', `The report has more than ${mostUsageRows} rows.`, {
    hint: 'Take longer periods, or a shorter time.',
    data: { fields: { period: 'makes too many rows' } },
  });
}

function tooManyKernels(): AppError {
  return new AppError('invalid-input', `In this time more than ${mostKernelRows} kernels held something.`, {
    hint: 'Name fewer projects, or a shorter time.',
    data: { fields: { projects: 'have too many kernels' } },
  });
}
