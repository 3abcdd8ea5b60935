import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  type AdminServices,
  type ApiServices,
  type CallContext,
  createApiRouter,
  type ImageView,
  type UserActor,
} from '@backend.ai/contract';
import {
  AppError,
  newRequestId,
  ownerAccessKeyHeader,
  parseRequestId,
  sameSecret,
  signRequest,
} from '@backend.ai/core';
import { createHTTPHandler } from '@trpc/server/adapters/standalone';
import { FakeSession, type Program } from './fake-session.ts';

/**
 * An API server for tests of the SDK and of commands: the real router of the contract on real HTTP with signatures
 * checked, over sessions that are functions. Its faults are switched on by tests.
 */
export interface FakeApi extends AsyncDisposable {
  readonly endpoint: string;
  readonly credentials: { readonly accessKey: string; readonly secretKey: string };
  readonly sessions: Map<string, FakeSession>;
  /** Of all requests so far. */
  readonly requests: {
    readonly line: string;
    readonly requestId: string | undefined;
    /** For whose owner it was made. */
    readonly ownerAccessKey?: string;
  }[];
  /** Cuts the connection of the next request it returns true for: before the work, or after it. */
  fault: ((line: string) => 'cut-before' | 'cut-after' | undefined) | undefined;
  /** Sessions stay PENDING for so many `wait` calls, with the reason below. */
  pendingPolls: number;
  /** How often somebody began to follow a log. */
  follows: number;
  pendingReason: { code: string; message: string };
}

export interface FakeApiOptions {
  readonly program?: Program;
  readonly images?: readonly string[];
  /** Of the caller. */
  readonly role?: UserActor['role'];
  /** Nouns besides sessions that a test is about; others answer that they are not offered. */
  readonly services?: Partial<
    Pick<ApiServices, 'dotfile' | 'sessionTemplate' | 'usage' | 'resourceGroup' | 'resourcePreset' | 'task'>
  > & {
    admin?: Partial<AdminServices>;
  };
}

/** Whoever watches it needs `services.task`. */
const fakeTaskId = '7c1f5a4e-0b1c-4c52-8f35-9c3e1d2a5b6c';

function imageView(name: string): ImageView {
  return {
    name: `local/${name}:1`,
    aliases: [name],
    architecture: 'x86_64',
    language: name === 'python' || name === 'node' ? name : 'shell',
    minSlots: { cpu: '1', mem: '67108864' },
    ...{ registry: null, sizeBytes: null, installedAgents: ['i-test'], warnings: [], ownerId: null },
  };
}

/** A service of any noun, and of those inside, whose calls fail. */
const notOffered: object = new Proxy(() => {}, {
  get: () => notOffered,
  apply: () => {
    throw new AppError('not-implemented', 'The fake does not offer this.');
  },
});

const credentials = { accessKey: 'AKIATESTTESTTESTTEST', secretKey: 'secret-of-the-test-secret-of-the-test-xx' };

