import type {
  ApiRouter,
  ClusterStatus,
  ImageDetails,
  ImageView,
  PresetCheck,
  PresetView,
  ProjectUsage,
  PurgeReport,
  ResourceGroupSummary,
  SessionInspection,
  TaskView,
  UsageReport,
  Whoami,
} from '@backend.ai/contract';
import type { inferRouterInputs } from '@trpc/server';
import { createDotfileClient, type DotfileClient } from './dotfiles.ts';
import { createResourceAdmin, type ResourceAdminClient } from './resource-admin.ts';
import { createRpc, type Rpc } from './rpc.ts';
import { type CreateSessionOptions, Session } from './session.ts';
import { createSessionTemplateClient, type SessionTemplateClient } from './session-templates.ts';
import { subscribed } from './subscribed.ts';
import { createTenantAdmin, type TenantAdminClient } from './tenant-admin.ts';
import { createTransport, type TransportOptions } from './transport.ts';

export type ClientOptions = TransportOptions;
type Inputs = inferRouterInputs<ApiRouter>;
export type ListSessionsOptions = Inputs['session']['list'];

export type UsageReportOptions = Inputs['usage']['report'];
export type ProjectUsageOptions = Inputs['usage']['projects'];

export interface Client {
  readonly endpoint: string;
  readonly auth: {
    /** Who the keys belong to; the cheapest way to check them. */
    whoami(): Promise<Whoami>;
  };
  readonly cluster: {
    status(): Promise<ClusterStatus>;
  };
  readonly images: {
    list(): Promise<ImageView[]>;
    /** @throws AppError `unknown-image` */
    get(image: string, architecture?: string): Promise<ImageDetails>;
    /** One that was made of a session, from everywhere. @throws AppError `forbidden` for any other image */
    delete(image: string, architecture?: string): Promise<PurgeReport>;
  };
  readonly tasks: {
    /** Work that a call began: how far it is, until it is over. @throws AppError `object-not-found` */
    watch(taskId: string): AsyncGenerator<TaskView, void, undefined>;
  };
  readonly sessions: {
    /** Records the wish and returns at once; `waitUntilRunning` waits. */
    create(options: CreateSessionOptions): Promise<Session>;
    /** As the template says, but for what is given. @throws AppError `object-not-found` */
    createFromTemplate(template: string, options?: Partial<CreateSessionOptions>): Promise<Session>;
    /** By id or name. @throws AppError `session-not-found`, `too-many-matches` */
    get(ref: string): Promise<Session>;
    /** What it is, uses, and what idle checkers would say now, in one call; `Session.inspect` is the same. */
    inspect(ref: string): Promise<SessionInspection>;
    list(options?: ListSessionsOptions): Promise<Session[]>;
  };
  readonly dotfiles: DotfileClient;
  readonly sessionTemplates: SessionTemplateClient;
  readonly resourceGroups: {
    /** Those that one may use. */
    list(options?: Inputs['resourceGroup']['list']): Promise<ResourceGroupSummary[]>;
  };
  readonly resourcePresets: {
    list(options?: Inputs['resourcePreset']['list']): Promise<PresetView[]>;
    /** Which of them would start now, and what is left of limits. */
    check(options?: Inputs['resourcePreset']['check']): Promise<PresetCheck>;
  };
  readonly admin: ResourceAdminClient & TenantAdminClient;
  readonly usage: {
    /** What was held for how long: amounts times seconds. One's own; for administrators also others'. */
    report(options: UsageReportOptions): Promise<UsageReport>;
    /** Kernel by kernel what projects used, with what was measured; for superadmins. */
    projects(options: ProjectUsageOptions): Promise<ProjectUsage[]>;
  };
  /** The whole API, typed, for what has no method here. */
  readonly rpc: Rpc;
}

/** The SDK. Opens no connection by itself and holds nothing that must be closed. */
export function createClient(options: ClientOptions): Client {
  const transport = createTransport(options);
  const rpc = createRpc(transport);
  return {
    endpoint: transport.endpoint,
    auth: { whoami: () => rpc.auth.whoami.query() },
    cluster: { status: () => rpc.cluster.status.query() },
    images: {
      list: () => rpc.image.list.query(),
      get: (image, architecture) => rpc.image.get.query({ image, ...(architecture ? { architecture } : {}) }),
      delete: (image, architecture) => rpc.image.delete.mutate({ image, ...(architecture ? { architecture } : {}) }),
    },
    tasks: {
      watch: (taskId) => subscribed<TaskView>((handlers) => rpc.task.watch.subscribe({ taskId }, handlers)),
    },
    sessions: {
      create: async (input) => new Session(transport, rpc, await rpc.session.create.mutate(input)),
      createFromTemplate: async (template, options = {}) => {
        const { session } = await rpc.sessionTemplate.get.query({ template });
        return new Session(transport, rpc, await rpc.session.create.mutate({ ...session, ...options }));
      },
      get: async (ref) =>
        new Session(transport, rpc, { session: await rpc.session.get.query({ session: ref }), created: false }),
      inspect: (ref) => rpc.session.inspect.query({ session: ref }),
      list: async (input = {}) =>
        (await rpc.session.list.query(input)).map(
          (session) => new Session(transport, rpc, { session, created: false }),
        ),
    },
    dotfiles: createDotfileClient(rpc),
    sessionTemplates: createSessionTemplateClient(rpc),
    resourceGroups: { list: (input = {}) => rpc.resourceGroup.list.query(input) },
    resourcePresets: {
      list: (input = {}) => rpc.resourcePreset.list.query(input),
      check: (input = {}) => rpc.resourcePreset.check.query(input),
    },
    admin: { ...createResourceAdmin(rpc), ...createTenantAdmin(rpc) },
    usage: {
      report: (input) => rpc.usage.report.query(input),
      projects: (input) => rpc.usage.projects.query(input),
    },
    rpc,
  };
}
