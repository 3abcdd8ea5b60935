import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { lockDirectory } from './directory-lock.ts';

describe('lockDirectory', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bai-lock-'));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  it('refuses a second owner, naming the first, until it is released', async () => {
    const first = await lockDirectory(directory);
    await expect(lockDirectory(directory)).rejects.toMatchObject({
      code: 'data-directory-locked',
      data: { pid: process.pid },
    });
    await first.release();
    await first.release();
    await (await lockDirectory(directory)).release();
  });

  it('names the process that owns it, and is free again when that one was killed', async () => {
    const module = new URL('./directory-lock.ts', import.meta.url).pathname;
    const script = `import(${JSON.stringify(module)}).then(async (m) => {
      await m.lockDirectory(${JSON.stringify(directory)});
      console.log('locked');
      setInterval(() => {}, 1000);
    });`;
    const owner = spawn(process.execPath, ['--import', 'tsx', '--conditions=@backend.ai/source', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(owner.stdout, 'data');
    await expect(lockDirectory(directory)).rejects.toMatchObject({ data: { pid: owner.pid } });
    owner.kill('SIGKILL');
    await once(owner, 'exit');
    expect(await readFile(join(directory, 'lock.pid'), 'utf8')).toContain(String(owner.pid));
    await (await lockDirectory(directory)).release();
  });

  it('takes no notice of a pid that now belongs to another process', async () => {
    await writeFile(join(directory, 'lock.pid'), JSON.stringify({ pid: process.ppid, startedAt: '1' }));
    await (await lockDirectory(directory)).release();
  });

  it('does not mind who binds names in the network namespace, which sessions share', async () => {
    const name = createHash('sha256').update(directory).digest('hex').slice(0, 32);
    const stranger = createServer().listen(`\0backend.ai-lock-${name}`);
    await once(stranger, 'listening');
    onTestFinished(() => void stranger.close());
    await (await lockDirectory(directory)).release();
  });

  it('keeps its files beside a directory whose content is somebody else’s', async () => {
    const inner = join(directory, 'database');
    const lock = await lockDirectory(inner, { beside: true });
    await expect(lockDirectory(inner, { beside: true })).rejects.toMatchObject({ code: 'data-directory-locked' });
    await lock.release();
    expect(await readdir(inner)).toEqual([]);
  });

  it('believes the pid file of a process that lives even if nobody listens', async () => {
    const stat = await readFile(`/proc/${process.ppid}/stat`, 'utf8');
    const startedAt = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    await writeFile(join(directory, 'lock.pid'), JSON.stringify({ pid: process.ppid, startedAt }));
    await expect(lockDirectory(directory)).rejects.toMatchObject({ data: { pid: process.ppid } });
  });

  it('takes over a pid file that was cut short', async () => {
    await writeFile(join(directory, 'lock.pid'), '{"pid":');
    await (await lockDirectory(directory)).release();
  });
});
