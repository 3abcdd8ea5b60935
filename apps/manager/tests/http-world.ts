import http from 'node:http';
import net from 'node:net';
import { type Duplex, Readable } from 'node:stream';
import type {
  ApiServices,
  CallContext,
  CreateSessionInput,
  ExecuteInput,
  IdleCheckView,
  KernelStatisticsView,
  RunResult,
  ServiceStart,
  SessionDetailsView,
  SessionIdleView,
  SessionStatisticsView,
  UserActor,
} from '@backend.ai/contract';
import { AppError, type Clock, deferred, isTerminal, signRequest, systemClock } from '@backend.ai/core';
import { createLogger, currentRequest, type Logger } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import type { HttpDependencies, RateCount } from '../src/http/dependencies.ts';
import { createHttpServer, type HttpServer, type HttpServerOptions } from '../src/http/server.ts';

/** A real server on a real port in front of services that live in memory. */

export const accessKey = 'AKIAIOSFODNN7EXAMPLE';
export const secretKey = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY';
/** For whose owner the caller may act. */
export const otherKey = 'AKIAOTHEROFTHEWORLD0';
export const version = 'v7.20230615';

export const actor: UserActor = {
  kind: 'user',
  accessKey,
  userId: '11111111-1111-4111-8111-111111111111',
  email: 'user@example.com',
  role: 'user',
  domain: 'default',
};

/** A service of any noun, and of those inside, whose calls fail. */
const notOffered: object = new Proxy(() => {}, {
  get: () => notOffered,
  apply: () => {
    throw new AppError('not-implemented', 'The fake does not offer this.');
  },
});

export interface Call {
  readonly name: string;
  readonly input: unknown;
  readonly ctx: CallContext;
  /** The request that the work was bound to. */
  readonly boundId: string | undefined;
  readonly boundActor: string | undefined;
}

export class FakeWorld {
  readonly calls: Call[] = [];
  readonly sessions = new Map<string, SessionDetailsView>();
  /** Given by tests that need it. */
  dotfile = notOffered as ApiServices['dotfile'];
  sessionTemplate = notOffered as ApiServices['sessionTemplate'];
  usage = notOffered as ApiServices['usage'];
  /** Ended with any session that is ended recursively. */
  dependents: SessionDetailsView[] = [];
  readonly stored = new Map<string, Buffer>();
  readonly logs: Record<string, unknown>[] = [];
  nowMs = Date.now();
  /** What drives timers. */
  time: Clock = systemClock;
  /** Calls counted for the rate limit. */
  counted = 0;
  rate: RateCount = { limit: 1000, remaining: 999 };
  fail: Error | undefined;
  health = { live: true, ready: true };
  /** What is connected to in a session. */
  stream: (target: Parameters<HttpDependencies['streams']['open']>[1]) => Duplex = () => {
    throw new Error('no test connects here');
  };
  serviceStart: ServiceStart = { status: 'started', ports: [8080, 8081] };
  /** Answers to executions, one after the other; then `run`. */
  readonly runs: RunResult[] = [];
  /** Each step of a run waits for it. */
  beforeRun: () => Promise<void> = async () => {};
  /** What the next execution answers. */
  run: RunResult = {
    runId: 'run-1',
    status: 'finished',
    exitCode: 0,
    options: null,
    console: [['stdout', 'hello\n']],
    cursor: 6,
    notices: [],
  };
  /** Request ids seen while the bytes of a stream moved. */
  readonly streamIds = new Set<string | undefined>();
  /** Bytes that downloads took from their source. */
  bytesServed = 0;
  #changed = deferred();

  last(name: string): Call {
    const call = this.calls.findLast((one) => one.name === name);
    if (!call) throw new Error(`${name} was not called`);
    return call;
  }

  setStatus(session: SessionDetailsView, status: SessionDetailsView['status']): void {
    this.sessions.set(session.id, { ...session, status });
    const { resolve } = this.#changed;
    this.#changed = deferred();
    resolve();
  }

