import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import { agentWorld, runCode, startKernel, textOf } from './agent-world.ts';
import { docker, dockerOptions, testImages } from './docker-world.ts';

const images = await testImages();

it('an agent whose kernel cannot be made leaves the one of another agent of this engine alone', async () => {
  const image = images.python;
  const first = await agentWorld(dockerOptions);
  const { api } = await first.startAgent();
  const { spec, kernelId } = await startKernel(first, api, { image });
  const second = await agentWorld(dockerOptions);
  const other = await second.startAgent();
  await other.api.createKernel.mutate(spec);
  await waitFor(() => second.gateway.of(kernelId).find(({ type }) => type === 'kernel-start-failed'));
  await waitFor(() => !existsSync(join(second.dataDir, 'scratch', kernelId)));
  expect(await docker.listContainers({ filters: { label: [`ai.backend.kernel-id=${kernelId}`] } })).toHaveLength(1);
  expect(textOf(await runCode(api, kernelId, 'print(6 * 7)'))).toBe('42\n');
});
