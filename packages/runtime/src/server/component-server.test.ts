import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppError } from '@backend.ai/core';
import { silentLogger } from '@backend.ai/telemetry';
import { expect, it, onTestFinished } from 'vitest';
import { adminSocketPath, callAdminSocket } from '../admin-socket.ts';
import { DependencyChecks } from '../health/dependency-checks.ts';
import type { Part } from '../lifecycle.ts';
import type { RunningService } from '../run-service.ts';
import { startComponentServer } from './component-server.ts';

async function dataFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'component-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

function startIn(
  folder: string,
  parts: readonly Part[] = [],
  events: string[] = [],
  port = 0,
): Promise<RunningService> {
  return startComponentServer(
    {
      component: 'example',
      version: '1.2.3',
      runDir: join(folder, 'run'),
      metrics: { host: '127.0.0.1', port },
      stopDeadlineMs: 5_000,
      logger: silentLogger,
    },
    [{ name: 'own', start: () => void events.push('started'), stop: () => void events.push('stopped') }, ...parts],
    () => ({
      addresses: { API: 'http://example' },
      handlers: { status: () => ({ events: [...events] }) },
      dependencies: new DependencyChecks([{ name: 'Database', check: async () => 'fine' }]),
      gauges: [{ name: 'backend_example_events', help: 'Events so far', collect: () => events.length }],
    }),
  );
}

it('a component answers at its socket and its internal port until it is stopped', async () => {
  const [folder, events] = [await dataFolder(), [] as string[]];
  const service = await startIn(folder, [], events);
  const socket = adminSocketPath(join(folder, 'run'), 'example');
  expect(await callAdminSocket(socket, 'status')).toEqual({ events: ['started'] });
  const { API, Health } = service.addresses;
  expect(API).toBe('http://example');
  expect(await (await fetch(`${Health}/ready`)).json()).toMatchObject({ component: 'example', ready: true });
  const metrics = await fetch(new URL('/metrics', Health));
  expect(await metrics.text()).toContain('backend_example_events{component="example"} 1');
  await service.stop();
  expect(events).toEqual(['started', 'stopped']);
  expect(existsSync(socket)).toBe(false);
  await expect(fetch(`${Health}/live`)).rejects.toThrow();
});

it('a component whose port is taken names the process that has it', async () => {
  const first = await startIn(await dataFolder());
  onTestFinished(() => first.stop());
  const port = Number(new URL(first.addresses.Health ?? '').port);
  await expect(startIn(await dataFolder(), [], [], port)).rejects.toMatchObject({
    code: 'port-in-use',
    message: `Port ${port} of 127.0.0.1 is in use.`,
    hint: expect.stringContaining(`Process ${process.pid} has it (`),
    data: { port, pid: process.pid },
  });
});

it('a data folder has one process at a time, and is free when that one has stopped or could not start', async () => {
  const folder = await dataFolder();
  const service = await startIn(folder);
  await expect(startIn(folder)).rejects.toMatchObject({ code: 'data-directory-locked' });
  await service.stop();
  const fails = new AppError('server-unreachable', 'No database here.');
  const events: string[] = [];
  await expect(startIn(folder, [{ name: 'database', start: () => Promise.reject(fails) }], events)).rejects.toBe(fails);
  expect(events).toEqual(['started', 'stopped']);
  await (await startIn(folder)).stop();
});
