import { createServer } from 'node:net';
import { AppError, type Clock, deferred, Secret, systemClock } from '@backend.ai/core';
import { observations, ReconcileLoop, silentLogger } from '@backend.ai/telemetry';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Metrics } from '../metrics/metrics.ts';
import { checkDependencies, type Dependency } from './dependencies.ts';
import { DependencyChecks } from './dependency-checks.ts';
import { InternalServer, type ServiceState } from './internal-server.ts';

const works: Dependency = { name: 'Works', check: async () => 'version 1' };
const never: Dependency = { name: 'Never', check: () => new Promise<string>(() => {}) };
const broken: Dependency = {
  name: 'Broken',
  check: () => Promise.reject(new Error('connect ECONNREFUSED redis://:hunter2@127.0.0.1:6379')),
};
const told: Dependency = {
  name: 'Told',
  check() {
    throw new AppError('config-invalid', `The password of ${Secret.url('pg://u:hunter2@h')} is wrong.`, {
      hint: 'Set it.',
    });
  },
};

/** Deadlines pass at once. */
const impatient: Clock = { ...systemClock, setTimer: (_ms, callback) => systemClock.setTimer(0, callback) };

describe('a check of dependencies', () => {
  it('asks all at once and tells of each what there is to know or why it fails, without secrets', async () => {
    const report = await checkDependencies([works, broken, told], { deadlineMs: 2_000 });
    expect(report).toEqual([
      { name: 'Works', healthy: true, latencyMs: expect.any(Number), detail: 'version 1', hint: null },
      {
        name: 'Broken',
        healthy: false,
        latencyMs: expect.any(Number),
        detail: 'connect ECONNREFUSED redis://:***@127.0.0.1:6379',
        hint: null,
      },
      {
        name: 'Told',
        healthy: false,
        latencyMs: expect.any(Number),
        detail: 'The password of pg://u:***@h is wrong.',
        hint: 'Set it.',
      },
    ]);
  });

  it('waits for nobody longer than the deadline, and tells the check that nobody waits', async () => {
    let told = false;
    const listening: Dependency = {
      name: 'Listening',
      check: (signal) => new Promise<string>(() => signal.addEventListener('abort', () => (told = true))),
    };
    const report = await checkDependencies([never, listening], { deadlineMs: 700, clock: impatient });
    expect(report.map(({ healthy, detail }) => [healthy, detail])).toEqual([
      [false, 'no answer within 700 ms'],
      [false, 'no answer within 700 ms'],
    ]);
    expect(told).toBe(true);
  });

  it('tells of a server that is silent what to do about it, and not to look for an outcome', async () => {
    const late = new AppError('deadline-exceeded', 'etcd did not answer in time.');
    const silent = { ...never, ifSilent: 'Start it.' };
    const itself = { name: 'Itself', check: () => Promise.reject(late), ifSilent: 'Start it, too.' };
    const report = await checkDependencies([silent, itself, never], { deadlineMs: 700, clock: impatient });
    expect(report.map(({ hint }) => hint)).toEqual(['Start it.', 'Start it, too.', null]);
  });

  it('names the reason where a connection to several addresses failed', async () => {
    const several: Dependency = {
      name: 'Several',
      check: () => Promise.reject(new AggregateError([new Error('connect ECONNREFUSED ::1:1')], '')),
    };
    const [health] = await checkDependencies([several], { deadlineMs: 1_000 });
    expect(health?.detail).toBe('connect ECONNREFUSED ::1:1');
  });
});

describe('checks for whoever asks', () => {
  it('ask once for many, also while an answer takes its time, and again when that is old', async () => {
    let nowMs = 0;
    const clock: Clock = { ...systemClock, monotonic: () => nowMs };
    let asked = 0;
    let answer = deferred<string>();
    const check = (): Promise<string> => {
      asked += 1;
      return answer.promise;
    };
    const checks = new DependencyChecks([{ name: 'Slow', check }], clock);
    const many = [checks.now(), checks.now()];
    nowMs += 1_500;
    many.push(checks.now());
    answer.resolve('fine');
    expect((await Promise.all(many)).map(([each]) => each?.detail)).toEqual(['fine', 'fine', 'fine']);
    await checks.now();
    expect(asked).toBe(1);
    answer = deferred<string>();
    answer.resolve('still fine');
    nowMs += 501;
    expect((await checks.now())[0]?.detail).toBe('still fine');
    expect(asked).toBe(2);
  });
});

