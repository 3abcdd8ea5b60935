import { tracked } from '@trpc/server';
import { z } from 'zod';
import type { AgentView } from './agent.ts';
import { type AgentAdminApi, createAgentAdminRouter } from './agent-administration.ts';
import { type AuditApi, createAuditRouter } from './audit.ts';
import { createDotfileRouter, type DotfileApi } from './dotfile.ts';
import type { SessionExplanation } from './explanation.ts';
import { type FileListing, homePathSchema } from './files.ts';
import type { SessionIdleView } from './idle.ts';
import {
  createImageAdminRouter,
  createImageRouter,
  createRegistryRouter,
  type ImageAdminApi,
  type ImageApi,
  type RegistryAdminApi,
} from './image-api.ts';
import { type CallContext, procedureFor, router } from './link.ts';
import type { FollowedLog } from './log.ts';
import {
  createResourceGroupAdminRouter,
  createResourceGroupRouter,
  type ResourceGroupAdminApi,
  type ResourceGroupApi,
} from './resource-group.ts';
import { createResourcePolicyRouter, type ResourcePolicyApi } from './resource-policy.ts';
import {
  createResourcePresetAdminRouter,
  createResourcePresetRouter,
  type ResourcePresetAdminApi,
  type ResourcePresetApi,
} from './resource-preset.ts';
import {
  type CompleteInput,
  type CompleteResult,
  completeInputSchema,
  type ExecuteInput,
  executeInputSchema,
  type RunResult,
  runIdSchema,
} from './run.ts';
import {
  type ServiceStart,
  type ServiceView,
  type StartServiceInput,
  serviceNameSchema,
  startServiceSchema,
} from './service.ts';
import {
  type CommitStarted,
  type CreateSessionInput,
  type CreateSessionResult,
  commitSessionSchema,
  createSessionSchema,
  type DestroySessionResult,
  destroySessionSchema,
  listSessionsSchema,
  renameSessionSchema,
  type SessionCommitState,
  type SessionDetailsView,
  type SessionHistoryEntry,
  type SessionView,
  sessionRefSchema,
  waitSessionSchema,
} from './session.ts';
import { createSessionTemplateRouter, type SessionTemplateApi } from './session-template.ts';
import type { SessionInspection, SessionStatisticsView } from './statistics.ts';
import { createTaskRouter, type TaskApi } from './task.ts';
import {
  createDomainRouter,
  createKeypairRouter,
  createProjectRouter,
  createUserRouter,
  type TenancyServices,
} from './tenancy.ts';
import {
  type ProjectUsage,
  type ProjectUsageInput,
  projectUsageSchema,
  type UsageReport,
  type UsageReportInput,
  usageReportSchema,
} from './usage.ts';
import { createWarmPoolRouter, type WarmPoolApi } from './warm-pool.ts';

/** SDK, CLI, UI → manager. Same services and same authentication as the REST API; file bytes go over plain HTTP. */

const bySession = z.strictObject({ session: sessionRefSchema });
const sessionLogs = bySession.extend({
  /** The n-th time that it was started, from 1; absent: the present or last one. */
  attempt: z.number().int().min(1).max(1_000_000).optional(),
});
const executeSession = executeInputSchema.extend({ session: sessionRefSchema });
const interruptSession = bySession.extend({ runId: runIdSchema.optional() });
const startSessionService = startServiceSchema.extend({ session: sessionRefSchema });
const stopSessionService = bySession.extend({ service: serviceNameSchema });
const completeSession = completeInputSchema.extend({ session: sessionRefSchema });
const followLogsSession = z.strictObject({
  session: sessionRefSchema,
  /** Begin with so many of the last lines; with everything that is kept unless given. */
  tailLines: z.number().int().min(0).max(1_000_000).nullish(),
  /** The place behind the last piece that was read: go on from there. */
  lastEventId: z.string().max(128).nullish(),
});
const listFilesSession = z.strictObject({ session: sessionRefSchema, path: homePathSchema.default('.') });

