import type { ProjectUsage } from '@backend.ai/contract';
import { daySpan, isUuid, monthSpan, type Span } from '@backend.ai/core';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { type Params, readParams, sendJson } from '../parameters.ts';
import { edgeOf } from '../request-edge.ts';
import type { RouteContext } from '../server.ts';
import { periodAnswer, projectAnswer } from './usage-shapes.ts';

const mostDays = 100;
const dayMs = 24 * 3_600_000;

/** What projects used, kernel by kernel, in the official forms. Months and days are of UTC. */
export function registerUsageRoutes(app: FastifyInstance, { services }: RouteContext): void {
  const used = (request: FastifyRequest, { from, to }: Span, projects: string[]): Promise<ProjectUsage[]> => {
    const input = { from: from.toISOString(), to: to.toISOString(), projects };
    return services.usage.projects(input, edgeOf(request).callContext);
  };

  app.get('/resource/usage/month', async (request, reply) => {
    const params = readParams(request);
    const span = monthSpan(params.requiredText('month')) ?? params.problem('month', 'is not a month such as 202501');
    // A query has them in one text.
    const ids = params.texts('group_ids', 'project_ids').flatMap((text) => text.split(','));
    const projects = projectIds(params, 'group_ids', ids);
    params.check();
    const usage = span ? await used(request, span, projects) : [];
    return sendJson(reply, 200, usage.map(projectAnswer));
  });

  app.get('/resource/usage/period', async (request, reply) => {
    const params = readParams(request);
    const id = params.text('project_id', 'group_id');
    const projects = projectIds(params, 'group_id', id === undefined ? [] : [id]);
    const span =
      daySpan(params.requiredText('start_date'), params.requiredText('end_date')) ??
      params.problem('end_date', 'is not a day such as 20250131, or one before the first');
    if (span && span.to.getTime() - span.from.getTime() > mostDays * dayMs)
      params.problem('end_date', `makes more than ${mostDays} days`);
    params.check();
    const usage = span ? await used(request, span, projects) : [];
    return sendJson(reply, 200, usage.map(periodAnswer));
  });
}

function projectIds(params: Params, field: string, texts: readonly string[]): string[] {
  const ids = texts.filter((text) => text !== '');
  if (!ids.every((id) => isUuid(id))) params.problem(field, 'is not an id of a project');
  return ids;
}
