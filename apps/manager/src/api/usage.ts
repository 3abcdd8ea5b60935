import type { UsageApi } from '@backend.ai/contract';
import { actorOf } from '../services/sessions/session-service.ts';
import type { UsageService } from '../services/usage/usage-service.ts';

export function createUsageApi(usage: UsageService): UsageApi {
  return {
    report: (input, ctx) => usage.report(input, actorOf(ctx)),
    projects: (input, ctx) => usage.projects(input, actorOf(ctx)),
  };
}
