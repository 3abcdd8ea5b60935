import type { SessionApi } from '@backend.ai/contract';
import type { ExplainService } from '../services/explain/explain-service.ts';
import type { CustomizedImageService } from '../services/images/customized-image-service.ts';
import type { KernelService } from '../services/kernels/kernel-service.ts';
import type { LogFollower } from '../services/kernels/log-follower.ts';
import type { PausingService } from '../services/kernels/pausing-service.ts';
import type { InspectionService } from '../services/sessions/inspection-service.ts';
import type { SessionCreation } from '../services/sessions/session-creation.ts';
import { actorOf, type SessionService } from '../services/sessions/session-service.ts';

/** The router lets only users in; which sessions they may touch is decided where a reference is looked up. */
export function createSessionApi(
  creation: SessionCreation,
  sessions: SessionService,
  kernels: KernelService,
  logs: LogFollower,
  customized: CustomizedImageService,
  pausing: PausingService,
  about: { readonly inspections: InspectionService; readonly explanations: ExplainService },
): SessionApi {
  return {
    create: (input, ctx) => creation.create(input, actorOf(ctx)),
    get: ({ session }, ctx) => sessions.get(session, actorOf(ctx)),
    list: (input, ctx) => sessions.list(input, actorOf(ctx)),
    history: ({ session }, ctx) => about.explanations.history(session, actorOf(ctx)),
    explain: ({ session }, ctx) => about.explanations.explain(session, actorOf(ctx)),
    wait: (input, ctx) => sessions.wait(input, actorOf(ctx), ctx.signal),
    watch: ({ session }, ctx) => sessions.watch(session, actorOf(ctx), ctx.signal),
    destroy: ({ session, ...how }, ctx) => sessions.destroy(session, how, actorOf(ctx)),
    restart: ({ session }, ctx) => sessions.restart(session, actorOf(ctx)),
    rename: ({ session, name }, ctx) => sessions.rename(session, name, actorOf(ctx)),
    pause: ({ session }, ctx) => pausing.pause(session, actorOf(ctx)),
    resume: ({ session }, ctx) => pausing.resume(session, actorOf(ctx)),
    commit: (input, ctx) => customized.commit(input, ctx),
    commitState: ({ session }, ctx) => customized.state(session, ctx),
    execute: ({ session, ...input }, ctx) => kernels.execute(session, input, actorOf(ctx), ctx.signal),
    interrupt: ({ session, runId }, ctx) => kernels.interrupt(session, actorOf(ctx), runId),
    services: ({ session }, ctx) => kernels.services(session, actorOf(ctx)),
    startService: ({ session, ...input }, ctx) => kernels.startService(session, input, actorOf(ctx), ctx.signal),
    stopService: ({ session, service }, ctx) => kernels.stopService(session, service, actorOf(ctx)),
    complete: ({ session, ...input }, ctx) => kernels.complete(session, input, actorOf(ctx), ctx.signal),
    logs: ({ session, attempt }, ctx) => kernels.logs(session, attempt, actorOf(ctx), ctx.signal),
    followLogs: ({ session, ...from }, ctx) => logs.follow(session, from, actorOf(ctx), ctx.signal),
    listFiles: ({ session, path }, ctx) => kernels.listFiles(session, path, actorOf(ctx), ctx.signal),
    inspect: ({ session }, ctx) => about.inspections.inspect(session, actorOf(ctx)),
    stats: ({ session }, ctx) => about.inspections.statistics(session, actorOf(ctx)),
    idle: ({ session }, ctx) => about.inspections.idle(session, actorOf(ctx)),
  };
}
