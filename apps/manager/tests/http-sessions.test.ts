import { AppError } from '@backend.ai/core';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { accessKey, FakeWorld, TestServer, until } from './http-world.ts';

/** The official session endpoints, with bodies as the official client sends them. */

let world: FakeWorld;
let server: TestServer;

beforeAll(async () => {
  world = new FakeWorld();
  server = await TestServer.start(world);
});
afterAll(() => server.close());
beforeEach(() => {
  world.fail = undefined;
  world.calls.length = 0;
  world.sessions.clear();
});

/** Observed: `session create -t mysess1 -r cpu=1 -r mem=1g -e A=B python:3.9` of the official client. */
const officialBody = {
  tag: null,
  name: 'mysess1',
  config: {
    mounts: [],
    environ: { A: 'B' },
    resources: { cpu: '1', mem: '1g' },
    resource_opts: {},
    scalingGroup: null,
    mount_map: {},
    preopen_ports: null,
  },
  dependencies: [],
  callback_url: null,
  architecture: 'x86_64',
  clusterSize: 1,
  clusterMode: 'single-node',
  starts_at: null,
  bootstrap_script: null,
  owner_access_key: null,
  domain: 'default',
  group: 'default',
  type: 'interactive',
  enqueueOnly: true,
  maxWaitSeconds: 0,
  reuseIfExists: true,
  startupCommand: null,
  image: 'python:3.9',
};

const post = (target: string, body: object) => server.request(target, { method: 'POST', body });