  find(ref: string): SessionDetailsView {
    const found = this.sessions.get(ref) ?? [...this.sessions.values()].find(({ name }) => name === ref);
    if (!found) throw new AppError('session-not-found', `There is no session ${ref}.`);
    return found;
  }

  /** What is measured and judged of every session. */
  kernels: KernelStatisticsView[] = [];
  idleChecks: IdleCheckView[] = [];

  statisticsOf({ id, name }: SessionDetailsView): SessionStatisticsView {
    return { sessionId: id, name, windowMs: 1, kernels: this.kernels };
  }

  idlenessOf({ id, name }: SessionDetailsView): SessionIdleView {
    return { sessionId: id, name, checks: this.idleChecks };
  }

  add(name: string, status: SessionDetailsView['status'] = 'RUNNING'): SessionDetailsView {
    const view = sessionView(name, status);
    this.sessions.set(view.id, view);
    return view;
  }

  get logger(): Logger {
    const write = (line: string): void => {
      this.logs.push(JSON.parse(line));
    };
    return createLogger({ component: 'manager', destination: { write } });
  }

  get clock(): Clock {
    return {
      now: () => this.nowMs,
      monotonic: () => this.time.monotonic(),
      setTimer: (ms, callback) => this.time.setTimer(ms, callback),
    };
  }

