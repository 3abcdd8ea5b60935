import { engineSocket } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import { examineEngine, isSupported } from '../src/backends/engine-report.ts';

it('a real engine tells its version, storage and images for sessions', async () => {
  const report = await examineEngine(engineSocket());
  if (report.state !== 'ready') throw new Error(`The engine is ${report.state}.`);
  expect(report).toMatchObject({ cgroupVersion: expect.stringMatching(/^[12]$/), storageDriver: expect.any(String) });
  expect(report.images).toEqual(expect.arrayContaining(['backend.ai/python:3.11', 'backend.ai/shell:latest']));
  expect(isSupported(report)).toBe(true);
});
