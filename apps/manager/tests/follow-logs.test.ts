import { deflateRawSync } from 'node:zlib';
import type { CallContext, FollowedLog } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import { waitFor } from '@backend.ai/testing';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

describe('following the output of a session', () => {
  let world: World;
  let agent: FakeAgent;
  let id: string;
  let kernelId: string;

  beforeEach(async () => {
    world = await createWorld();
    agent = await world.addAgent('agent-1');
    id = (await world.create({ name: 'talks' })).id;
    kernelId = (await world.until(id, 'RUNNING')).kernels[0]!.id;
    agent.output = '';
  });
  afterEach(() => world.close());

  interface Reader {
    readonly text: () => string;
    readonly last: () => string | undefined;
    readonly missed: () => boolean;
    readonly done: Promise<void>;
    readonly stop: () => Promise<void>;
  }

  function read(from: { lastEventId?: string | undefined; tailLines?: number } = {}): Reader {
    const over = new AbortController();
    const ctx: CallContext = { ...world.ctx(), signal: over.signal };
    const pieces: FollowedLog[] = [];
    const done = (async () => {
      for await (const piece of world.manager.services.api.session.followLogs({ session: id, ...from }, ctx))
        pieces.push(piece);
    })();
    return {
      text: () => pieces.map(({ text }) => text).join(''),
      last: () => pieces.at(-1)?.cursor,
      missed: () => pieces.some(({ missed }) => missed),
      done,
      stop: async () => {
        over.abort();
        await done;
      },
    };
  }
  const write = (lines: number) => {
    for (let i = 0; i < lines; i++) agent.output += `line ${agent.output.split('\n').length}\n`;
  };

  const keep = (text: string, file = '7', from = 0) => {
    const parts = [{ file, from, bytes: Buffer.byteLength(text) }];
    agent.console = { parts, packed: deflateRawSync(text).toString('base64') };
  };

  it('tells what comes, and ends with the session when all of it was told', async () => {
    const reader = read();
    write(3);
    await waitFor(() => reader.text() === agent.output, { what: 'the first lines' });
    write(30);
    keep(agent.output);
    agent.exit(kernelId);
    await reader.done;
    expect(reader.text()).toBe(agent.output);
    expect(reader.missed()).toBe(false);
  });

  it('goes on at another manager where it stopped, without loss or repetition', async () => {
    const first = read();
    write(10);
    await waitFor(() => first.text().length >= 20, { what: 'something' });
    await first.stop();
    write(10);
    await world.restartManager();
    const second = read({ lastEventId: first.last() });
    write(10);
    await waitFor(() => first.text() + second.text() === agent.output, { what: 'the rest' });
    await second.stop();
  });

  it('outlives an agent that is away for a while', async () => {
    const reader = read();
    write(2);
    await waitFor(() => reader.text() === agent.output);
    await agent.stop();
    write(2);
    await agent.start();
    await waitFor(() => reader.text() === agent.output, { what: 'what was written meanwhile' });
    await reader.stop();
  });

  it('goes on when its agent says that it is shutting down', async () => {
    const reader = read();
    write(2);
    await waitFor(() => reader.text() === agent.output);
    const refusal = new AppError('shutting-down', 'The service is shutting down.');
    const refused = vi.spyOn(agent, 'readLog').mockRejectedValueOnce(refusal);
    await waitFor(() => refused.mock.settledResults.some(({ value }) => value === refusal));
    write(2);
    await waitFor(() => reader.text() === agent.output, { what: 'what was written meanwhile' });
    await reader.stop();
  });

  it('tells the rest from what is kept when the agent has forgotten it', async () => {
    const reader = read();
    write(1);
    await waitFor(() => reader.text() === agent.output);
    agent.forgetsLogs = true;
    write(50);
    keep(agent.output);
    agent.exit(kernelId);
    await reader.done;
    expect(reader.text()).toBe(agent.output);
    expect(await world.manager.services.api.session.logs({ session: id }, world.ctx())).toEqual({ logs: agent.output });
  });

  it('says that something is missing when not all was kept, and shows the last lines of an ended session', async () => {
    const first = read();
    write(2);
    await waitFor(() => first.text() === agent.output);
    await first.stop();
    agent.forgetsLogs = true;
    const kept = 'the end\nof it\n';
    keep(kept, '9', 1_000);
    agent.exit(kernelId);
    await world.until(id, 'TERMINATED');
    const second = read({ lastEventId: first.last() });
    await second.done;
    expect([second.text(), second.missed()]).toEqual([kept, true]);
    const tail = read({ tailLines: 1 });
    await tail.done;
    expect([tail.text(), tail.missed()]).toEqual(['of it\n', false]);
  });

  it('refuses a place that nobody told', async () => {
    await expect(read({ lastEventId: `${kernelId}/../etc` }).done).rejects.toMatchObject({ code: 'invalid-input' });
  });
});