  dependencies(): HttpDependencies {
    const record = (name: string, input: unknown, ctx: CallContext): void => {
      const bound = currentRequest();
      this.calls.push({ name, input, ctx, boundId: bound?.requestId, boundActor: bound?.actor });
      if (this.fail) throw this.fail;
    };
    const services: Pick<ApiServices, 'auth' | 'cluster' | 'image' | 'session'> & Partial<ApiServices> = {
      auth: {
        whoami: async (ctx) => {
          record('whoami', undefined, ctx);
          return { accessKey, email: actor.email, role: 'user', domain: 'default', projects: ['default'] };
        },
      },
      cluster: {
        status: async (ctx) => {
          record('status', undefined, ctx);
          return {
            version: '0',
            startedAt: '',
            embedded: true,
            agents: [],
            capacity: {},
            used: {},
            sessions: {},
          };
        },
      },
      image: {
        list: async () => [],
        get: async ({ image }) => {
          throw new AppError('unknown-image', `There is no image "${image}".`);
        },
        delete: async ({ image }) => {
          throw new AppError('unknown-image', `There is no image "${image}".`);
        },
      },
      session: {
        create: async (input: CreateSessionInput, ctx) => {
          record('create', input, ctx);
          const existing = [...this.sessions.values()].find(
            ({ name, status }) => name === input.name && !isTerminal(status),
          );
          if (existing && !input.reuseIfExists)
            throw new AppError('session-exists', 'It exists.', { data: { existingSessionId: existing.id } });
          if (existing) return { session: existing, created: false };
          return { session: this.add(input.name ?? 'unnamed', 'PENDING'), created: true };
        },
        get: async ({ session }, ctx) => {
          record('get', { session }, ctx);
          return this.find(session);
        },
        list: async (input, ctx) => {
          record('list', input, ctx);
          return [...this.sessions.values()];
        },
        history: async ({ session }, ctx) => {
          record('history', { session }, ctx);
          this.find(session);
          const entry = { reason: reason(), requestId: 'r' };
          return [
            { ...entry, from: null, to: 'PENDING', at: '2024-01-01T00:00:00.000Z' },
            { ...entry, from: 'PENDING', to: 'PREPARING', at: '2024-01-01T00:00:01.000Z' },
          ];
        },
        inspect: async ({ session: ref }, ctx) => {
          record('inspect', { session: ref }, ctx);
          const session = this.find(ref);
          return { session, statistics: this.statisticsOf(session), idle: this.idlenessOf(session) };
        },
        stats: async ({ session }) => this.statisticsOf(this.find(session)),
        explain: async ({ session }) => ({
          ...{ sessionId: session, name: this.find(session).name, status: this.find(session).status },
          ...{ headline: '', waiting: null, reserved: null, placement: null, reasons: [] },
        }),
        idle: async ({ session }) => this.idlenessOf(this.find(session)),
        wait: async (input, ctx) => {
          record('wait', input, ctx);
          const session = this.find(input.session);
          if (session.status === 'PENDING')
            await Promise.race([this.#changed.promise, new Promise((resolve) => setTimeout(resolve, input.timeoutMs))]);
          return this.find(input.session);
        },
        watch: async function* (this: FakeWorld, { session }: { session: string }, ctx: CallContext) {
          record('watch', { session }, ctx);
          for (;;) {
            yield this.find(session);
            if (isTerminal(this.find(session).status)) return;
            await this.#changed.promise;
          }
        }.bind(this),
        destroy: async (input, ctx) => {
          record('destroy', input, ctx);
          const session = this.find(input.session);
          this.setStatus(session, session.status === 'PENDING' ? 'CANCELLED' : 'TERMINATING');
          return { ...this.find(input.session), dependents: input.recursive ? this.dependents : [] };
        },
        restart: async (input, ctx) => {
          record('restart', input, ctx);
          this.setStatus(this.find(input.session), 'RESTARTING');
          return this.find(input.session);
        },
        pause: async (input, ctx) => {
          record('pause', input, ctx);
          return this.find(input.session);
        },
        resume: async (input, ctx) => {
          record('resume', input, ctx);
          return this.find(input.session);
        },
        commit: async (input, ctx) => {
          record('commit', input, ctx);
          return { taskId: this.find(input.session).id, image: `backend.ai/customized/u/${input.image}` };
        },
        commitState: async ({ session }) => ({ state: 'ongoing', kernelId: this.find(session).id }),
        rename: async (input, ctx) => {
          record('rename', input, ctx);
          return this.find(input.session);
        },
        execute: async (input: ExecuteInput & { session: string }, ctx) => {
          record('execute', input, ctx);
          await this.beforeRun();
          this.find(input.session);
          return this.runs.shift() ?? this.run;
        },
        interrupt: async (input, ctx) => record('interrupt', input, ctx),
        services: async (input, ctx) => {
          record('services', input, ctx);
          return [
            { name: 'web', protocol: 'http', ports: [8080, 8081], urlTemplate: '{protocol}://{host}:{port}/lab' },
            { name: 'ssh', protocol: 'tcp', ports: [2200] },
          ];
        },
        startService: async (input, ctx) => {
          record('startService', input, ctx);
          return this.serviceStart;
        },
        stopService: async (input, ctx) => record('stopService', input, ctx),
        complete: async (input, ctx) => {
          record('complete', input, ctx);
          return { completions: ['print'] };
        },
        logs: async (input, ctx) => {
          record('logs', input, ctx);
          return { logs: 'some output' };
        },
        async *followLogs(input, ctx) {
          record('followLogs', input, ctx);
          yield { text: 'some output', missed: false, cursor: 'k/1-11-0' };
        },
        listFiles: async (input, ctx) => {
          record('listFiles', input, ctx);
          const entry = { filename: 'a.txt', mode: '-rw-r--r--', size: 1, mtime: 1, ctime: 1, atime: 1 };
          return { abspath: '/home/work', files: [entry] };
        },
      },
    };
    return {
      services: {
        resourceGroup: notOffered,
        resourcePreset: notOffered,
        dotfile: this.dotfile,
        sessionTemplate: this.sessionTemplate,
        usage: this.usage,
        admin: notOffered,
        ...services,
      } as ApiServices,
      keypairs: {
        find: async (key) => (key === accessKey ? { actor, secretKey, rateLimit: this.rate.limit } : undefined),
        actFor: async (caller, owner) => {
          if (owner === accessKey) return caller;
          if (owner === otherKey) return { ...caller, accessKey: otherKey, by: { userId: caller.userId, accessKey } };
          throw new AppError('impersonation-forbidden', 'Not for this one.');
        },
        countCalls: async (_key, calls) => {
          this.counted += calls;
          return this.rate;
        },
      },
      files: {
        upload: async (session, path, target, stream, ctx) => {
          record('upload', { session, path, target }, ctx);
          const chunks: Buffer[] = [];
          for await (const chunk of stream) {
            this.streamIds.add(currentRequest()?.requestId);
            chunks.push(chunk);
          }
          const bytes = Buffer.concat(chunks);
          if (bytes.length !== target.size) throw new Error('a file came incomplete');
          this.stored.set(path, bytes);
        },
        download: async (session, path, ctx) => {
          record('download', { session, path }, ctx);
          const bytes = this.#file(path);
          return { stream: this.#slowly(bytes), size: bytes.length };
        },
        archive: async (session, path, maxBytes, ctx) => {
          record('archive', { session, path, maxBytes }, ctx);
          return { stream: this.#slowly(Buffer.concat([Buffer.from(`tar of ${path}:`), this.#file(path)])) };
        },
      },
      streams: {
        open: async (session, target, ctx) => {
          record('open', { session, target }, ctx);
          return this.stream(target);
        },
      },
      health: async () => this.health,
      logger: this.logger,
      clock: this.clock,
    };
  }

  #file(path: string): Buffer {
    const bytes = this.stored.get(path);
    if (!bytes) throw new AppError('file-not-found', 'There is no such file.');
    return bytes;
  }

  #slowly(bytes: Buffer): Readable {
    const ids = this.streamIds;
    const served = (bytesMore: number): void => {
      this.bytesServed += bytesMore;
    };
    async function* pieces(): AsyncGenerator<Buffer> {
      for (let at = 0; at < bytes.length; at += 64 * 1024) {
        ids.add(currentRequest()?.requestId);
        await new Promise((resolve) => setImmediate(resolve));
        ids.add(currentRequest()?.requestId);
        const piece = bytes.subarray(at, at + 64 * 1024);
        served(piece.length);
        yield piece;
      }
    }
    return Readable.from(pieces());
  }
}

const reason = () => ({ code: 'queued', message: 'It was just queued.', data: null });

let count = 0;
export function sessionView(name: string, status: SessionDetailsView['status']): SessionDetailsView {
  count += 1;
  return {
    id: `00000000-0000-4000-8000-${String(count).padStart(12, '0')}`,
    name,
    type: 'interactive',
    status,
    reason: reason(),
    pull: null,
    result: 'undefined',
    image: 'local/python:3.11',
    architecture: 'x86_64',
    tag: null,
    domain: 'default',
    project: 'default',
    projectId: '00000000-0000-4000-8000-00000000000a',
    resourceGroup: 'default',
    userId: '00000000-0000-4000-8000-00000000000b',
    accessKey,
    options: {
      clusterMode: 'single-node',
      clusterSize: 1,
      priority: 10,
      jobPriority: 0,
      isPreemptible: true,
      failurePolicy: 'strict',
      startsAt: null,
      timeoutMs: null,
      callbackUrl: null,
      preopenPorts: [],
      shmem: null,
      designatedAgents: [],
    },
    requested: { cpu: '1', mem: '536870912' },
    kernels: [],
    createdAt: new Date(0).toISOString(),
    statusChangedAt: new Date(0).toISOString(),
    pausedAt: null,
    startedAt: null,
    terminatedAt: null,
    timings: { scheduledMs: null, runningMs: null, endedMs: null, steps: [] },
    requestId: 'creator',
    environ: {},
    startupCommand: null,
    bootstrapScript: null,
    dependencies: [],
  };
}

export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly bytes: Buffer;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into foreign JSON
  readonly json: any;
}

export interface RequestOptions {
  readonly method?: string;
  readonly body?: string | Buffer | object;
  readonly headers?: Record<string, string | undefined>;
  readonly sign?: boolean;
  readonly secret?: string;
  readonly signal?: AbortSignal;
  /** What is signed, when it differs from what is sent. */
  readonly signed?: { host?: string; target?: string; method?: string };
}

export class TestServer {
  readonly world: FakeWorld;
  readonly server: HttpServer;
  url = '';