describe('creating', () => {
  test.each(['/session', '/session/_/create', '/sessions'])('POST %s takes the official body', async (target) => {
    const answer = await post(target, officialBody);
    expect(answer.status).toBe(201);
    expect(answer.headers['content-type']).toBe('application/json');
    expect(answer.json).toEqual({
      sessionId: world.find('mysess1').id,
      sessionName: 'mysess1',
      status: 'PENDING',
      servicePorts: [],
      created: true,
    });
    expect(world.last('create').input).toEqual({
      name: 'mysess1',
      image: 'python:3.9',
      architecture: 'x86_64',
      type: 'interactive',
      resources: { cpu: '1', mem: '1g' },
      environ: { A: 'B' },
      project: 'default',
      domain: 'default',
      clusterMode: 'single-node',
      clusterSize: 1,
      reuseIfExists: true,
      priority: 10,
      jobPriority: 0,
      isPreemptible: true,
      dependencies: [],
      preopenPorts: [],
      designatedAgents: [],
      resourceOpts: {},
    });
  });

  test('everything that a session can be asked for has its official name', async () => {
    await post('/session', {
      ...officialBody,
      type: 'batch',
      startupCommand: 'python main.py',
      starts_at: '2030-01-31 12:00:00+09:00',
      batch_timeout: '1.5h',
      bootstrap_script: 'pip list',
      dependencies: ['first'],
      callback_url: 'https://example.com/hook',
      priority: 20,
      job_priority: '3',
      is_preemptible: false,
      clusterSize: 2,
      clusterMode: 'MULTI_NODE',
      config: {
        resources: {},
        resource_opts: { shmem: '64m', allow_fractional_resource_fragmentation: false },
        preopen_ports: ['3000', 3001],
        agent_list: ['i-one', 'i-two'],
      },
    });
    expect(world.last('create').input).toMatchObject({
      type: 'batch',
      startupCommand: 'python main.py',
      startsAt: '2030-01-31T03:00:00.000Z',
      timeoutMs: 5_400_000,
      bootstrapScript: 'pip list',
      dependencies: ['first'],
      callbackUrl: 'https://example.com/hook',
      priority: 20,
      jobPriority: 3,
      isPreemptible: false,
      clusterSize: 2,
      clusterMode: 'multi-node',
      resourceOpts: { shmem: '64m' },
      preopenPorts: [3000, 3001],
      designatedAgents: ['i-one', 'i-two'],
    });
  });

  test('a start may be so and so long from now', async () => {
    await post('/session', { ...officialBody, type: 'batch', startupCommand: 'ls', startsAt: '2h' });
    expect(world.last('create').input).toMatchObject({ startsAt: new Date(world.nowMs + 7_200_000).toISOString() });
  });

  test('a refusal names the field as the caller does', async () => {
    world.fail = new AppError('invalid-input', 'No.', { data: { fields: { resourceGroup: 'does not exist' } } });
    expect((await post('/session', officialBody)).json).toMatchObject({
      data: { 'config.scaling_group': 'does not exist' },
    });
  });

  test('other spellings, digits as text and unknown keys are taken', async () => {
    await post('/session', {
      clientSessionToken: 'mysess1',
      lang: 'python',
      arch: 'aarch64',
      groupName: 'lab',
      domain_name: 'default',
      cluster_size: '2',
      cluster_mode: 'multi-node',
      sessionType: 'interactive',
      enqueueOnly: 'True',
      reuseIfExists: 'no',
      priority: 10,
      config: { scaling_group: 'gpu', environ: { N: 1 }, mount_ids: [] },
    });
    expect(world.last('create').input).toMatchObject({
      name: 'mysess1',
      image: 'python',
      architecture: 'aarch64',
      project: 'lab',
      clusterSize: 2,
      clusterMode: 'multi-node',
      reuseIfExists: false,
      resourceGroup: 'gpu',
      environ: { N: '1' },
    });
  });

  test('without enqueueOnly the answer comes when it runs', async () => {
    const answer = post('/session', { ...officialBody, enqueueOnly: false });
    await until(() => world.calls.some(({ name }) => name === 'wait'), 'the wait');
    world.setStatus(world.find('mysess1'), 'RUNNING');
    expect((await answer).json).toMatchObject({ status: 'RUNNING', created: true });
  });

  test('after maxWaitSeconds the answer is TIMEOUT', async () => {
    const answer = await post('/session', { ...officialBody, enqueueOnly: false, maxWaitSeconds: 1 });
    expect(answer.status).toBe(201);
    expect(answer.json).toMatchObject({ status: 'TIMEOUT', created: true });
  });

  test('a failed start is told', async () => {
    const answer = post('/session', { ...officialBody, enqueueOnly: false });
    await until(() => world.calls.some(({ name }) => name === 'wait'), 'the wait');
    world.setStatus(world.find('mysess1'), 'ERROR');
    expect((await answer).json).toMatchObject({ status: 'ERROR' });
  });

  test('an existing one is returned in its own spelling, or refused with its id', async () => {
    const existing = world.add('mysess1', 'CREATING');
    expect((await post('/session', officialBody)).json).toEqual({
      sessionId: existing.id,
      sessionName: 'mysess1',
      status: 'PREPARING',
      service_ports: [],
      created: false,
    });
    const refused = await post('/session', { ...officialBody, reuseIfExists: false });
    expect(refused.status).toBe(400);
    expect(refused.json).toMatchObject({
      type: 'https://api.backend.ai/probs/session-already-exists',
      data: { existingSessionId: existing.id },
    });
  });

  test.each([
    [{ name: null }, { name: 'is required' }],
    [{ image: 7 }, { image: 'is not a string' }],
    [{ type: 'batch' }, { startupCommand: 'is required for batch sessions' }],
    [{ starts_at: '1h' }, { starts_at: 'is for batch sessions only' }],
    [{ clusterSize: 'many' }, { clusterSize: 'is not a whole number of at least 0' }],
    [{ enqueueOnly: 'perhaps' }, { enqueueOnly: 'is not a boolean' }],
    [{ config: { environ: { 'not a name': 'x' } } }, { 'config.environ.not a name': expect.any(String) }],
    [{ config: [] }, { config: 'is not an object' }],
    [{ config: { preopen_ports: ['x'] } }, { 'config.preopen_ports': 'is not a list of whole numbers' }],
    [{ config: { preopen_ports: [80] } }, { 'config.preopen_ports.0': expect.any(String) }],
    [{ config: { preopen_ports: [3000, 3000] } }, { 'config.preopen_ports': 'must not name anything twice' }],
    [{ config: { agent_list: ['a', 'b'] } }, { 'config.agent_list': expect.stringContaining('one agent') }],
    [{ callback_url: 'ftp://example.com' }, { callback_url: expect.any(String) }],
    [{ callback_url: 'https://me:secret@example.com' }, { callback_url: expect.any(String) }],
    [{ priority: 101 }, { priority: expect.any(String) }],
    [{ bootstrap_script: 'ä'.repeat(8_193) }, { bootstrap_script: 'must have at most 16384 bytes' }],
    [{ batch_timeout: 'soon' }, { batch_timeout: expect.any(String) }],
    [{ batch_timeout: 60 }, { batch_timeout: 'is for batch sessions only' }],
    [{ type: 'batch', startupCommand: 'ls', starts_at: 'soon' }, { starts_at: expect.any(String) }],
    [{ type: 'batch', startupCommand: 'ls', starts_at: '+275000-01-01' }, { starts_at: expect.any(String) }],
    [{ type: 'quantum' }, { type: expect.any(String) }],
  ])('%j is an input error with the field', async (change, data) => {
    const answer = await post('/session', { ...officialBody, ...change });
    expect(answer.status).toBe(400);
    expect(answer.json).toMatchObject({
      type: 'https://api.backend.ai/probs/invalid-api-params',
      msg: 'Input validation error',
      data,
    });
    expect(world.calls).toHaveLength(0);
  });

  test.each([{ config: { mounts: ['data'] } }, { config: { mount_map: { data: '/data' } } }])(
    'what is not offered is refused, never ignored: %j',
    async (change) => {
      const answer = await post('/session', { ...officialBody, ...change });
      expect(answer.status).toBe(400);
      expect(answer.json.error_code).toBe('unsupported-feature');
      expect(world.calls).toHaveLength(0);
    },
  );

  test.each([
    ['{', 'application/json', 'malformed-body'],
    ['[1]', 'application/json', 'malformed-body'],
    ['name: x', 'text/yaml', 'invalid-input'],
    ['name=x', 'text/plain', 'malformed-body'],
  ])('the body %s as %s is %s', async (body, type, code) => {
    const answer = await server.request('/session', { method: 'POST', body, headers: { 'content-type': type } });
    expect(answer.status).toBe(400);
    expect(answer.json.error_code).toBe(code);
  });
});

