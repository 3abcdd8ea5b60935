import { randomInt } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, connect as dial, type Socket } from 'node:net';
import { join } from 'node:path';
import { type AgentService, createAgentRouter, procedureMetas } from '@backend.ai/contract';
import { type Clock, systemClock } from '@backend.ai/core';
import { FakeClock, waitFor } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Kernel, python } from '../runner/runner.test.kit.ts';
import { KernelServices } from './kernel-services.ts';

function connect(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = dial(port, '127.0.0.1');
    socket.once('connect', () => resolve(socket));
    socket.once('error', reject);
  });
}

/** Below those that outgoing connections are given, of which one may come in between. */
async function freePort(): Promise<number> {
  const server = createServer();
  const listens = (port: number): Promise<boolean> =>
    new Promise((resolve) => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true));
    });
  for (;;) {
    const port = randomInt(10_000, 32_768);
    if (!(await listens(port))) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

const body = async (port: number): Promise<string> => await (await fetch(`http://127.0.0.1:${port}/page`)).text();
const asked = (service: string, more = {}) => ({ service, envs: {}, arguments: {}, ...more });

describe.each(python ? (['python', 'node'] as const) : (['node'] as const))('services of a %s kernel', (language) => {
  async function withServices(definitions: Record<string, object | string>) {
    const kernel = new Kernel(language);
    onTestFinished(() => kernel.stop());
    const client = await kernel.connect();
    const definitionsFolder = join(kernel.root, 'service-defs');
    mkdirSync(definitionsFolder);
    for (const [name, definition] of Object.entries(definitions)) {
      const text = typeof definition === 'string' ? definition : JSON.stringify(definition);
      writeFileSync(join(definitionsFolder, `${name}.json`), text);
    }
    const port = await freePort();
    const services = [...Object.keys(definitions), 'bare'].map((name, at) => ({
      name,
      protocol: 'http' as const,
      ports: [port + at],
    }));
    const open = (clock: Clock = systemClock): KernelServices =>
      new KernelServices({ client, services, connect, clock, definitionsFolder });
    onTestFinished(async () => {
      for (const name of Object.keys(definitions)) await client.stopProgram(name);
    });
    return { kernel, client, port, services: open(), again: open };
  }

  const server = `
const http = require('node:http');
http.createServer((_, answer) => answer.end([process.env.GREETING, process.argv[3], process.cwd()].join(' ')))
  .listen(Number(process.argv[2]), '127.0.0.1');`;
  const web = {
    command: [process.execPath, '{script}', '{port}'],
    prestart: [{ action: 'write_tempfile', args: { body: server, mode: '600' }, ref: 'script' }],
    env: { GREETING: 'on {port}' },
    allowed_arguments: ['--flag'],
    url_template: '{protocol}://{host}:{port}/page',
  };

  it('start when asked, listen, and are found running the next time', async () => {
    const { services, again, port, kernel } = await withServices({ web });
    expect(await services.start(asked('web', { arguments: { '--flag': null } }))).toEqual({
      status: 'started',
      ports: [port],
    });
    expect(await body(port)).toBe(`on ${port} --flag ${kernel.home}`);
    expect(await services.start(asked('web'))).toMatchObject({ status: 'running' });
    // As an agent that was started again.
    expect(await again().start(asked('web'))).toMatchObject({ status: 'running' });
  });

  it('are started once for all who ask at the same time', async () => {
    const { services } = await withServices({ web });
    const found = await Promise.all([services.start(asked('web')), services.start(asked('web'))]);
    expect(found.map(({ status }) => status)).toEqual(['started', 'started']);
  });

  it('end on request, and start again', async () => {
    const { services, client, port } = await withServices({ web });
    await services.start(asked('web'));
    await services.stop('web');
    await expect.poll(async () => (await client.program('web'))?.running, { timeout: 15_000 }).toBe(false);
    await expect(connect(port)).rejects.toThrow();
    expect(await services.start(asked('web'))).toMatchObject({ status: 'started' });
  });

  it('that fail tell why', async () => {
    const { services } = await withServices({
      broken: { command: ['/bin/sh', '-c', 'echo no such thing >&2; exit 3'] },
      unprepared: { command: ['sleep', '1000'], prestart: [{ action: 'run_command', args: { command: ['false'] } }] },
      odd: 'no json',
    });
    expect(await services.start(asked('broken'))).toMatchObject({
      status: 'failed',
      error: 'It ended with exit code 3. no such thing',
    });
    expect(await services.start(asked('unprepared'))).toMatchObject({ status: 'failed' });
    await expect(services.start(asked('odd'))).rejects.toMatchObject({ code: 'state-conflict' });
    expect(await services.start(asked('bare'))).toMatchObject({ status: 'failed' });
    await expect(services.start(asked('none'))).rejects.toMatchObject({ code: 'object-not-found' });
  });

  it('that are slow have failed before the manager gives up on them, however much happens before they start', async () => {
    const { again, client, kernel } = await withServices({
      slow: {
        command: ['sleep', '1000'],
        prestart: ['one', 'two'].map((file) => ({
          action: 'run_command',
          args: { command: ['/bin/sh', '-c', `until [ -e ${file} ]; do sleep 0.01; done`] },
        })),
      },
    });
    const clock = new FakeClock();
    let outcome: Awaited<ReturnType<KernelServices['start']>> | undefined;
    const starting = again(clock)
      .start(asked('slow'))
      .then((ended) => {
        outcome = ended;
      });
    const files = [
      { file: 'one', atMs: 15_000 },
      { file: 'two', atMs: 28_000 },
    ];
    while (outcome === undefined) {
      await waitFor(() => outcome !== undefined || clock.pendingTimers > 0, { what: 'it waits or has ended' });
      for (const [nth, { file, atMs }] of files.entries()) {
        if (atMs !== clock.monotonic()) continue;
        writeFileSync(join(kernel.home, file), '');
        await waitFor(async () => (await client.program(`slow.before${nth}`))?.running === false, { what: file });
      }
      await clock.advance(100);
    }
    await starting;
    expect(outcome).toMatchObject({ status: 'failed', error: expect.stringContaining('It does not listen on port') });
    const { deadlineMs = 0 } = new Map(procedureMetas(createAgentRouter({} as AgentService))).get('startService') ?? {};
    expect(clock.monotonic()).toBeLessThan(deadlineMs - 5_000);
  });

  it('are listed with what their definitions tell, also where one cannot be understood', async () => {
    const { services, port } = await withServices({ odd: 'no json', web });
    expect(await services.list()).toEqual([
      { name: 'odd', protocol: 'http', ports: [port] },
      {
        name: 'web',
        protocol: 'http',
        ports: [port + 1],
        urlTemplate: '{protocol}://{host}:{port}/page',
        allowedArguments: ['--flag'],
        allowedEnvs: [],
      },
      { name: 'bare', protocol: 'http', ports: [port + 2] },
    ]);
  });
});
