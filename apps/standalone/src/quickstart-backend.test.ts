import type { ReadyEngine } from '@backend.ai/agent';
import { describe, expect, it } from 'vitest';
import { quickstartBackend } from './quickstart-backend.ts';

const socket = '/run/engine.sock';
const ready: ReadyEngine = {
  ...{ state: 'ready', socket, product: 'Docker', version: '24.0.7', apiVersion: '1.43', cgroupVersion: '2' },
  ...{ storageDriver: 'overlay2', swarm: false, rootless: false, nvidia: false, images: ['backend.ai/python:3.11'] },
};
const bare = { ...ready, images: [] };

describe('the backend of quickstart', () => {
  it('is what was asked for', () => {
    expect(quickstartBackend('process', ready)).toEqual({ line: 'Kernels are sandboxed processes', needsImage: false });
    expect(quickstartBackend('docker', ready)).toEqual({
      line: 'Kernels are containers of Docker 24.0.7',
      needsImage: false,
    });
  });

  it('is by itself containers only if nothing has to be built for them, and says why not', () => {
    expect(quickstartBackend('auto', ready).line).toBe('Kernels are containers of Docker 24.0.7');
    expect(quickstartBackend('auto', bare)).toEqual({
      line: expect.stringMatching(/processes: Docker has no image .* quickstart --backend docker$/),
      needsImage: false,
    });
    expect(quickstartBackend('auto', { state: 'absent', socket }).line).toBe(
      'Kernels are sandboxed processes: no engine at /run/engine.sock',
    );
    expect(quickstartBackend('auto', { state: 'closed', socket }).line).toMatch(/processes: this user may not use/);
    expect(quickstartBackend('auto', { ...ready, apiVersion: '1.40' }).line).toMatch(/processes: .* is too old/);
  });

  it('builds an image where containers are demanded, and refuses where there is no engine', () => {
    expect(quickstartBackend('docker', bare).needsImage).toBe(true);
    expect(() => quickstartBackend('docker', { state: 'silent', socket })).toThrow(
      'Kernels cannot be containers here: nobody answers at /run/engine.sock.',
    );
  });
});