describe('changing sessions', () => {
  test('restart and rename answer 204, the new name is in the query', async () => {
    world.add('sess');
    expect((await server.request('/session/sess', { method: 'PATCH' })).status).toBe(204);
    expect(world.calls.at(-1)).toMatchObject({ name: 'restart', input: { session: 'sess' } });
    expect((await server.request('/session/sess/rename?name=other', { method: 'POST' })).status).toBe(204);
    expect(world.calls.at(-1)).toMatchObject({ name: 'rename', input: { session: 'sess', name: 'other' } });
    expect((await server.request('/session/sess/rename', { method: 'POST' })).status).toBe(400);
  });
});

describe('pausing sessions', () => {
  test.each(['pause', 'resume'])('%s answers 204', async (verb) => {
    world.add('sess');
    expect((await server.request(`/session/sess/${verb}`, { method: 'POST' })).status).toBe(204);
    expect(world.calls.at(-1)).toMatchObject({ name: verb, input: { session: 'sess' } });
  });
});

describe('images of sessions', () => {
  test('are made by the official names, and whether one is being made is told', async () => {
    const { id } = world.add('sess');
    const post = (path: string, body: object) =>
      server.request(`/session/sess/${path}`, { method: 'POST', body: JSON.stringify(body) });
    const made = await post('imagify', { image_name: 'mine', image_visibility: 'user', image_owner_id: id });
    expect(made).toMatchObject({ status: 200, json: { task_id: id } });
    expect(world.calls.at(-1)).toMatchObject({ name: 'commit', input: { session: 'sess', image: 'mine' } });
    expect(await post('commit', { image: 'mine:2' })).toMatchObject({ status: 201, json: { bgtask_id: id } });
    expect(world.calls.at(-1)).toMatchObject({ name: 'commit', input: { image: 'mine:2' } });
    const answer = await server.request('/session/sess/commit');
    expect(answer.json).toEqual({ status: 'ongoing', kernel: id });
  });

  test('are no archive files and belong to nobody but their owner', async () => {
    world.add('sess');
    const post = async (path: string, body: object) =>
      (await server.request(`/session/sess/${path}`, { method: 'POST', body: JSON.stringify(body) })).json.error_code;
    expect(await post('commit', { filename: 'a.tar.gz' })).toBe('unsupported-feature');
    expect(await post('commit', {})).toBe('invalid-input');
    expect(await post('imagify', { image_name: 'mine', image_visibility: 'project' })).toBe('unsupported-feature');
  });
});

