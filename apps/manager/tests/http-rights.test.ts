import diagnostics from 'node:diagnostics_channel';
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { newRequestId } from '@backend.ai/core';
import { sql } from 'drizzle-orm';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addMember, apiOf, type Member, signedHeaders } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

/** Every route there is, as the server makes them: a new one is called here without anybody's doing. */
const routes = new Set<string>();
const noteRoutes = (message: unknown): void => {
  (message as { fastify: FastifyInstance }).fastify.addHook('onRoute', ({ method, url }) => {
    for (const each of [method].flat()) routes.add(`${each} ${url}`);
  });
};
const open = ['/', '/health'];

let world: World;
let members: Record<'user' | 'neighbour' | 'foreigner' | 'ownAdmin' | 'foreignAdmin' | 'superadmin', Member>;
let session: string;

beforeAll(async () => {
  const initialization = diagnostics.channel('fastify.initialization');
  initialization.subscribe(noteRoutes);
  world = await createWorld({ http: { host: '127.0.0.1', port: 0 } });
  initialization.unsubscribe(noteRoutes);
  await world.addAgent('i-one');
  const superadmin = apiOf(world, world.admin);
  for (const name of ['ours', 'theirs']) await superadmin((api) => api.admin.domain.create({ name }));
  members = {
    user: await addMember(world, 'ours'),
    neighbour: await addMember(world, 'ours'),
    foreigner: await addMember(world, 'theirs'),
    ownAdmin: await addMember(world, 'ours', 'admin'),
    foreignAdmin: await addMember(world, 'theirs', 'admin'),
    superadmin: { actor: world.admin, secretKey: world.adminSecret },
  };
  await superadmin((api) => api.admin.project.create({ name: 'lab', domain: 'ours' }));
  const users = [members.user, members.neighbour].map(({ actor }) => actor.email);
  await superadmin((api) => api.admin.project.addMembers({ project: 'lab', domain: 'ours', users }));
  const input = { image: 'python', name: 'seen', domain: 'ours', project: 'lab' };
  session = (await apiOf(world, members.user.actor)((api) => api.session.create(input))).session.id;
  await world.until(session, 'RUNNING');
});
afterAll(() => world.close());

/** What turns a request into a WebSocket, where it is not refused. */
const webSocket = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
};

interface Asked {
  readonly body?: string;
  readonly type?: string;
  readonly requestId?: string;
}

async function ask(
  member: Member | undefined,
  method: string,
  path: string,
  { body, type = 'application/json', requestId = newRequestId() }: Asked = {},
): Promise<{ status: number; code: string; json: Record<string, unknown> }> {
  const url = new URL(path, world.manager.addresses.api);
  const asking = httpRequest(url, {
    method,
    agent: false,
    headers: {
      ...(member && signedHeaders(member, method, url, type.split(';')[0])),
      'content-type': type,
      'x-request-id': requestId,
      ...(url.pathname.startsWith('/stream/') ? webSocket : {}),
    },
  });
  asking.end(body);
  const [answer] = (await once(asking, 'response')) as [IncomingMessage];
  const answered = await text(answer);
  const json = (answered.startsWith('{') ? JSON.parse(answered) : {}) as Record<string, unknown>;
  return { status: answer.statusCode ?? 0, code: String(json.error_code ?? ''), json };
}