export async function startFakeApi(options: FakeApiOptions = {}): Promise<FakeApi> {
  const sessions = new Map<string, FakeSession>();
  const images = [...(options.images ?? ['python', 'node', 'shell'])];
  const program = options.program ?? (() => 0);

  function find(ref: string): FakeSession {
    const all = [...sessions.values()].reverse();
    const found = sessions.get(ref) ?? all.find((session) => session.view.name === ref);
    if (!found) throw new AppError('session-not-found', `There is no session "${ref}".`);
    return found;
  }

  const services: Pick<ApiServices, 'auth' | 'cluster' | 'image' | 'session'> = {
    auth: {
      whoami: async () => ({
        accessKey: credentials.accessKey,
        email: 'user@example.com',
        role: 'user',
        domain: 'default',
        projects: ['default'],
      }),
    },
    cluster: {
      status: async () => ({
        version: '0.0.0',
        startedAt: new Date(0).toISOString(),
        embedded: true,
        agents: [],
        capacity: {},
        used: {},
        sessions: {},
      }),
    },
    image: {
      list: async () => images.map(imageView),
      get: async ({ image }) => ({
        ...imageView(image),
        ...{ manifestDigest: null, servicePorts: [], labels: {}, scannedAt: null },
      }),
      delete: async ({ image }) => {
        images.splice(images.indexOf(image), 1);
        return { image, architecture: 'x86_64', agents: [], removedFromRegistry: false };
      },
    },
    session: {
      create: async (input, ctx) => {
        if (!images.includes(input.image)) throw new AppError('unknown-image', `No agent offers "${input.image}".`);
        const same = [...sessions.values()].find(
          ({ view }) => view.name === input.name && (view.status === 'PENDING' || view.status === 'RUNNING'),
        );
        if (same && !input.reuseIfExists) throw new AppError('session-exists', `"${input.name}" exists already.`);
        if (same) return { session: same.view, created: false };
        const session = new FakeSession(input, credentials.accessKey, ctx.requestId, program);
        sessions.set(session.view.id, session);
        if (fake.pendingPolls === 0) session.enter('RUNNING', 'started', 'It runs.');
        return { session: session.view, created: true };
      },
      get: async ({ session }) => find(session).view,
      list: async ({ all }) =>
        [...sessions.values()].map(({ view }) => view).filter(({ status }) => all || status !== 'TERMINATED'),
      history: async ({ session }) => {
        const { view } = find(session);
        return [{ from: null, to: view.status, reason: view.reason, requestId: view.requestId, at: view.createdAt }];
      },
      explain: async ({ session }) => find(session).explanation(),
      wait: async ({ session: ref }) => {
        const session = find(ref);
        if (session.view.status === 'PENDING') {
          if (fake.pendingPolls-- > 0) session.enter('PENDING', fake.pendingReason.code, fake.pendingReason.message);
          else session.enter('RUNNING', 'started', 'It runs.');
        }
        return session.view;
      },
      watch: async function* ({ session: ref }) {
        const session = find(ref);
        yield session.view;
        session.enter('TERMINATED', 'user-requested', 'Its owner ended it.');
        yield session.view;
      },
      destroy: async ({ session: ref }) => {
        const session = find(ref);
        session.enter('TERMINATED', 'user-requested', 'Its owner ended it.');
        return { ...session.view, dependents: [] };
      },
      restart: async ({ session: ref }) => {
        const session = find(ref);
        session.enter('RESTARTING', 'restart-requested', 'Its owner wanted it to start anew.');
        return session.view;
      },
      rename: async ({ session: ref, name }) => {
        const session = find(ref);
        session.view = { ...session.view, name };
        return session.view;
      },
      pause: async ({ session: ref }) => {
        const session = find(ref);
        session.view = { ...session.view, pausedAt: new Date(0).toISOString() };
        return session.view;
      },
      resume: async ({ session: ref }) => {
        const session = find(ref);
        session.view = { ...session.view, pausedAt: null };
        return session.view;
      },
      commit: async ({ session: ref, image }) => {
        find(ref);
        images.push(image);
        return { taskId: fakeTaskId, image: `backend.ai/customized/u-1/${image}` };
      },
      commitState: async ({ session }) => ({ state: 'ready', kernelId: find(session).view.id }),
      execute: ({ session, ...call }) => find(session).execute(call),
      interrupt: async ({ session }) => find(session).interrupt(),
      services: async ({ session }) => {
        find(session);
        return [{ name: 'web', protocol: 'http', ports: [8080] }];
      },
      startService: async ({ session }) => {
        find(session);
        return { status: 'started', ports: [8080] };
      },
      stopService: async ({ session }) => void find(session),
      complete: async ({ code, position }) => ({ completions: [`${code.slice(0, position)}…`] }),
      inspect: async ({ session: ref }) => {
        const session = find(ref);
        return { session: session.view, statistics: session.statistics(), idle: session.idleness() };
      },
      stats: async ({ session }) => find(session).statistics(),
      idle: async ({ session }) => find(session).idleness(),
      logs: async ({ session, attempt }) => ({
        logs: `log of ${find(session).view.name}${attempt === undefined ? '' : `, attempt ${attempt}`}\n`,
      }),
      followLogs: async function* ({ session, tailLines, lastEventId }) {
        const { output } = find(session);
        fake.follows += 1;
        const begin = lastEventId ? Number(lastEventId) : Math.max(0, output.length - (tailLines ?? output.length));
        for (let at = begin; at < output.length; at++) {
          const text = output[at] ?? '';
          yield { text, missed: false, cursor: String(at + 1) };
        }
      },
      listFiles: async ({ session: ref, path }) => ({
        abspath: `/home/work/${path}`,
        files: [...find(ref).files].map(([filename, bytes]) => ({
          filename,
          mode: '-rw-r--r--',
          size: bytes.length,
          mtime: 0,
          ctime: 0,
          atime: 0,
        })),
      }),
    },
  };

  const offered = options.services ?? {};
  const allServices = {
    ...services,
    dotfile: offered.dotfile ?? notOffered,
    sessionTemplate: offered.sessionTemplate ?? notOffered,
    usage: offered.usage ?? notOffered,
    resourceGroup: offered.resourceGroup ?? notOffered,
    resourcePreset: offered.resourcePreset ?? notOffered,
    task: offered.task ?? notOffered,
    admin: new Proxy(offered.admin ?? {}, { get: (admin, name) => Reflect.get(admin, name) ?? notOffered }),
  } as ApiServices;

  const actor: UserActor = {
    kind: 'user',
    accessKey: credentials.accessKey,
    userId: 'u-1',
    email: 'user@example.com',
    role: options.role ?? 'user',
    domain: 'default',
  };
  const rpc = createHTTPHandler({
    router: createApiRouter(allServices),
    basePath: '/rpc/',
    allowMethodOverride: true,
    createContext: ({ req }): CallContext => ({
      requestId: parseRequestId(req.headers['x-request-id']) ?? newRequestId(),
      actor,
      headers: {},
      signal: undefined,
    }),
  });

  async function files(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const url = new URL(req.url ?? '/', 'http://fake');
    const [, , ref = '', kind] = url.pathname.split('/');
    const path = url.searchParams.get('path') ?? '';
    const session = find(decodeURIComponent(ref));
    if (path.split('/').includes('..')) throw new AppError('invalid-path', `"${path}" leaves the home folder.`);
    if (req.method === 'PUT') {
      const chunks: Buffer[] = [];
      for await (const chunk of req) chunks.push(chunk as Buffer);
      const bytes = Buffer.concat(chunks);
      if (Number(req.headers['content-length']) !== bytes.length) {
        throw new AppError('invalid-input', 'Content-Length is missing or wrong.');
      }
      session.files.set(path, bytes);
      res.writeHead(204).end();
      return;
    }
    const bytes = (kind === 'archive' ? session.archives : session.files).get(path);
    if (!bytes) throw new AppError('file-not-found', `There is no file "${path}".`);
    res.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': bytes.length }).end(bytes);
  }

  const server = createServer(async (req, res) => {
    const line = `${req.method} ${req.url}`;
    const requestId = parseRequestId(req.headers['x-request-id']);
    const owner = req.headers[ownerAccessKeyHeader];
    fake.requests.push({ line, requestId, ...(owner === undefined ? {} : { ownerAccessKey: String(owner) }) });
    res.setHeader('x-backend-request-id', requestId ?? newRequestId());
    const fault = fake.fault?.(line);
    if (fault === 'cut-before') return void req.socket.destroy();
    try {
      checkSignature(req);
      if (fault === 'cut-after') {
        // The work is done; its answer never arrives.
        res.end = (() => req.socket.destroy()) as unknown as typeof res.end;
        res.write = (() => true) as typeof res.write;
      }
      if (req.url?.startsWith('/rpc/')) await rpc(req, res);
      else await files(req, res);
    } catch (thrown) {
      const error = AppError.from(thrown);
      const status = error.category === 'log-in' ? 401 : error.category === 'not-found' ? 404 : 400;
      const type = `https://api.backend.ai/probs/${error.code}`;
      const body = JSON.stringify({ type, title: error.message, ...error.toBody(requestId) });
      res.writeHead(status, { 'content-type': 'application/problem+json' }).end(body);
    }
  });
  const endpoint = await listen(server);
  const fake: FakeApi = {
    endpoint,
    credentials,
    sessions,
    requests: [],
    fault: undefined,
    pendingPolls: 0,
    follows: 0,
    pendingReason: {
      code: 'insufficient-resources',
      message: 'No agent has enough free resources now; it starts when others end.',
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return fake;
}

async function listen(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** As the manager does it, for the one form the SDK sends. */
function checkSignature(req: IncomingMessage): void {
  const match = /^BackendAI signMethod=HMAC-SHA256, credential=([^:]+):(.+)$/.exec(req.headers.authorization ?? '');
  if (!match) throw new AppError('auth-missing', 'This call needs a login.');
  const [, accessKey, signature = ''] = match;
  if (accessKey !== credentials.accessKey) throw new AppError('auth-unknown-key', 'The access key is not known.');
  const date = req.headers.date ?? '';
  const expected = signRequest(credentials.secretKey, {
    method: req.method ?? '',
    target: req.url ?? '',
    date,
    day: date.slice(0, 10).replaceAll('-', ''),
    host: req.headers.host ?? '',
    contentType: req.headers['content-type'] ?? 'application/octet-stream',
    version: String(req.headers['x-backendai-version']),
  });
  if (!sameSecret(signature, expected)) throw new AppError('auth-bad-signature', 'The signature does not match.');
}