describe('looking at sessions', () => {
  test('info has the official fields', async () => {
    const session = world.add('sess', 'RUNNING');
    const answer = await server.request(`/session/${session.id}?owner_access_key=${accessKey}`);
    expect(answer.json).toMatchObject({
      domainName: 'default',
      lang: 'local/python:3.11',
      image: 'local/python:3.11',
      architecture: 'x86_64',
      registry: 'local',
      tag: null,
      requestedSlots: '{"cpu":"1","mem":"536870912"}',
      occupiedSlots: '{"cpu":"1","mem":"536870912"}',
      status: 'RUNNING',
      statusInfo: 'queued',
      statusData: { reason: { code: 'queued' } },
      age: expect.any(Number),
      creationTime: '1970-01-01T00:00:00.000Z',
      terminationTime: null,
      idleChecks: {},
    });
  });

  test('info tells what was measured and judged', async () => {
    const session = world.add('sess', 'RUNNING');
    const metric = { min: 0, sum: 0, avg: 0, diff: 0, rate: 0 };
    world.kernels = [
      {
        ...{ kernelId: 'k', role: 'main', index: 1, agent: 'a', measuredAt: '2024-01-01T00:00:00.000Z' },
        cpu: { usedMs: 1_500, percent: 50, averagePercent: null, capacityPercent: 100 },
        memory: { bytes: 1_024, peakBytes: 2_048, averageBytes: null, capacityBytes: 4_096 },
        metrics: { mem: { ...metric, unit: 'bytes', current: 1_024, capacity: 4_096, max: 2_048 } },
        series: [],
        overall: { attempts: 1, cpuUsedMs: 1_500, memoryPeakBytes: 2_048 },
      },
    ];
    world.idleChecks = [
      {
        ...{ checker: 'network_timeout', verdict: 'active', explanation: 'It is used.', remainingMs: 60_000 },
        ...{ remainingKind: 'expire_after', evidence: { idleMs: 1 } },
      },
    ];
    const { json } = await server.request(`/session/${session.id}`);
    expect(json.lastStat).toMatchObject({ mem: { current: '1024', pct: '25', 'stats.max': '2048' } });
    expect(json.idleChecks).toEqual({
      network_timeout: { remaining: 60, remaining_time_type: 'expire_after', extra: { idleMs: 1 } },
    });
  });

  test('match finds by the beginning of name or id', async () => {
    const one = world.add('train-1');
    world.add('other');
    expect((await server.request('/session/_/match?id=tra')).json).toEqual({
      matches: [{ id: one.id, name: 'train-1', status: 'RUNNING' }],
    });
    // With the parameter in a body, on GET.
    expect((await server.request('/session/_/match', { body: { id: one.id } })).json.matches).toHaveLength(1);
  });

  test('logs and history', async () => {
    world.add('sess');
    expect((await server.request('/session/sess/logs')).json).toEqual({ result: { logs: 'some output' } });
    expect((await server.request('/session/sess/status-history')).json).toEqual({
      result: { pending: '2024-01-01T00:00:00.000Z', preparing: '2024-01-01T00:00:01.000Z' },
    });
  });

  test('no such session, and several', async () => {
    const none = await server.request('/session/none');
    expect(none.status).toBe(404);
    expect(none.json).toMatchObject({ title: 'No such session.', error_code: 'session-not-found' });
    const matches = [{ id: '1', name: 'a', status: 'RUNNING', created_at: 'x' }];
    world.fail = new AppError('too-many-matches', 'Several match.', { data: { matches } });
    const several = await server.request('/session/sess');
    expect(several.status).toBe(404);
    expect(several.json).toMatchObject({
      type: expect.stringMatching(/too-many-sessions-matched$/),
      data: { matches },
    });
  });
});

describe('destroying', () => {
  test('a queued one is cancelled, a running one terminated', async () => {
    world.add('queued', 'PENDING');
    world.add('running');
    expect((await server.request('/session/queued', { method: 'DELETE' })).json).toEqual({
      stats: { status: 'cancelled' },
    });
    expect((await server.request('/session/running', { method: 'DELETE' })).json).toEqual({
      stats: { status: 'terminated', version: 2 },
    });
    expect(world.last('destroy').input).toEqual({ session: 'running', forced: false, recursive: false });
  });

  test('options come in the query or in a body; recursive answers a list', async () => {
    world.add('one');
    world.add('two');
    world.dependents = [world.add('after', 'CANCELLED')];
    const answer = await server.request('/session/one?forced=true&recursive=True', { method: 'DELETE' });
    expect(answer.json).toEqual([{ status: 'terminated', version: 2 }, { status: 'cancelled' }]);
    expect(world.last('destroy').input).toMatchObject({ forced: true, recursive: true });
    await server.request('/session/two', { method: 'DELETE', body: { forced: true } });
    expect(world.last('destroy').input).toEqual({ session: 'two', forced: true, recursive: false });
  });

  test('a state that does not allow it is 403', async () => {
    world.fail = new AppError('state-conflict', 'It is being prepared.');
    const answer = await server.request('/session/one', { method: 'DELETE' });
    expect(answer.status).toBe(403);
    expect(answer.json.type).toMatch(/generic-forbidden$/);
  });
});

