import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { type RequestOptions, request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { engineSocket, makeTempDirectory } from '@backend.ai/testing';
import { isListed, signalAll } from './processes.ts';
import { programPath } from './programs.ts';

/** Whether this user can start a container engine here. */
export function canStartEngine(): boolean {
  return process.getuid?.() === 0 && programPath('dockerd') !== undefined;
}

const answerDeadlineMs = 90_000;
/** An engine gives its containers 10 s to end. */
const stopDeadlineMs = 60_000;
const pollMs = 50;

/**
 * A container engine that a test may stop, kill and start again, beside that of the machine: folders, socket and control
 * groups of its own, and no rules in the machine's firewall.
 */
export class DevEngine {
  readonly socket: string;
  readonly #folder: string;
  readonly #cgroup: string;
  readonly #keeperSocket: string;
  #engine: ChildProcess | undefined;
  #keeper: ChildProcess | undefined;
  #ownBridge: string | undefined;

  /** @param folder Taken over whole; its path has to be short */
  constructor(folder: string) {
    mkdirSync(folder, { recursive: true });
    this.#folder = realpathSync(folder);
    this.#cgroup = `backendai-engine-${process.pid}-${Date.now()}`;
    this.socket = join(this.#folder, 'docker.sock');
    this.#keeperSocket = join(this.#folder, 'exec/containerd/c.sock');
  }

  /** One in a temporary folder, started, with these images of the engine of this machine. */
  static async withImages(...images: readonly string[]): Promise<DevEngine> {
    const engine = new DevEngine((await makeTempDirectory()).path);
    try {
      await engine.start();
      await loadImages(engineSocket(), engine.socket, ...images);
    } catch (error) {
      await engine.remove();
      throw error;
    }
    return engine;
  }

  /** Resolves when it answers. @throws Error with the end of its log */
  async start({
    liveRestore = false,
  }: {
    /** Containers outlive it. */
    readonly liveRestore?: boolean;
  } = {}): Promise<void> {
    await this.#startKeeper();
    const folders = ['--data-root', join(this.#folder, 'data'), '--exec-root', join(this.#folder, 'exec')];
    const machine = [`--bridge=${this.#bridge()}`, '--iptables=false', '--ip-forward=false', '--userland-proxy=false'];
    const cgroups = ['--cgroup-parent', `/${this.#cgroup}`, '--exec-opt', 'native.cgroupdriver=cgroupfs'];
    const places = ['--host', `unix://${this.socket}`, '--containerd', this.#keeperSocket];
    const rest = [
      '--pidfile',
      join(this.#folder, 'pid'),
      '--log-level',
      'warn',
      ...(liveRestore ? ['--live-restore'] : []),
    ];
    this.#engine = this.#spawn('dockerd', ...places, ...folders, ...machine, ...cgroups, ...rest);
    const ping = { socketPath: this.socket, path: '/_ping' };
    await this.#until(this.#engine, () => answers(ping));
  }

  /** One of its own: an engine without any takes that of the machine's engine away. */
  #bridge(): string {
    const name = `bai${process.pid}e`;
    if (!interfaces().includes(name)) {
      execFileSync('ip', ['link', 'add', name, 'type', 'bridge']);
      execFileSync('ip', ['address', 'add', `10.218.${process.pid % 250}.1/28`, 'dev', name]);
      execFileSync('ip', ['link', 'set', name, 'up']);
      this.#ownBridge = name;
    }
    return name;
  }

  /** What keeps containers is a process of its own, which outlives the engine, as on Debian. */
  async #startKeeper(): Promise<void> {
    if (this.#keeper && !hasEnded(this.#keeper)) return;
    const folder = join(this.#folder, 'exec/containerd');
    mkdirSync(folder, { recursive: true });
    const config = join(folder, 'config.toml');
    const plugins = ['cri', 'aufs', 'btrfs', 'devmapper', 'zfs'].map((name) =>
      name === 'cri' ? '"io.containerd.grpc.v1.cri"' : `"io.containerd.snapshotter.v1.${name}"`,
    );
    writeFileSync(
      config,
      [
        ...['version = 2', `root = "${join(this.#folder, 'data/containerd')}"`, `state = "${join(folder, 'state')}"`],
        ...[`disabled_plugins = [${plugins.join(', ')}]`, '[grpc]', `address = "${this.#keeperSocket}"`, ''],
      ].join('\n'),
    );
    this.#keeper = this.#spawn('containerd', '--config', config, '--log-level', 'warn');
    await this.#until(this.#keeper, () => existsSync(this.#keeperSocket));
  }

  #spawn(program: string, ...args: string[]): ChildProcess {
    const log = openSync(join(this.#folder, 'log'), 'a');
    try {
      return spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], { cwd: '/', stdio: ['ignore', log, log] });
    } finally {
      closeSync(log);
    }
  }

  async #until(child: ChildProcess, isReady: () => boolean | Promise<boolean>): Promise<void> {
    const until = performance.now() + answerDeadlineMs;
    while (!(await isReady())) {
      if (hasEnded(child) || performance.now() > until) {
        const end = readFileSync(join(this.#folder, 'log'), 'utf8').trimEnd().split('\n').slice(-8).join('\n');
        throw new Error(`${child.spawnargs[3]} does not come up. The log ends with:\n${end}`);
      }
      await pause(pollMs);
    }
  }

  /** In order: it ends its containers, unless they outlive it. */
  stop(): Promise<void> {
    return this.#end('SIGTERM');
  }

  /** As a crash: its containers go on without it. */
  kill(): Promise<void> {
    return this.#end('SIGKILL');
  }

  /** As when the machine loses its power: no process, mount, bridge or file of a run is left; images and containers are. */
  async loseHost(): Promise<void> {
    const bridges = interfaces().filter((name) => this.#isBridge(name));
    await this.kill();
    for (;;) {
      const pids = this.#processes();
      if (pids.length === 0) break;
      signalAll(pids, 'SIGKILL');
      await pause(pollMs);
    }
    for (const bridge of [...bridges, ...(this.#ownBridge ? [this.#ownBridge] : [])]) {
      execFileSync('ip', ['link', 'delete', bridge]);
    }
    this.#ownBridge = undefined;
    const mounts = readFileSync('/proc/self/mounts', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[1] ?? '');
    for (const mount of mounts.filter((path) => path.startsWith(`${this.#folder}/`)).reverse()) {
      execFileSync('umount', ['--lazy', mount]);
    }
    for (const name of ['exec', 'docker.sock', 'pid'])
      rmSync(join(this.#folder, name), { recursive: true, force: true });
  }

  /** Leaves nothing. */
  async remove(): Promise<void> {
    await this.loseHost();
    rmSync(this.#folder, { recursive: true, force: true });
    for (const group of this.#cgroups().reverse()) rmdirSync(group);
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const engine = this.#engine;
    if (!engine || hasEnded(engine)) return;
    engine.kill(signal);
    const until = performance.now() + stopDeadlineMs;
    while (!hasEnded(engine)) {
      if (performance.now() > until) engine.kill('SIGKILL');
      await pause(pollMs);
    }
  }

  /** Of its containers, their keepers, and itself. */
  #processes(): number[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => {
        const ours = textOf(`/proc/${pid}/cgroup`).includes(`/${this.#cgroup}/`);
        return (ours || textOf(`/proc/${pid}/cmdline`).includes(`${this.#folder}/exec/`)) && isListed(pid);
      });
  }

  /** Parents first. */
  #cgroups(): string[] {
    const found = execFileSync('find', ['/sys/fs/cgroup', '-type', 'd', '-path', `*/${this.#cgroup}*`], {
      encoding: 'utf8',
    });
    return found.split('\n').filter(Boolean);
  }

  /** Bridges are named after the networks that the engine has kept files of. */
  #isBridge(name: string): boolean {
    const [, id] = /^br-([0-9a-f]{12})$/.exec(name) ?? [];
    return id !== undefined && this.#networks().includes(id);
  }

  #networks(): string {
    const database = join(this.#folder, 'data/network/files/local-kv.db');
    return textOf(database);
  }
}

function answers(ping: RequestOptions): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request({ ...ping, agent: false }, (answer) => {
      answer.resume();
      resolve(answer.statusCode === 200);
    });
    asked.on('error', () => resolve(false));
    asked.end();
  });
}

/** Of this network namespace: /sys may show those of another one. */
function interfaces(): string[] {
  return [...readFileSync('/proc/self/net/dev', 'utf8').matchAll(/^ *([^\s:]+):/gm)].map(([, name = '']) => name);
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** Empty where it cannot be read: processes come and go. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** Carries images of one engine into another. */
async function loadImages(from: string, into: string, ...names: readonly string[]): Promise<void> {
  const query = names.map((name) => `names=${encodeURIComponent(name)}`).join('&');
  await new Promise<void>((resolve, reject) => {
    const fail = (error: Error): void => reject(error);
    const saving = request({ socketPath: from, path: `/images/get?${query}`, agent: false }, (archive) => {
      const headers = { 'content-type': 'application/x-tar' };
      const target = { socketPath: into, method: 'POST', path: '/images/load?quiet=1', headers, agent: false };
      const loading = request(target, (answer) => {
        let told = '';
        answer.setEncoding('utf8').on('data', (text: string) => {
          told += text;
        });
        answer.on('end', () =>
          answer.statusCode === 200 && archive.statusCode === 200 && !told.includes('"error"')
            ? resolve()
            : reject(new Error(told)),
        );
      });
      loading.on('error', fail);
      archive.on('error', fail).pipe(loading);
    });
    saving.on('error', fail).end();
  });
}
