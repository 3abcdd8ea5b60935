import { type CallContext, type CreateSessionInput, createSessionSchema, type SessionView } from '@backend.ai/contract';
import { AppError, isTerminal, type SessionStatus } from '@backend.ai/core';
import { invalidFields, type Params } from '../parameters.ts';
import type { RouteContext } from '../server.ts';

/** `POST /session`: the body as the official clients send it, and how long they want to wait. */
export interface CreateRequest {
  readonly input: CreateSessionInput;
  readonly enqueueOnly: boolean;
  /** 0 is without limit. */
  readonly maxWaitMs: number;
}

/** What the official server knows and this one does not offer yet. Asking for it is an error, never ignored. */
const unsupported: readonly [string, ...string[]][] = [
  ['startupCommand', 'startup_command'],
  ['starts_at', 'startsAt'],
  ['bootstrap_script', 'bootstrapScript'],
  ['dependencies'],
  ['callback_url', 'callbackUrl', 'callbackURL'],
];
const unsupportedConfig: readonly [string, ...string[]][] = [
  ['mounts'],
  ['mount_map', 'mountMap'],
  ['mount_options', 'mountOptions'],
  ['preopen_ports', 'preopenPorts'],
  ['agent_list', 'agentList'],
  ['resource_opts', 'resourceOpts'],
];

export function readCreateRequest(params: Params): CreateRequest {
  const config = params.object('config');
  const type = params.text('type', 'sessionType') ?? 'interactive';
  if (type === 'batch' && params.value('startupCommand') === undefined)
    params.problem('startupCommand', 'is required for batch sessions');
  if (type !== 'batch' && params.value('starts_at', 'startsAt') !== undefined)
    params.problem('starts_at', 'is for batch sessions only');
  const raw = {
    name: params.requiredText('name', 'session_name', 'clientSessionToken'),
    image: params.requiredText('image', 'lang'),
    architecture: params.text('architecture', 'arch'),
    type,
    project: params.text('group', 'groupName', 'group_name'),
    domain: params.text('domain', 'domainName', 'domain_name'),
    clusterSize: params.integer('clusterSize', 'cluster_size') ?? config.integer('clusterSize', 'cluster_size'),
    clusterMode: params.text('clusterMode', 'cluster_mode'),
    tag: params.text('tag'),
    reuseIfExists: params.boolean('reuseIfExists', 'reuse_if_exists', 'reuse'),
    resourceGroup: config.text('scaling_group', 'scalingGroup'),
    resources: Object.fromEntries(config.object('resources').entries()),
    environ: Object.fromEntries(
      config
        .object('environ')
        .entries()
        .map(([name, value]) => [name, typeof value === 'number' ? String(value) : value]),
    ),
  };
  const enqueueOnly = params.boolean('enqueueOnly', 'enqueue_only') ?? false;
  const maxWaitMs = (params.integer('maxWaitSeconds', 'max_wait_seconds') ?? 0) * 1000;
  params.check();
  config.check();
  refuseUnsupported(params, unsupported);
  refuseUnsupported(config, unsupportedConfig);
  const checked = createSessionSchema.safeParse(raw);
  if (!checked.success)
    throw invalidFields(
      Object.fromEntries(checked.error.issues.map((issue) => [issue.path.join('.') || 'input', issue.message])),
    );
  return { input: checked.data, enqueueOnly, maxWaitMs };
}

function refuseUnsupported(params: Params, names: readonly [string, ...string[]][]): void {
  for (const aliases of names) {
    const value = params.value(...aliases);
    if (value === undefined || value === '' || (typeof value === 'object' && Object.keys(value as object).length === 0))
      continue;
    throw new AppError('unsupported-feature', `The option ${aliases[0]} is not offered by this version.`);
  }
}

/** Until the session runs or has ended, or the limit passed. Waits in portions, so that each call stays short. */
export async function waitUntilStarted(
  context: RouteContext,
  created: SessionView,
  maxWaitMs: number,
  ctx: CallContext,
): Promise<{ session: SessionView; timedOut: boolean }> {
  const until = maxWaitMs === 0 ? Number.POSITIVE_INFINITY : context.clock.monotonic() + maxWaitMs;
  let session = created;
  while (!isStarted(session.status)) {
    const timeoutMs = Math.min(30_000, Math.max(0, Math.ceil(until - context.clock.monotonic())));
    if (timeoutMs === 0) return { session, timedOut: true };
    const wait = context.services.session.wait({ session: session.id, until: 'running', timeoutMs }, ctx);
    session = await unlessAborted(wait, session.id, ctx.signal);
  }
  return { session, timedOut: false };
}

function isStarted(status: SessionStatus): boolean {
  return status === 'RUNNING' || status === 'TERMINATING' || isTerminal(status);
}

function unlessAborted<T>(work: Promise<T>, sessionId: string, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      const message = 'The wait was given up; the session stays as it is.';
      reject(new AppError(AppError.from(signal.reason).code, message, { data: { sessionId }, cause: signal.reason }));
    };
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
