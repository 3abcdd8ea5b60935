import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, it, onTestFinished } from 'vitest';
import { proportionalBytes, residentBytes } from './processes.ts';

const mebibyte = 1024 ** 2;

/** A process and its child, which share 64 MiB that both have touched, and each hold 16 MiB of their own. */
async function sharers(): Promise<readonly number[]> {
  const code = `
import mmap, os, sys, time
shared = mmap.mmap(-1, 64 << 20)
touched, done = os.pipe()
child = os.fork()
own = b'x' * (16 << 20)
for _ in range(64): shared.write(b'x' * (1 << 20))
if child:
    os.write(done, b'x')
    os.read(0, 1)
    os.kill(child, 9)
else:
    os.read(touched, 1)
    print(f'{os.getppid()} {os.getpid()}', flush=True)
    time.sleep(600)`;
  const child = spawn('python3', ['-c', code], { stdio: ['pipe', 'pipe', 'inherit'] });
  onTestFinished(() => void child.stdin.end());
  const [pids] = await once(child.stdout, 'data');
  return String(pids).trim().split(' ').map(Number);
}

it('memory that processes share is seen, and counted once where it counts', async () => {
  const pids = await sharers();
  for (const pid of pids) expect(residentBytes([pid])).toBeGreaterThan(75 * mebibyte);
  expect(proportionalBytes(pids)).toBeGreaterThan(90 * mebibyte);
  expect(proportionalBytes(pids)).toBeLessThan(130 * mebibyte);
});

it('processes that are gone hold nothing', () => {
  expect(residentBytes([2 ** 30])).toBe(0);
  expect(proportionalBytes([2 ** 30])).toBe(0);
});
