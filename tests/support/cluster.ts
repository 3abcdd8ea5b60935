import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from '@backend.ai/testing';
import { type CommandOptions, type CommandResult, launcher, runCommand } from './command.ts';

export interface Credentials {
  readonly endpoint: string;
  readonly accessKey: string;
  readonly secretKey: string;
}

/** A cluster of its own process and data directory, driven through the command line only. */
export class TestCluster {
  readonly dataDir: string;
  pid = 0;

  private constructor(dataDir: string) {
    this.dataDir = dataDir;
  }

  static async start(args: readonly string[] = []): Promise<TestCluster> {
    const cluster = new TestCluster(mkdtempSync(join(tmpdir(), 'backendai-')));
    await cluster.up(args);
    return cluster;
  }

  /** Not started yet. */
  static in(dataDir: string): TestCluster {
    return new TestCluster(dataDir);
  }

  get credentials(): Credentials {
    return JSON.parse(readFileSync(join(this.dataDir, 'credentials.json'), 'utf8')) as Credentials;
  }

  /** Port 0 unless given: test clusters never meet. Sandboxed processes unless said otherwise, whatever else is here. */
  async up(args: readonly string[] = []): Promise<CommandResult> {
    const port = args.includes('--port') ? [] : ['--port', '0'];
    const backend = args.includes('--backend') ? [] : ['--backend', 'process'];
    const result = await this.cli(['up', '--detach', '--json', ...port, ...backend, ...args]);
    if (result.code !== 0) throw new Error(`up failed (${result.code}): ${result.stderr}${result.stdout}`);
    this.pid = (JSON.parse(result.stdout) as { pid: number }).pid;
    return result;
  }

  /** As a user of this cluster: its data directory is found by the environment. */
  cli(args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return runCommand(launcher, args, {
      ...options,
      env: {
        BACKEND_DATA_DIR: this.dataDir,
        XDG_CONFIG_HOME: join(this.dataDir, 'test-config'),
        BACKEND_ENDPOINT: undefined,
        BACKEND_ACCESS_KEY: undefined,
        BACKEND_SECRET_KEY: undefined,
        BACKEND_SKIP_BUILD: '1',
        ...options.env,
      },
    });
  }

  /** The one JSON document of a command that must succeed. */
  async json<T>(args: readonly string[], options: CommandOptions = {}): Promise<T> {
    const result = await this.cli([...args, '--json'], options);
    if (result.code !== 0)
      throw new Error(`${args.join(' ')} failed (${result.code}): ${result.stderr}${result.stdout}`);
    return JSON.parse(result.stdout) as T;
  }

  /** As a power cut would end it, as far as processes go. */
  async kill(): Promise<void> {
    process.kill(this.pid, 'SIGKILL');
    await waitFor(() => !isAlive(this.pid));
  }

  /**
   * Asserts that the books are right, ends the cluster with its sessions, asserts that nothing stays, and removes the
   * data directory.
   */
  async stop(): Promise<void> {
    const verified = isAlive(this.pid) ? await this.cli(['mgr', 'verify', '--json']) : undefined;
    const result = await this.cli(['down']);
    if (isAlive(this.pid)) process.kill(this.pid, 'SIGKILL');
    const left = this.remains();
    rmSync(this.dataDir, { recursive: true, force: true });
    if (verified && verified.code !== 0) throw new Error(`verify: ${verified.stdout}${verified.stderr}`);
    if (result.code !== 0) throw new Error(`down failed (${result.code}): ${result.stderr}`);
    if (left.processes.length + left.scratch.length > 0) throw new Error(`left behind: ${JSON.stringify(left)}`);
  }

  /** Processes whose command line, environment or open sockets name this cluster's data directory, and kernel folders. */
  remains(): { processes: string[]; scratch: string[] } {
    const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
    const named = processes.filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`${this.dataDir}/agent`);
      } catch {
        return false;
      }
    });
    const scratch = join(this.dataDir, 'agent', 'scratch');
    return { processes: named, scratch: existsSync(scratch) ? readdirSync(scratch) : [] };
  }

  /** Every log record of the cluster process so far. */
  logs(): Array<Record<string, unknown>> {
    const file = join(this.dataDir, 'logs', 'cluster.log');
    if (!existsSync(file)) return [];
    // What follows the last line end is still being written.
    const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  }
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // A zombie answers too; it has ended.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
