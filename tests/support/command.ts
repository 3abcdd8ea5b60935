import { type ChildProcess, spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const repository: string = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
export const launcher: string = join(repository, 'backend.ai');

export interface CommandResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly env?: Record<string, string | undefined>;
  readonly input?: string;
  readonly cwd?: string;
  /** Killed after this long, in milliseconds. */
  readonly timeoutMs?: number;
  /** Sees the process while it runs. */
  readonly onStart?: (child: ChildProcess) => void;
}

/** Runs a program to its end, as a user would. */
export function runCommand(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      cwd: options.cwd ?? repository,
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 120_000);
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout: String(Buffer.concat(stdout)), stderr: String(Buffer.concat(stderr)) });
    });
    child.stdin.on('error', () => {});
    child.stdin.end(options.input ?? '');
    options.onStart?.(child);
  });
}
