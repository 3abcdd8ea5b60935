import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, chown, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort } from '../../scripts/dev-servers/ports.ts';

const run = promisify(execFile);

/**
 * Slurm with one controller and one node on loopback, tuned for many short jobs: the built-in scheduler without delays
 * between its passes, no accounting, no process tracking but the kernel's. It runs as root only, which is what its daemons
 * ask for.
 */
export class Slurm {
  readonly #folder: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #stops: Array<() => Promise<unknown>>;

  private constructor(folder: string, stops: Array<() => Promise<unknown>>) {
    this.#folder = folder;
    this.#env = { ...process.env, SLURM_CONF: join(folder, 'slurm.conf') };
    this.#stops = stops;
  }

  /** The version of `sbatch`; undefined where Slurm cannot run. */
  static async version(): Promise<string | undefined> {
    if (process.getuid?.() !== 0) return undefined;
    // Any configuration at all lets it say its version.
    const folder = await mkdtemp(join(tmpdir(), 'bench-slurm-'));
    const file = join(folder, 'slurm.conf');
    await writeFile(file, 'ClusterName=none\nSlurmctldHost=localhost\n');
    try {
      const { stdout } = await run('sbatch', ['--version'], { env: { ...process.env, SLURM_CONF: file } });
      return stdout.trim();
    } catch {
      return undefined;
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  static async start(): Promise<Slurm> {
    const folder = await mkdtemp(join(tmpdir(), 'bench-slurm-'));
    const stops: Array<() => Promise<unknown>> = [() => rm(folder, { recursive: true, force: true })];
    const slurm = new Slurm(folder, stops);
    try {
      await slurm.#start();
      return slurm;
    } catch (error) {
      await slurm.stop();
      throw error;
    }
  }

  async #start(): Promise<void> {
    await chmod(this.#folder, 0o755);
    const munge = join(this.#folder, 'munge');
    await mkdir(munge, { mode: 0o711 });
    await writeFile(join(munge, 'key'), randomBytes(1024), { mode: 0o400 });
    // munged wants its files to be its own; the account of the package exists with it.
    const { uid, gid } = await accountOf('munge');
    for (const path of [munge, join(munge, 'key')]) await chown(path, uid, gid);
    const socket = join(munge, 'socket');
    this.#daemon(
      '/usr/sbin/munged',
      [
        ...['--foreground', `--key-file=${join(munge, 'key')}`, `--socket=${socket}`],
        ...['pid', 'log', 'seed'].map((kind) => `--${kind}-file=${join(munge, kind)}`),
      ],
      { uid, gid },
    );
    await waitUntil(() => exists(socket));
    for (const name of ['state', 'spool']) await mkdir(join(this.#folder, name));
    await writeFile(join(this.#folder, 'slurm.conf'), await this.#configuration(socket));
    this.#daemon('/usr/sbin/slurmctld', ['-D']);
    this.#daemon('/usr/sbin/slurmd', ['-D']);
    await waitUntil(async () => (await this.#ask('sinfo', '-h', '-o', '%T')) === 'idle');
  }

  /** Submits `jobs` jobs of `true` as one array, and waits until all have ended. Milliseconds. */
  async runJobs(jobs: number): Promise<number> {
    const begun = performance.now();
    await this.#ask('sbatch', '-o', '/dev/null', '-e', '/dev/null', `--array=0-${jobs - 1}`, '--wrap', 'true');
    await waitUntil(async () => (await this.#ask('squeue', '-h', '-t', 'PENDING,RUNNING,COMPLETING')) === '');
    return performance.now() - begun;
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.reverse()) await stop();
  }

  async #ask(program: string, ...args: string[]): Promise<string> {
    try {
      return (await run(program, args, { env: this.#env, maxBuffer: 2 ** 26 })).stdout.trim();
    } catch (error) {
      // The controller is not up yet.
      if (program === 'sinfo') return '';
      throw error;
    }
  }

  #daemon(program: string, args: string[], account: { uid?: number; gid?: number } = {}): void {
    const child = spawn(program, args, { env: this.#env, stdio: 'ignore', ...account });
    this.#stops.push(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    });
  }

  async #configuration(mungeSocket: string): Promise<string> {
    const name = hostname().split('.')[0];
    const settings: Record<string, string | number> = {
      ClusterName: 'bench',
      SlurmctldHost: `${name}(127.0.0.1)`,
      SlurmctldPort: await freePort(),
      SlurmdPort: await freePort(),
      AuthType: 'auth/munge',
      AuthInfo: `socket=${mungeSocket}`,
      CryptoType: 'crypto/munge',
      SlurmUser: 'root',
      StateSaveLocation: join(this.#folder, 'state'),
      SlurmdSpoolDir: join(this.#folder, 'spool'),
      SlurmctldPidFile: join(this.#folder, 'slurmctld.pid'),
      SlurmdPidFile: join(this.#folder, 'slurmd.pid'),
      SlurmctldLogFile: join(this.#folder, 'slurmctld.log'),
      SlurmdLogFile: join(this.#folder, 'slurmd.log'),
      ProctrackType: 'proctrack/linuxproc',
      TaskPlugin: 'task/none',
      SelectType: 'select/cons_tres',
      SelectTypeParameters: 'CR_CPU',
      SchedulerType: 'sched/builtin',
      SchedulerParameters: 'sched_min_interval=0,batch_sched_delay=0,max_sched_time=4',
      JobAcctGatherType: 'jobacct_gather/none',
      AccountingStorageType: 'accounting_storage/none',
      JobCompType: 'jobcomp/none',
      MaxJobCount: 100_000,
      MaxArraySize: 100_000,
      MinJobAge: 2,
      ReturnToService: 2,
      SlurmdParameters: 'config_overrides',
      MpiDefault: 'none',
      // Room for 200 jobs at once, as our 200 agents have plenty.
      NodeName: `${name} NodeAddr=127.0.0.1 CPUs=200 RealMemory=10000 State=UNKNOWN`,
      PartitionName: `main Nodes=${name} Default=YES MaxTime=INFINITE State=UP`,
    };
    return Object.entries(settings)
      .map(([key, value]) => `${key}=${value}\n`)
      .join('');
  }
}

async function accountOf(name: string): Promise<{ uid: number; gid: number }> {
  const [uid, gid] = await Promise.all(
    ['-u', '-g'].map(async (flag) => Number((await run('id', [flag, name])).stdout)),
  );
  return { uid: uid ?? 0, gid: gid ?? 0 };
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}

async function waitUntil(condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 600_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error('Slurm did not get there in ten minutes.');
    await delay(50);
  }
}
