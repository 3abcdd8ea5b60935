import { expect, it } from 'vitest';
import { agentWorld, kernelSpec } from './agent-world.ts';
import { dockerOptions, sluggishEngine, testImages } from './docker-world.ts';
import { kernelSuite } from './kernel-suite.ts';

const { python, busybox } = await testImages();

kernelSuite('the docker backend', {
  ...dockerOptions,
  images: { python, shell: busybox },
  steps: [
    ...['make-scratch', 'allocate-uid', 'write-facts', 'ensure-image', 'make-network'],
    ...['create-container', 'start-container', 'await-runner'],
  ],
});

it.each([
  ['make-network', /^POST \S*\/networks\/create/],
  ['create-container', /^POST \S*\/containers\/create/],
  ['start-container', /^POST \S*\/containers\/\S+\/start/],
])('leaves nothing behind when the engine does what the step %s wants, and its answer is lost', async (step, call) => {
  const engine = await sluggishEngine();
  const w = await agentWorld({ ...dockerOptions, docker: { ...dockerOptions.docker, socket: engine.path } });
  const { agent, api } = await w.startAgent();
  engine.loseAnswers(call);
  const spec = kernelSpec({ image: busybox });
  await api.createKernel.mutate(spec);
  const failed = await w.gateway.waitForEvent(spec.kernelId, 'kernel-start-failed');
  expect(failed).toMatchObject({ failedStep: step, error: { code: 'engine-unavailable' } });
  expect(agent.status()).toMatchObject({ used: {}, kernels: [] });
  await w.expectNoRemains(spec.kernelId);
});
