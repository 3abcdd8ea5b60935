import { expect, it } from 'vitest';
import { containerName, kernelLabels } from './labels.ts';

it.each([
  ['backend.ai/python:3.11', 'kernel.python.ID'],
  ['localhost:5000/team/tool@sha256:0123', 'kernel.tool.ID'],
  ['tool', 'kernel.tool.ID'],
  ['', 'kernel.image.ID'],
])('the container of %s is called %s', (image, name) => {
  expect(containerName(image, 'ID')).toBe(name);
});

it('the container of a kernel says whose it is: of which installation, agent, session and user', () => {
  const owner = { installationId: 'I', agentId: 'i-1' };
  const environ = { BACKENDAI_USER_UUID: 'U', MINE: 'yes' };
  expect(kernelLabels(owner, { kernelId: 'K', sessionId: 'S', environ })).toEqual({
    'ai.backend.installation': 'I',
    'ai.backend.owner': 'i-1',
    'ai.backend.agent-id': 'i-1',
    'ai.backend.session-id': 'S',
    'ai.backend.kernel-id': 'K',
    'ai.backend.owner-user-id': 'U',
  });
  expect(kernelLabels(owner, { kernelId: 'K', sessionId: 'S', environ: {} })).not.toHaveProperty(
    'ai.backend.owner-user-id',
  );
});