export interface Whoami {
  readonly accessKey: string;
  readonly email: string;
  readonly role: string;
  readonly domain: string;
  readonly projects: string[];
}

export interface ClusterStatus {
  readonly version: string;
  readonly startedAt: string;
  readonly embedded: boolean;
  readonly agents: AgentView[];
  readonly capacity: Record<string, string>;
  readonly used: Record<string, string>;
  /** Number of live sessions by status. */
  readonly sessions: Record<string, number>;
}

export interface AuthApi {
  whoami(ctx: CallContext): Promise<Whoami>;
}
export interface ClusterApi {
  status(ctx: CallContext): Promise<ClusterStatus>;
}
export interface SessionApi {
  /** Records the wish and returns; use `wait` or `watch` to see it run. */
  create(input: CreateSessionInput, ctx: CallContext): Promise<CreateSessionResult>;
  get(input: z.infer<typeof bySession>, ctx: CallContext): Promise<SessionDetailsView>;
  /** What it is, uses, and what idle checkers would say now, of one moment. */
  inspect(input: z.infer<typeof bySession>, ctx: CallContext): Promise<SessionInspection>;
  list(input: z.infer<typeof listSessionsSchema>, ctx: CallContext): Promise<SessionView[]>;
  history(input: z.infer<typeof bySession>, ctx: CallContext): Promise<SessionHistoryEntry[]>;
  /** Why it waits, what would let it start and when; or why it was placed where it is. */
  explain(input: z.infer<typeof bySession>, ctx: CallContext): Promise<SessionExplanation>;
  wait(input: z.infer<typeof waitSessionSchema>, ctx: CallContext): Promise<SessionView>;
  /** The session now and after each change, until it has ended. */
  watch(input: z.infer<typeof bySession>, ctx: CallContext): AsyncIterable<SessionView>;
  destroy(input: z.infer<typeof destroySessionSchema>, ctx: CallContext): Promise<DestroySessionResult>;
  /**
   * Records the wish that a running session starts anew, under the same id and name.
   * @throws AppError `session-not-running`
   */
  restart(input: z.infer<typeof bySession>, ctx: CallContext): Promise<SessionView>;
  /**
   * Makes the programs of a running session stand still; it keeps its resources. Doing so twice is harmless.
   * @throws AppError `session-not-running`, `unsupported-feature` where nothing can hold them
   */
  pause(input: z.infer<typeof bySession>, ctx: CallContext): Promise<SessionView>;
  /** Lets them go on. @throws AppError `session-not-running` */
  resume(input: z.infer<typeof bySession>, ctx: CallContext): Promise<SessionView>;
  /**
   * Gives a running session another name.
   * @throws AppError `session-not-running`, `invalid-session-name`, `session-exists`
   */
  rename(input: z.infer<typeof renameSessionSchema>, ctx: CallContext): Promise<SessionView>;
  /**
   * Begins to make an image of what the files of its main kernel are now, and returns a task to watch. It is its owner's.
   * @throws AppError `session-not-running`, `unsupported-feature`, `object-exists`, `quota-exceeded`, `state-conflict`
   */
  commit(input: z.infer<typeof commitSessionSchema>, ctx: CallContext): Promise<CommitStarted>;
  commitState(input: z.infer<typeof bySession>, ctx: CallContext): Promise<SessionCommitState>;
  execute(input: ExecuteInput & { session: string }, ctx: CallContext): Promise<RunResult>;
  /** The current run, or a certain one. */
  interrupt(input: z.infer<typeof interruptSession>, ctx: CallContext): Promise<void>;
  /** What the image offers, and the ports that were announced for programs of the user. */
  services(input: z.infer<typeof bySession>, ctx: CallContext): Promise<ServiceView[]>;
  /** Makes sure that a service listens; its own failure is an answer. @throws AppError `object-not-found` */
  startService(input: StartServiceInput & { session: string }, ctx: CallContext): Promise<ServiceStart>;
  stopService(input: z.infer<typeof stopSessionService>, ctx: CallContext): Promise<void>;
  complete(input: CompleteInput & { session: string }, ctx: CallContext): Promise<CompleteResult>;
  /** @throws AppError `object-not-found`: of that attempt no log is kept */
  logs(input: z.infer<typeof sessionLogs>, ctx: CallContext): Promise<{ logs: string }>;
  /**
   * What its main kernel writes, from the beginning of what is kept, until the session has ended; after a restart of the
   * session what its new kernel writes. Waits for a session that does not run yet.
   */
  followLogs(input: z.infer<typeof followLogsSession>, ctx: CallContext): AsyncIterable<FollowedLog>;
  listFiles(input: z.infer<typeof listFilesSession>, ctx: CallContext): Promise<FileListing>;
  /** What it uses, or used last. */
  stats(input: z.infer<typeof bySession>, ctx: CallContext): Promise<SessionStatisticsView>;
  /** What idle checkers would say now; nothing happens by asking. @throws AppError `session-not-running` */
  idle(input: z.infer<typeof bySession>, ctx: CallContext): Promise<SessionIdleView>;
}

