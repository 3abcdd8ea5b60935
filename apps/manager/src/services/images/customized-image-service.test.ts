import type { CallContext } from '@backend.ai/contract';
import { FakeClock } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import { type CustomizedImageOptions, CustomizedImageService } from './customized-image-service.ts';

type Task = Parameters<CustomizedImageOptions['tasks']['start']>[0];

it('an image that its agent has made and does not offer is a failure', async () => {
  const clock = new FakeClock();
  const kernels = [{ id: 'k', agentId: 'a', clusterRole: 'main' }];
  const record = { status: 'RUNNING', userId: 'u', architecture: 'x86_64', kernels };
  const agent = { backend: 'docker', images: [] };
  let task: Task | undefined;
  const service = new CustomizedImageService({
    sessions: { recorded: (_request: unknown, _actor: unknown, work: (of: unknown) => unknown) => work(record) },
    images: { findKnown: async () => undefined, customizedBy: async () => [] },
    owners: { find: async () => ({ userId: 'u', email: 'u@test', maxCustomizedImages: 0 }) },
    agents: { find: async () => agent, reload: async () => ({ byId: new Map([['a', agent]]) }) },
    clients: { call: async () => ({ state: 'done' }) },
    tasks: {
      start: async (started: Task) => {
        task = started;
        return 't';
      },
    },
    clock,
  } as unknown as CustomizedImageOptions);
  const ctx = { actor: { kind: 'user', userId: 'u', domain: 'default' } } as unknown as CallContext;
  await service.commit({ session: 's', image: 'tools' }, ctx);
  const outcome = task?.run(() => {}, new AbortController().signal).catch((error: unknown) => error);
  await clock.advance(60_000);
  expect(await outcome).toMatchObject({ code: 'image-commit-failed', data: { agent: 'a' } });
});