describe('the internal port', () => {
  let state: ServiceState;
  let dependencies: Dependency[];
  let metrics: Metrics;
  let server: InternalServer;
  let url: string;
  beforeEach(async () => {
    state = 'ready';
    dependencies = [works];
    metrics = new Metrics('test');
    server = new InternalServer({
      host: '127.0.0.1',
      port: 0,
      component: 'test',
      version: '1.2.3',
      state: () => state,
      dependencies: new DependencyChecks(dependencies),
      metrics,
      logger: silentLogger,
    });
    ({ url } = await server.start());
  });
  afterEach(async () => {
    await server.stop();
    metrics.close();
  });

  it('tells apart whether the process lives and whether it takes work', async () => {
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
    state = 'stopping';
    const answer = await fetch(`${url}/health/ready`);
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({ component: 'test', version: '1.2.3', state: 'stopping', ready: false });
    expect((await fetch(`${url}/health/live`)).status).toBe(200);
  });

  it('is not ready while a dependency does not work', async () => {
    dependencies.push(broken);
    const answer = await fetch(`${url}/health`);
    expect(answer.status).toBe(503);
    const text = await answer.text();
    expect(JSON.parse(text)).toMatchObject({
      ready: false,
      dependencies: [
        { name: 'Works', healthy: true },
        { name: 'Broken', healthy: false },
      ],
    });
    expect(text).not.toContain('hunter2');
  });

  it('answers every request with its id, also those that lead nowhere', async () => {
    const given = await fetch(`${url}/nowhere`, { headers: { 'X-Request-ID': 'mine-1' } });
    expect([given.status, given.headers.get('X-Backend-Request-ID')]).toEqual([404, 'mine-1']);
    expect(await given.json()).toMatchObject({ error: { code: 'route-not-found', requestId: 'mine-1' } });
    const made = await fetch(`${url}/health`, { method: 'POST', body: 'x', headers: { 'X-Request-ID': 'not an id' } });
    expect(made.status).toBe(405);
    expect(made.headers.get('X-Backend-Request-ID')).toMatch(/^[A-Za-z0-9._:-]{8,}$/);
  });

  it('says which port is taken', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    const second = new InternalServer({
      ...{ host: '127.0.0.1', port, component: 'test', version: '1', state: () => 'ready' as const },
      ...{ dependencies: new DependencyChecks([]), metrics, logger: silentLogger },
    });
    await expect(second.start()).rejects.toMatchObject({ code: 'port-in-use', data: { port } });
    await second.stop();
    await new Promise((resolve) => other.close(resolve));
  });

  it('serves what is counted in this process, in the convention of Prometheus', async () => {
    observations.httpRequest.tell({ method: 'GET', route: '/session/:name', status: 200, ms: 12 });
    observations.httpRequest.tell({ method: 'GET', route: undefined, status: undefined, ms: 1 });
    observations.rpcCall.tell({ path: 'kernel.create', outcome: 'no-agent', ms: 2_000 });
    const loop = new ReconcileLoop({ name: 'sweep', tickMs: 60_000, logger: silentLogger, run: async () => {} });
    loop.start();
    await loop.settle();
    await loop.stop();
    metrics.addGauge({ name: 'backend_sessions', help: 'Sessions', label: 'status', collect: () => ({ RUNNING: 3 }) });
    metrics.addGauge({ name: 'backend_outbox_depth', help: 'Events', collect: async () => 7 });
    const answer = await fetch(`${url}/metrics`);
    expect(answer.headers.get('Content-Type')).toContain('text/plain');
    const text = await answer.text();
    for (const line of [
      'backend_http_requests_total{method="GET",route="/session/:name",status="200",component="test"} 1',
      'backend_http_requests_total{method="GET",route="(none)",status="0",component="test"} 1',
      'backend_http_request_duration_seconds_sum{component="test",method="GET",route="/session/:name"} 0.012',
      'backend_rpc_calls_total{path="kernel.create",outcome="no-agent",component="test"} 1',
      'backend_rpc_call_duration_seconds_sum{component="test",path="kernel.create"} 2',
      'backend_loop_passes_total{loop="sweep",outcome="ok",component="test"} 2',
      'backend_sessions{status="RUNNING",component="test"} 3',
      'backend_outbox_depth{component="test"} 7',
    ]) {
      expect(text.split('\n')).toContain(line);
    }
    expect(text).toContain('nodejs_eventloop_lag_p99_seconds');
    expect(text).toContain('process_resident_memory_bytes');
  });

  it('counts nothing any more once metrics are closed', () => {
    metrics.close();
    expect(observations.rpcCall.wanted).toBe(false);
  });
});