export interface AdminServices extends TenancyServices {
  readonly audit: AuditApi;
  readonly resourcePolicy: ResourcePolicyApi;
  readonly resourceGroup: ResourceGroupAdminApi;
  readonly resourcePreset: ResourcePresetAdminApi;
  readonly agent: AgentAdminApi;
  readonly image: ImageAdminApi;
  readonly registry: RegistryAdminApi;
  readonly warmPool: WarmPoolApi;
}

export interface UsageApi {
  /** What was held for how long: the actor's own, for administrators also others'. */
  report(input: UsageReportInput, ctx: CallContext): Promise<UsageReport>;
  /** Kernel by kernel what projects used, with what was measured. @throws AppError `invalid-input` */
  projects(input: ProjectUsageInput, ctx: CallContext): Promise<ProjectUsage[]>;
}

export interface ApiServices {
  readonly auth: AuthApi;
  readonly cluster: ClusterApi;
  readonly image: ImageApi;
  readonly session: SessionApi;
  readonly dotfile: DotfileApi;
  readonly sessionTemplate: SessionTemplateApi;
  readonly usage: UsageApi;
  readonly task: TaskApi;
  readonly resourceGroup: ResourceGroupApi;
  readonly resourcePreset: ResourcePresetApi;
  readonly admin: AdminServices;
}

export function createApiRouter(services: ApiServices) {
  const { auth, cluster, image, session, dotfile, sessionTemplate, usage, task, resourceGroup, resourcePreset, admin } =
    services;
  return router({
    auth: router({ whoami: procedureFor('account:read').query(({ ctx }) => auth.whoami(ctx)) }),
    cluster: router({ status: procedureFor('cluster:read').query(({ ctx }) => cluster.status(ctx)) }),
    image: createImageRouter(image),
    session: createSessionRouter(session),
    dotfile: createDotfileRouter(dotfile),
    sessionTemplate: createSessionTemplateRouter(sessionTemplate),
    usage: router({
      report: procedureFor('usage:read')
        .input(usageReportSchema)
        .query(({ input, ctx }) => usage.report(input, ctx)),
      projects: procedureFor('usage:read-kernels')
        .input(projectUsageSchema)
        .query(({ input, ctx }) => usage.projects(input, ctx)),
    }),
    task: createTaskRouter(task),
    resourceGroup: createResourceGroupRouter(resourceGroup),
    resourcePreset: createResourcePresetRouter(resourcePreset),
    admin: createAdminRouter(admin),
  });
}

