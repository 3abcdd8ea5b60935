import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import type { IsolationReport } from '@backend.ai/contract';
import { tempDirectory } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { keepKnownEngine } from './backends/docker/known-engine.ts';
import { dependenciesOf } from './health.ts';
import type { AgentServerOptions } from './server-config.ts';

const signal = new AbortController().signal;

async function engineLine(
  backend: 'auto' | 'docker' | 'process',
  socket: string,
  dataDir = '/tmp/agent/data',
): Promise<string | undefined> {
  const agent = { managers: ['ws://127.0.0.1:1'], dataDir, backend, docker: { socket } };
  const dependencies = dependenciesOf({ agent, runDir: '/tmp/agent/run' } as unknown as AgentServerOptions);
  return await dependencies.find(({ name }) => name === 'Container engine')?.check(signal);
}

it('health asks the container engine where kernels are containers, and fails without it only where they must be', async () => {
  const folder = await tempDirectory();
  const none = join(folder, 'none.sock');
  const socket = join(folder, 'engine.sock');
  const server = createServer(({ url = '' }, response) => {
    const version = { Version: '24.0.7', ApiVersion: '1.43' };
    response.end(JSON.stringify(url === '/version' ? version : url === '/info' ? { Driver: 'overlay2' } : []));
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  onTestFinished(() => void server.close());
  expect(await engineLine('docker', socket)).toBe(`Docker 24.0.7 at ${socket}, 0 images for sessions`);
  expect(await engineLine('auto', socket)).toMatch(/^Docker 24/);
  await expect(engineLine('docker', none)).rejects.toMatchObject({ code: 'engine-unavailable' });
  expect(await engineLine('auto', none)).toBe(`no container engine at ${none}; kernels are processes`);
  expect(await engineLine('process', none)).toBeUndefined();
});

it('health of an agent that has chosen an engine by itself fails while that does not answer', async () => {
  const folder = await tempDirectory();
  const silent = join(folder, 'silent.sock');
  writeFileSync(silent, '');
  expect(await engineLine('auto', silent, folder)).toMatch(/kernels are processes$/);
  keepKnownEngine(folder, { socket: silent, isolation: {} as IsolationReport, images: [] });
  await expect(engineLine('auto', silent, folder)).rejects.toMatchObject({ code: 'engine-unavailable' });
});
