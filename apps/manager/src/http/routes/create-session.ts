import {
  type CallContext,
  type CreateSessionInput,
  createSessionSchema,
  isMoment,
  type SessionView,
} from '@backend.ai/contract';
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
const unsupportedConfig: readonly [string, ...string[]][] = [
  ['mounts'],
  ['mount_map', 'mountMap'],
  ['mount_options', 'mountOptions'],
];

/** Where our name of a field is not the official one. */
const officialNames: Readonly<Record<string, string>> = {
  project: 'group',
  startsAt: 'starts_at',
  timeoutMs: 'batch_timeout',
  bootstrapScript: 'bootstrap_script',
  callbackUrl: 'callback_url',
  jobPriority: 'job_priority',
  isPreemptible: 'is_preemptible',
  resourceGroup: 'config.scaling_group',
  environ: 'config.environ',
  resources: 'config.resources',
  resourceOpts: 'config.resource_opts',
  preopenPorts: 'config.preopen_ports',
  designatedAgents: 'config.agent_list',
};

function officialName(path: string): string {
  const [first = '', ...rest] = path.split('.');
  return [officialNames[first] ?? first, ...rest].join('.');
}

/** A refusal in the words of the one who asked. */
export function withOfficialNames(thrown: unknown): unknown {
  if (!(thrown instanceof AppError) || !isFields(thrown.data?.fields)) return thrown;
  const fields = Object.fromEntries(
    Object.entries(thrown.data.fields).map(([name, text]) => [officialName(name), text]),
  );
  return new AppError(thrown.code, thrown.message, { ...thrown, data: { ...thrown.data, fields }, cause: thrown });
}

function isFields(value: unknown): value is Record<string, string> {
  return typeof value === 'object' && value !== null;
}

/** @param nowMs Moments in requests may be relative to it. */
export function readCreateRequest(params: Params, nowMs: number): CreateRequest {
  const config = params.object('config');
  const options = config.object('resource_opts', 'resourceOpts');
  const startsAt = readMoment(params, nowMs, 'starts_at', 'startsAt');
  const timeoutMs = readDuration(params, 'batch_timeout', 'batchTimeout');
  const raw = {
    name: params.requiredText('name', 'session_name', 'clientSessionToken'),
    image: params.requiredText('image', 'lang'),
    architecture: params.text('architecture', 'arch'),
    type: params.text('type', 'sessionType'),
    project: params.text('group', 'groupName', 'group_name'),
    domain: params.text('domain', 'domainName', 'domain_name'),
    clusterSize: params.integer('clusterSize', 'cluster_size') ?? config.integer('clusterSize', 'cluster_size'),
    clusterMode: params.text('clusterMode', 'cluster_mode')?.toLowerCase().replaceAll('_', '-'),
    tag: params.text('tag'),
    reuseIfExists: params.boolean('reuseIfExists', 'reuse_if_exists', 'reuse'),
    priority: params.integer('priority'),
    jobPriority: params.integer('job_priority', 'jobPriority'),
    isPreemptible: params.boolean('is_preemptible', 'isPreemptible'),
    dependencies: params.texts('dependencies'),
    startupCommand: params.text('startupCommand', 'startup_command') || undefined,
    startsAt,
    timeoutMs,
    bootstrapScript: params.text('bootstrap_script', 'bootstrapScript') || undefined,
    callbackUrl: params.text('callback_url', 'callbackUrl', 'callbackURL') || undefined,
    resourceGroup: config.text('scaling_group', 'scalingGroup'),
    resources: Object.fromEntries(config.object('resources').entries()),
    resourceOpts: { shmem: options.text('shmem') },
    preopenPorts: config.integers('preopen_ports', 'preopenPorts'),
    designatedAgents: config.texts('agent_list', 'agentList'),
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
  config.check('config.');
  options.check('config.resource_opts.');
  refuseUnsupported(config, unsupportedConfig);
  const checked = createSessionSchema.safeParse(raw);
  if (!checked.success) {
    const named = checked.error.issues.map(({ path, message }) => [officialName(path.join('.')) || 'input', message]);
    throw invalidFields(Object.fromEntries(named));
  }
  return { input: checked.data, enqueueOnly, maxWaitMs };
}

const unitMs: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/** `30s`, `1.5h`, or seconds; in milliseconds. */
function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,12}(?:\.\d{1,6})?)\s*([smhdw])?$/.exec(text.trim());
  return match ? Math.round(Number(match[1]) * (unitMs[match[2] ?? 's'] ?? 1_000)) : undefined;
}

function readDuration(params: Params, ...names: [string, ...string[]]): number | undefined {
  const value = params.value(...names);
  if (value === undefined) return undefined;
  const durationMs = typeof value === 'string' || typeof value === 'number' ? parseDuration(String(value)) : undefined;
  return durationMs ?? params.problem(names[0], 'is neither seconds nor a duration such as 30m');
}

/** ISO 8601, or a duration from now on. */
function readMoment(params: Params, nowMs: number, ...names: [string, ...string[]]): string | undefined {
  const text = params.text(...names);
  if (!text) return undefined;
  const relative = /[smhdw]$/.test(text) ? parseDuration(text) : undefined;
  const at = relative === undefined ? momentOf(text) : nowMs + relative;
  if (at === undefined || !isMoment(at))
    return params.problem(names[0], 'is neither a moment (2030-01-31T12:00:00Z) nor a duration such as 1h');
  return new Date(at).toISOString();
}

function momentOf(text: string): number | undefined {
  return /^\d{4}-\d\d-\d\d([T ]|$)/.test(text) ? Date.parse(text) : undefined;
}

function refuseUnsupported(params: Params, names: readonly [string, ...string[]][]): void {
  for (const aliases of names) {
    const value = params.value(...aliases);
    if (value === undefined || value === '' || (typeof value === 'object' && Object.keys(value as object).length === 0))
      continue;
    throw new AppError('unsupported-feature', `The option ${aliases[0]} is not offered by this version.`, {
      data: { fields: { [`config.${aliases[0]}`]: 'is not offered' } },
    });
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
