import { type ChildProcess, spawn } from 'node:child_process';
import { waitFor } from '@backend.ai/testing';
import { launcher } from './command.ts';

export interface ServiceStart {
  readonly component: string;
  readonly pid: number;
  readonly addresses: Readonly<Record<string, string>>;
}

/** `./backend.ai COMPONENT start-server …` as a process of its own. */
export class Service {
  /** Of the build that the next start takes. */
  launcher: string;
  readonly #args: readonly string[];
  readonly #cwd: string;
  #child: ChildProcess | undefined;
  #stdout = '';
  #addresses: ServiceStart['addresses'] = {};
  /** Everything that it ever said on standard error. */
  log = '';

  constructor(args: readonly string[], { cwd, launcher: first = launcher }: { cwd: string; launcher?: string }) {
    this.#args = args;
    this.#cwd = cwd;
    this.launcher = first;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Resolves when it says that it is ready. */
  async start(): Promise<ServiceStart> {
    const child = spawn(this.launcher, [...this.#args, '--json'], {
      cwd: this.#cwd,
      env: { ...process.env, BACKEND_SKIP_BUILD: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    this.#stdout = '';
    child.stdout.on('data', (chunk: Buffer) => (this.#stdout += chunk));
    child.stderr.on('data', (chunk: Buffer) => (this.log += chunk));
    const started = await waitFor(
      () => {
        if (child.exitCode !== null) throw new Error(`${this.#args.join(' ')} ended (${child.exitCode}): ${this.log}`);
        if (!this.#stdout.endsWith('}\n')) return false;
        const document = JSON.parse(this.#stdout) as ServiceStart;
        // Else it is an error, and the process is about to end.
        return document.pid !== undefined && document;
      },
      { timeoutMs: 120_000, what: `${this.#args.join(' ')} is ready` },
    );
    this.#addresses = started.addresses;
    return started;
  }

  /** What it answers at `/health` of its `API` or of its internal port, `Health`, without a login. */
  async health(at: 'API' | 'Health'): Promise<{ status: number; text: string }> {
    const answer = await fetch(new URL('/health', this.#addresses[at]), { signal: AbortSignal.timeout(10_000) });
    return { status: answer.status, text: await answer.text() };
  }

  signal(signal: NodeJS.Signals): void {
    if (this.pid > 0) process.kill(this.pid, signal);
  }

  /** Exit code after SIGTERM, or null when a signal ended it. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const child = this.#child;
    if (!child) return null;
    if (child.exitCode === null && child.signalCode === null) {
      const closed = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGCONT');
      child.kill(signal);
      await closed;
    }
    this.#child = undefined;
    return child.exitCode;
  }
}