function createAdminRouter(services: AdminServices) {
  const {
    domain,
    project,
    user,
    keypair,
    audit,
    resourcePolicy,
    resourceGroup,
    resourcePreset,
    agent,
    image,
    registry,
    warmPool,
  } = services;
  return router({
    resourcePolicy: createResourcePolicyRouter(resourcePolicy),
    resourceGroup: createResourceGroupAdminRouter(resourceGroup),
    resourcePreset: createResourcePresetAdminRouter(resourcePreset),
    agent: createAgentAdminRouter(agent),
    image: createImageAdminRouter(image),
    registry: createRegistryRouter(registry),
    warmPool: createWarmPoolRouter(warmPool),
    domain: createDomainRouter(domain),
    project: createProjectRouter(project),
    user: createUserRouter(user),
    keypair: createKeypairRouter(keypair),
    audit: createAuditRouter(audit),
  });
}

function createSessionRouter(session: SessionApi) {
  const read = procedureFor('session:read');
  const use = procedureFor('session:use');
  return router({
    create: procedureFor('session:create')
      .input(createSessionSchema)
      .mutation(({ input, ctx }) => session.create(input, ctx)),
    get: read.input(bySession).query(({ input, ctx }) => session.get(input, ctx)),
    list: read.input(listSessionsSchema).query(({ input, ctx }) => session.list(input, ctx)),
    history: read.input(bySession).query(({ input, ctx }) => session.history(input, ctx)),
    explain: read.input(bySession).query(({ input, ctx }) => session.explain(input, ctx)),
    wait: read.input(waitSessionSchema).query(({ input, ctx }) => session.wait(input, ctx)),
    watch: read.input(bySession).subscription(async function* ({ input, ctx }) {
      yield* session.watch(input, ctx);
    }),
    destroy: procedureFor('session:destroy')
      .input(destroySessionSchema)
      .mutation(({ input, ctx }) => session.destroy(input, ctx)),
    restart: procedureFor('session:restart')
      .input(bySession)
      .mutation(({ input, ctx }) => session.restart(input, ctx)),
    pause: procedureFor('session:pause')
      .input(bySession)
      .mutation(({ input, ctx }) => session.pause(input, ctx)),
    resume: procedureFor('session:pause')
      .input(bySession)
      .mutation(({ input, ctx }) => session.resume(input, ctx)),
    rename: procedureFor('session:rename')
      .input(renameSessionSchema)
      .mutation(({ input, ctx }) => session.rename(input, ctx)),
    commit: procedureFor('session:commit')
      .input(commitSessionSchema)
      .mutation(({ input, ctx }) => session.commit(input, ctx)),
    commitState: read.input(bySession).query(({ input, ctx }) => session.commitState(input, ctx)),
    execute: use.input(executeSession).mutation(({ input, ctx }) => session.execute(input, ctx)),
    interrupt: use.input(interruptSession).mutation(({ input, ctx }) => session.interrupt(input, ctx)),
    services: use.input(bySession).query(({ input, ctx }) => session.services(input, ctx)),
    startService: use.input(startSessionService).mutation(({ input, ctx }) => session.startService(input, ctx)),
    stopService: use.input(stopSessionService).mutation(({ input, ctx }) => session.stopService(input, ctx)),
    complete: use.input(completeSession).query(({ input, ctx }) => session.complete(input, ctx)),
    logs: use.input(sessionLogs).query(({ input, ctx }) => session.logs(input, ctx)),
    followLogs: use.input(followLogsSession).subscription(async function* ({ input, ctx }) {
      for await (const { cursor, ...piece } of session.followLogs(input, ctx)) yield tracked(cursor, piece);
    }),
    listFiles: use.input(listFilesSession).query(({ input, ctx }) => session.listFiles(input, ctx)),
    inspect: read.input(bySession).query(({ input, ctx }) => session.inspect(input, ctx)),
    stats: read.input(bySession).query(({ input, ctx }) => session.stats(input, ctx)),
    idle: read.input(bySession).query(({ input, ctx }) => session.idle(input, ctx)),
  });
}

export type ApiRouter = ReturnType<typeof createApiRouter>;