describe('executing', () => {
  beforeEach(() => {
    world.add('sess');
  });

  test('a snippet', async () => {
    const answer = await post('/session/sess', { mode: 'query', code: 'print(1)', runId: null, options: null });
    expect(answer.json).toEqual({
      result: {
        runId: 'run-1',
        status: 'finished',
        exitCode: 0,
        options: null,
        files: [],
        console: [['stdout', 'hello\n']],
      },
    });
    expect(world.last('execute').input).toEqual({
      session: 'sess',
      mode: 'query',
      runId: null,
      code: 'print(1)',
      options: {},
      flushMs: 2000,
      holdMs: 2000,
      timeoutMs: 0,
    });
  });

  test('a batch, its continuation, and input', async () => {
    const options = { clean: null, build: '*', buildLog: false, exec: 'python main.py' };
    await post('/session/sess', { mode: 'batch', code: '', runId: 'run-1', options });
    expect(world.last('execute').input).toMatchObject({
      mode: 'batch',
      options: { clean: null, build: '*', exec: 'python main.py' },
    });
    await post('/session/sess', { mode: 'continue', code: '', runId: 'run-1' });
    expect(world.last('execute').input).toMatchObject({ mode: 'continue', runId: 'run-1' });
    await post('/session/sess', { mode: 'input', code: 'Ada', runId: 'run-1' });
    expect(world.last('execute').input).toMatchObject({ mode: 'input', code: 'Ada' });
  });

  test.each([
    [{ code: '', runId: null }, 'mode'],
    [{ mode: 'query', code: '' }, 'runId'],
    [{ mode: 'continue', code: '', runId: null }, 'runId'],
    [{ mode: 'dance', code: '', runId: null }, 'mode'],
    [{ mode: 'query', code: '', runId: 'a b' }, 'runId'],
  ])('%j lacks a good %s', async (body, field) => {
    const answer = await post('/session/sess', body);
    expect(answer.status).toBe(400);
    expect(Object.keys(answer.json.data)).toEqual([field]);
  });

  test('vector graphics are media', async () => {
    const before = world.run;
    world.run = {
      ...before,
      console: [
        ['svg', '<svg/>'],
        ['media', ['image/png', 'abc']],
      ],
    };
    const answer = await post('/session/sess', { mode: 'query', code: '', runId: null });
    expect(answer.json.result.console).toEqual([
      ['media', ['image/svg+xml', '<svg/>']],
      ['media', ['image/png', 'abc']],
    ]);
    world.run = before;
  });

  test('the end of the kernel in the middle of a run is an outcome', async () => {
    world.fail = new AppError('kernel-not-found', 'It is gone.');
    const answer = await post('/session/sess', { mode: 'continue', code: '', runId: 'run-1' });
    expect(answer.status).toBe(200);
    expect(answer.json.result).toEqual({
      runId: 'run-1',
      status: 'finished',
      exitCode: 130,
      options: {},
      files: [],
      console: [],
    });
    expect((await post('/session/sess', { mode: 'query', code: '', runId: null })).status).toBe(404);
  });

  test('completion, in both forms, and interrupt', async () => {
    const body = { code: 'pri', options: { row: 0, col: 3, line: 'pri', post: '' } };
    const result = { result: { status: 'finished', completions: ['print'] } };
    expect((await post('/session/sess/complete', body)).json).toEqual(result);
    expect((await post('/session/sess', { ...body, mode: 'complete', runId: null })).json).toEqual(result);
    expect((await server.request('/session/sess/interrupt', { method: 'POST' })).status).toBe(204);
    expect(world.last('interrupt').input).toEqual({ session: 'sess' });
  });
});

describe('who am I', () => {
  test.each([
    ['GET', '/auth?echo=hi'],
    ['POST', '/auth?echo=hi'],
    ['GET', '/auth/test?echo=hi'],
  ])('%s %s echoes', async (method, target) => {
    expect((await server.request(target, { method })).json).toEqual({ authorized: 'yes', echo: 'hi' });
  });

  test('an echo in a body, on GET and POST', async () => {
    for (const method of ['GET', 'POST'])
      expect((await server.request('/auth', { method, body: { echo: 'hi' } })).json).toMatchObject({ echo: 'hi' });
    expect((await server.request('/auth')).json).toMatchObject({ data: { echo: 'is required' } });
  });

  test('roles', async () => {
    expect((await server.request('/auth/role')).json).toEqual({
      global_role: 'user',
      domain_role: 'user',
      group_role: null,
    });
    expect((await server.request('/auth/role?group=default')).json.group_role).toBe('user');
    expect((await server.request('/auth/role?group=other')).status).toBe(404);
  });
});