  constructor(world: FakeWorld, options: Partial<HttpServerOptions> = {}) {
    this.world = world;
    this.server = createHttpServer(world.dependencies(), {
      host: '127.0.0.1',
      port: 0,
      version: '1.2.3',
      ...options,
    });
  }

  static async start(world: FakeWorld, options: Partial<HttpServerOptions> = {}): Promise<TestServer> {
    const server = new TestServer(world, options);
    server.url = (await server.server.listen()).url;
    return server;
  }

  get host(): string {
    return new URL(this.url).host;
  }

  get port(): number {
    return Number(new URL(this.url).port);
  }

  headersFor(target: string, options: RequestOptions): Record<string, string> {
    const { body } = options;
    const bodied = body !== undefined;
    const headers: Record<string, string | undefined> = {
      host: this.host,
      'content-type': bodied ? 'application/json' : 'text/plain',
      'content-length': String(bodied ? toBytes(body).length : 0),
      date: new Date(this.world.nowMs).toISOString().replace('Z', '000+00:00'),
      'x-backendai-version': version,
      ...options.headers,
    };
    const given = Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined)) as Record<
      string,
      string
    >;
    if (options.sign === false || 'authorization' in given) return given;
    const signature = signRequest(options.secret ?? secretKey, {
      method: options.signed?.method ?? options.method ?? 'GET',
      target: options.signed?.target ?? target,
      date: given.date ?? '',
      day: (given.date ?? '').slice(0, 10).replaceAll('-', ''),
      host: options.signed?.host ?? given.host ?? '',
      contentType: (given['content-type'] ?? 'application/octet-stream').split(';')[0] ?? '',
      version: given['x-backendai-version'] ?? '',
    });
    return { ...given, authorization: `BackendAI signMethod=HMAC-SHA256, credential=${accessKey}:${signature}` };
  }

  /** A response whose body is still to be read. */
  open(target: string, options: RequestOptions = {}): Promise<http.IncomingMessage> {
    return new Promise((resolve, reject) => {
      const request = http.request(
        {
          host: '127.0.0.1',
          port: this.port,
          method: options.method ?? 'GET',
          path: target,
          headers: this.headersFor(target, options),
          agent: false,
          ...(options.signal ? { signal: options.signal } : {}),
        },
        resolve,
      );
      request.on('error', reject);
      if (options.body !== undefined) request.end(toBytes(options.body));
      else request.end();
    });
  }

  async request(target: string, options: RequestOptions = {}): Promise<Answer> {
    const response = await this.open(target, options);
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk);
    const bytes = Buffer.concat(chunks);
    const text = bytes.toString();
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      json = undefined;
    }
    return { status: response.statusCode ?? 0, headers: response.headers, bytes, text, json };
  }

  /** Bytes as they are, until the server closes. */
  raw(text: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = net.connect(this.port, '127.0.0.1', () => socket.write(text));
      let received = '';
      socket.on('data', (chunk) => {
        received += chunk;
      });
      socket.on('error', reject);
      socket.on('close', () => resolve(received));
    });
  }

  close(): Promise<void> {
    return this.server.close(200);
  }
}

function toBytes(body: string | Buffer | object): Buffer {
  if (Buffer.isBuffer(body)) return body;
  return Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
}

export async function until(condition: () => boolean, what: string): Promise<void> {
  await waitFor(condition, { what, intervalMs: 5 });
}
