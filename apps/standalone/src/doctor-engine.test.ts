import type { ReadyEngine } from '@backend.ai/agent';
import { describe, expect, it } from 'vitest';
import { engineFindings, gpuFinding } from './doctor-engine.ts';

const socket = '/run/engine.sock';
const ready: ReadyEngine = {
  state: 'ready',
  socket,
  product: 'Docker',
  version: '24.0.7',
  apiVersion: '1.43',
  cgroupVersion: '2',
  storageDriver: 'overlay2',
  swarm: false,
  rootless: false,
  nvidia: false,
  images: ['backend.ai/python:3.11'],
};

describe('what doctor says of a container engine', () => {
  it('names version, control groups, storage, swarm and images', () => {
    expect(engineFindings(ready)).toEqual([
      {
        topic: 'Docker',
        state: 'ok',
        detail: 'Docker 24.0.7 at /run/engine.sock, control groups of version 2, storage overlay2, no swarm',
        hint: '',
      },
      { topic: 'Docker images', state: 'ok', detail: 'backend.ai/python:3.11', hint: '' },
    ]);
  });

  it.each([
    ['absent', /no engine/, /install-packages\.sh docker\.io/],
    ['closed', /may not use/, /usermod -aG docker/],
    ['silent', /nobody answers/, /systemctl start docker/],
  ] as const)('tells the next step where it is %s, and that nothing depends on it', (state, detail, hint) => {
    const [found, ...others] = engineFindings({ state, socket });
    expect(found).toMatchObject({ state: 'optional', detail: expect.stringMatching(detail) });
    expect(found!.hint).toMatch(hint);
    expect(others).toEqual([]);
  });

  it('refuses what is older than 20.10, warns of vfs, and tells how to make images', () => {
    expect(engineFindings({ ...ready, apiVersion: '1.9' })[0]).toMatchObject({
      state: 'optional',
      detail: expect.stringMatching(/too old/),
    });
    expect(engineFindings({ ...ready, apiVersion: '1.40' })[0]!.detail).toMatch(/too old/);
    expect(engineFindings({ ...ready, apiVersion: '1.41' })[0]!.state).toBe('ok');
    expect(engineFindings({ ...ready, storageDriver: 'vfs' })[0]!.hint).toMatch(/ext4/);
    expect(engineFindings({ ...ready, images: [] })[1]).toMatchObject({ state: 'optional' });
    expect(engineFindings({ ...ready, images: [] })[1]!.hint).toMatch(/build-images\.sh/);
  });

  it('knows whether containers could have the GPUs', () => {
    expect(gpuFinding([], ready).detail).toBe('none found');
    expect(gpuFinding(['nvidia0'], { ...ready, nvidia: true })).toMatchObject({ state: 'ok', detail: 'found nvidia0' });
    expect(gpuFinding(['nvidia0'], ready)).toMatchObject({ state: 'optional' });
    expect(gpuFinding(['nvidia0'], ready).hint).toMatch(/nvidia-container-toolkit/);
    expect(gpuFinding(['nvidia0'], { ...ready, product: 'Podman' })).toMatchObject({
      ...{
        state: 'optional',
        detail: expect.stringContaining('Podman hands none'),
        hint: expect.stringContaining('Docker'),
      },
    });
    expect(gpuFinding(['kfd'], ready).state).toBe('ok');
    expect(gpuFinding(['nvidia0'], { state: 'absent', socket }).detail).toMatch(/sandboxed processes only/);
  });
});