/** What a route about a session needs besides it; one that needs anything new fails below until it is here. */
const form = [
  '--x\r\ncontent-disposition: form-data; name="src"; filename="a"\r\ncontent-type: application/octet-stream\r\n',
  'a\r\n--x--\r\n',
].join('\r\n');
const needs: Readonly<Record<string, readonly [query: string, asked?: Asked]>> = {
  'POST /session/:session': ['', { body: JSON.stringify({ mode: 'query', code: '1', runId: null }) }],
  'POST /session/:session/complete': ['', { body: JSON.stringify({ code: 'a' }) }],
  'POST /session/:session/rename': ['?name=other'],
  'POST /session/:session/commit': ['', { body: JSON.stringify({ image: 'mine' }) }],
  'POST /session/:session/imagify': ['', { body: JSON.stringify({ image_name: 'mine' }) }],
  'POST /session/:session/shutdown-service': ['', { body: JSON.stringify({ service_name: 'web' }) }],
  'GET /stream/session/:session/httpproxy': ['?app=web'],
  'GET /stream/session/:session/tcpproxy': ['?app=web'],
  'POST /session/:session/upload': ['', { body: form, type: 'multipart/form-data; boundary=x' }],
  'PUT /session/:session/file': ['?path=a', { body: 'a', type: 'application/octet-stream' }],
  'GET /session/:session/file': ['?path=a'],
  'GET /session/:session/archive': ['?path=a'],
  'GET /session/:session/download': ['?files=a'],
  'GET /session/:session/download_single': ['?file=a'],
};

const split = (route: string): [method: string, url: string] => route.split(' ') as [string, string];
const ofSessions = (): string[] => [...routes].filter((route) => route.includes('/session/:session'));

describe('the REST API', () => {
  it('has no route, but the handshake and health, that lets in who does not sign', async () => {
    expect(routes.size).toBeGreaterThan(25);
    for (const route of routes) {
      const [method, url] = split(route);
      const { status, code } = await ask(
        undefined,
        method,
        url.replace(':session', session).replace('*', 'auth.whoami'),
      );
      expect([route, status, code]).toEqual(
        open.includes(url)
          ? [route, 200, '']
          : [route, 401, method === 'HEAD' ? '' : expect.stringMatching(/auth-missing|^$/)],
      );
    }
  });

  it('knows no session of somebody else, by id or by name, at any route, and nothing changes', async () => {
    expect(ofSessions().length).toBeGreaterThan(12);
    const rows = () =>
      world.database.db.execute(sql`
      select s.*, (select jsonb_agg(to_jsonb(k) - 'last_seen_at') from kernels k where k.session_id = s.id) as kernels
      from sessions s where s.id = ${session}::uuid`);
    const before = await rows();
    expect(before).toMatchObject([{ status: 'RUNNING', name: 'seen', kernels: [expect.anything()] }]);
    for (const route of ofSessions())
      for (const who of ['neighbour', 'foreigner', 'foreignAdmin'] as const)
        for (const ref of [session, 'seen']) {
          const [method, url] = split(route);
          const [query, asked] = needs[route] ?? [''];
          const { status, code } = await ask(members[who], method, url.replace(':session', ref) + query, asked);
          expect([route, who, ref, status, code]).toEqual([route, who, ref, 404, 'session-not-found']);
        }
    expect(await rows()).toEqual(before);
  });

  it('shows a session to its owner, the administrators of the domain and superadmins', async () => {
    for (const who of ['user', 'ownAdmin', 'superadmin'] as const)
      for (const path of ['', '/status-history']) {
        expect([who, path, (await ask(members[who], 'GET', `/session/${session}${path}`)).status]).toEqual([
          who,
          path,
          200,
        ]);
      }
  });
});

describe('dotfiles of domains and projects', () => {
  const owners = ['/domain-config/dotfiles?domain=ours', '/group-config/dotfiles?group=lab&domain=ours'];

  it('are shown to members, changed by administrators of the domain and superadmins, and unknown to others', async () => {
    const body = JSON.stringify({ path: '.profile', permission: '644', data: 'x' });
    for (const at of owners) {
      const asks = async (who: keyof typeof members): Promise<unknown[]> => {
        const answers = [];
        for (const method of ['GET', 'POST', 'PATCH', 'DELETE'])
          answers.push(
            (
              await ask(
                members[who],
                method,
                `${at}&path=.profile`,
                method === 'GET' || method === 'DELETE' ? {} : { body },
              )
            ).status,
          );
        return answers;
      };
      expect([at, await asks('user')]).toEqual([at, [404, 401, 401, 401]]);
      expect([at, await asks('foreignAdmin')]).toEqual([at, [404, 404, 404, 404]]);
      for (const who of ['ownAdmin', 'superadmin'] as const)
        expect([at, who, await asks(who)]).toEqual([at, who, [404, 200, 200, 200]]);
      expect((await ask(members.user, 'GET', at)).status).toBe(200);
    }
  });
});

