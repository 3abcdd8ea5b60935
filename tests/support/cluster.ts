import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listeningSockets } from '@backend.ai/runtime';
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

  /** What everything of this cluster bears in a container engine. */
  get engineLabel(): string {
    const { installationId } = JSON.parse(readFileSync(join(this.dataDir, 'agent/agent.json'), 'utf8')) as {
      installationId: string;
    };
    return `ai.backend.installation=${installationId}`;
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
    return this.#run(launcher, args, options);
  }

  /** The same at a terminal: what it shows there is in `stdout`. */
  onTerminal(args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    const quoted = [launcher, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    return this.#run(
      'script',
      ['--quiet', '--return', '--command', `stty cols 120; exec ${quoted}`, '/dev/null'],
      options,
    );
  }

  #run(file: string, args: readonly string[], options: CommandOptions): Promise<CommandResult> {
    return runCommand(file, args, {
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

  /** Ctrl-C. */
  async interrupt(): Promise<void> {
    process.kill(this.pid, 'SIGINT');
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
    if (Object.values(left).flat().length > 0) throw new Error(`left behind: ${JSON.stringify(left)}`);
  }

  /**
   * What is on the machine of this cluster's kernels: processes that run from its data directory, have the environment of
   * its sessions or are in its control groups (children of programs, too), ports on which those listen, and kernel folders.
   */
  remains(): { processes: string[]; ports: number[]; scratch: string[] } {
    const { dataDir } = this;
    const agent = readJson<{ installationId: string }>(join(dataDir, 'agent', 'agent.json'));
    const owner = readJson<Credentials>(join(dataDir, 'credentials.json'));
    const marks: ReadonlyArray<readonly [file: string, mark: string]> = [
      ['cmdline', `${dataDir}/agent`],
      ...(owner ? [['environ', `BACKENDAI_ACCESS_KEY=${owner.accessKey}\0`] as const] : []),
      ...(agent ? [['cgroup', `backendai-${agent.installationId}`] as const] : []),
    ];
    const processes = readdirSync('/proc').filter((name) => {
      const isOther = /^\d+$/.test(name) && Number(name) !== process.pid && Number(name) !== this.pid;
      return (
        isOther &&
        marks.some(([file, mark]) => readText(`/proc/${name}/${file}`).includes(mark)) &&
        isAlive(Number(name))
      );
    });
    const scratch = join(dataDir, 'agent', 'scratch');
    return { processes, ports: listeningPorts(processes), scratch: existsSync(scratch) ? readdirSync(scratch) : [] };
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

/** Empty for what is gone or not ours to read. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function readJson<T>(path: string): T | undefined {
  const text = readText(path);
  return text === '' ? undefined : (JSON.parse(text) as T);
}

/** TCP ports of this machine on which one of the processes listens. */
function listeningPorts(pids: readonly string[]): number[] {
  const sockets = listeningSockets();
  return pids.flatMap((pid) => {
    try {
      const descriptors = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
      return descriptors.flatMap((socket) => sockets.get(socket) ?? []);
    } catch {
      return [];
    }
  });
}
