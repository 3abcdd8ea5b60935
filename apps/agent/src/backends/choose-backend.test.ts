import { describe, expect, it } from 'vitest';
import { backendByItself } from './choose-backend.ts';
import type { EngineReport, ReadyEngine } from './engine-report.ts';

const none: EngineReport = { state: 'absent', socket: '/nonexistent/engine.sock' };
const engine = (other: Partial<ReadyEngine> = {}): ReadyEngine => ({
  ...{ state: 'ready', socket: '/run/engine.sock', product: 'Docker', version: '24.0.7', apiVersion: '1.43' },
  ...{ cgroupVersion: '2', storageDriver: 'overlay2', swarm: false, rootless: false, nvidia: false },
  images: ['backend.ai/python:3.11'],
  ...other,
});

describe('the backend of an agent that was told nothing', () => {
  it('is the engine when it has an image for kernels', () => {
    expect(backendByItself(new Set(), engine())).toBe('docker');
  });

  it('is processes when no engine answers, it is too old, or it has no such image', () => {
    expect(backendByItself(new Set(), none)).toBe('process');
    expect(backendByItself(new Set(), { state: 'closed', socket: '/run/engine.sock' })).toBe('process');
    expect(backendByItself(new Set(), engine({ apiVersion: '1.40' }))).toBe('process');
    expect(backendByItself(new Set(), engine({ images: [] }))).toBe('process');
  });

  it('stays what it was while kernels are there', () => {
    expect(backendByItself(new Set(['process']), engine())).toBe('process');
    expect(backendByItself(new Set(['docker']), engine({ images: [] }))).toBe('docker');
  });
});