describe('usage of projects, kernel by kernel', () => {
  it('is shown to superadmins and to nobody else', async () => {
    const month = new Date().toISOString().slice(0, 7).replace('-', '');
    const day = new Date().toISOString().slice(0, 10).replaceAll('-', '');
    for (const target of [`month?month=${month}`, `period?start_date=${day}&end_date=${day}`])
      for (const who of ['user', 'ownAdmin', 'foreignAdmin', 'superadmin'] as const) {
        const { status, code } = await ask(members[who], 'GET', `/resource/usage/${target}`);
        const expected = who === 'superadmin' ? [200, ''] : [401, 'forbidden'];
        expect([target, who, status, code]).toEqual([target, who, ...expected]);
      }
  });
});

describe('owner_access_key', () => {
  const create = (who: Member, owner: Member, requestId?: string) => {
    const key = owner.actor.accessKey;
    const wanted = { image: 'python', name: 'for-another', domain: 'ours', group: 'lab', owner_access_key: key };
    const body = JSON.stringify({ ...wanted, enqueueOnly: true });
    return ask(who, 'POST', '/session', { body, ...(requestId ? { requestId } : {}) });
  };

  it('lets administrators act for users of their domain, and the log tells both', async () => {
    const { ownAdmin, user, superadmin } = members;
    const requestId = newRequestId();
    const made = await create(ownAdmin, user, requestId);
    expect(made).toMatchObject({ status: 201, json: { sessionName: 'for-another', created: true } });
    const id = String(made.json.sessionId);
    // By name: a session of the user's own key pair.
    expect((await ask(user, 'GET', '/session/for-another')).status).toBe(200);
    expect((await ask(ownAdmin, 'GET', '/session/for-another')).code).toBe('session-not-found');
    const owner = `owner_access_key=${user.actor.accessKey}`;
    expect((await ask(ownAdmin, 'GET', `/session/for-another?${owner}`)).status).toBe(200);
    expect((await ask(superadmin, 'DELETE', `/session/for-another?${owner}&forced=true`)).status).toBe(200);
    const { items } = await apiOf(world, world.admin)((api) => api.admin.audit.list({ targetId: id }));
    const actingFor = user.actor.accessKey;
    expect(items).toMatchObject([
      { action: 'session:destroy', accessKey: superadmin.actor.accessKey, actingFor },
      { action: 'session:create', accessKey: ownAdmin.actor.accessKey, actingFor, requestId },
    ]);
  });

  it('that could be no key is one that nobody has', async () => {
    for (const key of ['\0', 'A\0', '\ud800', 'x'.repeat(100_000)]) {
      const body = JSON.stringify({ owner_access_key: key });
      const { user, superadmin } = members;
      const fields = { owner_access_key: 'is no active access key' };
      const refused = await ask(user, 'POST', '/session', { body });
      expect(refused).toMatchObject({ status: 403, code: 'impersonation-forbidden' });
      const asked = await ask(superadmin, 'POST', '/session', { body });
      expect(asked).toMatchObject({ status: 400, code: 'invalid-input', json: { data: fields } });
    }
  });

  it('is refused to users, to administrators of other domains, and for somebody of a higher role', async () => {
    const { user, neighbour, ownAdmin, foreignAdmin, superadmin } = members;
    for (const [who, owner] of [
      [neighbour, user],
      [user, ownAdmin],
      [foreignAdmin, user],
      [ownAdmin, superadmin],
    ] as const)
      expect(await create(who, owner)).toMatchObject({ status: 403, code: 'impersonation-forbidden' });
  });
});
