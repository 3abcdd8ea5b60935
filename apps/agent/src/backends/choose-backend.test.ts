import { createServer } from 'node:http';
import { join } from 'node:path';
import { makeTempDirectory } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { backendByItself, findEngine } from './choose-backend.ts';

describe('the backend of an agent that was told nothing', () => {
  it('is the engine when it has an image for kernels', () => {
    expect(backendByItself(new Set(), { images: 1 })).toBe('docker');
  });

  it('is processes when no engine answers, or it has no such image', () => {
    expect(backendByItself(new Set(), null)).toBe('process');
    expect(backendByItself(new Set(), { images: 0 })).toBe('process');
  });

  it('stays what it was while kernels are there', () => {
    expect(backendByItself(new Set(['process']), { images: 1 })).toBe('process');
    expect(backendByItself(new Set(['docker']), { images: 0 })).toBe('docker');
  });
});

describe('looking for an engine', () => {
  async function engineThatAnswers(status: number, body: string): Promise<string> {
    const directory = await makeTempDirectory();
    const socketPath = join(directory.path, 'engine.sock');
    const server = createServer((_, response) => response.writeHead(status).end(body));
    await new Promise<void>((resolve) => server.listen(socketPath, resolve));
    onTestFinished(async () => {
      await new Promise((resolve) => server.close(resolve));
      await directory.remove();
    });
    return socketPath;
  }

  it('counts its images', async () => {
    expect(await findEngine(await engineThatAnswers(200, '[{}, {}]'))).toEqual({ images: 2 });
  });

  it.each([
    [403, '{"message": "no"}'],
    [200, 'not JSON'],
    [200, '{}'],
  ])('takes an answer %s %s for none', async (status, body) => {
    expect(await findEngine(await engineThatAnswers(status, body))).toBeNull();
  });

  it('finds none where nothing listens', async () => {
    expect(await findEngine('/nonexistent/engine.sock')).toBeNull();
  });
});
