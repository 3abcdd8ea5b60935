import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { makeTempDirectory, waitFor } from '@backend.ai/testing';
import Docker from 'dockerode';
import { docker } from './docker-world.ts';

/** One of two engines, with a network of its own and a wire to the other one. */
export interface SwarmEngine {
  readonly docker: Docker;
  readonly socket: string;
  readonly address: string;
  /** Runs a program where the engine's networks are; answers what it prints. @throws when it fails */
  inNetwork(file: string, args: readonly string[], input?: string): Promise<string>;
}

/** Null: two engines can be started here. */
export function noSwarmBecause(): string | null {
  if (process.getuid?.() !== 0) return 'only root can start engines';
  const missing = ['dockerd', 'ip', 'nsenter', 'unshare', 'setpriv', 'iptables'].filter((name) => !isInstalled(name));
  return missing.length > 0 ? `${missing.join(', ')} not installed` : null;
}

function isInstalled(name: string): boolean {
  return ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/usr/local/sbin', '/usr/local/bin'].some((folder) =>
    existsSync(join(folder, name)),
  );
}

/** Sockets of containers' keepers lie below /run whatever the folder of the engine is. */
const startScript = `
mkdir -p /run/containerd /run/docker
mount -t tmpfs containerd /run/containerd
mount -t tmpfs docker /run/docker
exec dockerd "$@"
`;

/** Two engines that are a swarm: the first manages it. `close` ends them, with all that they made. */
export async function startSwarm(
  images: readonly string[],
): Promise<{ readonly engines: readonly [SwarmEngine, SwarmEngine]; close(): Promise<void> }> {
  const directory = await makeTempDirectory();
  const own = randomBytes(4).toString('hex');
  const namespaces = [1, 2].map((n) => `bai${own}-${n}`);
  const wires = [1, 2].map((n) => `bai${own}w${n}`) as [string, string];
  const running: ChildProcess[] = [];
  const close = async (): Promise<void> => {
    for (const engine of running) {
      if (engine.exitCode !== null || engine.signalCode !== null) continue;
      const ended = once(engine, 'exit');
      engine.kill('SIGTERM');
      await ended;
    }
    for (const name of namespaces) if (existsSync(`/run/netns/${name}`)) ip('netns', 'del', name);
    await directory.remove();
  };
  try {
    for (const name of namespaces) ip('netns', 'add', name);
    const [left = '', right = ''] = namespaces;
    ip('link', 'add', wires[0], 'netns', left, 'type', 'veth', 'peer', 'name', wires[1], 'netns', right);
    const engines = await Promise.all(
      namespaces.map(async (name, nth) => {
        const address = `198.18.7.${nth + 1}`;
        ip('-n', name, 'link', 'set', 'lo', 'up');
        ip('-n', name, 'address', 'add', `${address}/24`, 'dev', wires[nth]!);
        ip('-n', name, 'link', 'set', wires[nth]!, 'up');
        const { engine, process: child } = startEngine(join(directory.path, String(nth)), name, address);
        running.push(child);
        await waitFor(() => isUp(engine, child), { what: `the engine ${nth + 1}`, timeoutMs: 90_000 });
        for (const image of images) await engine.docker.loadImage(await docker.getImage(image).get());
        return engine;
      }),
    );
    const [first, second] = engines as [SwarmEngine, SwarmEngine];
    await first.docker.swarmInit({ ListenAddr: `${first.address}:2377`, AdvertiseAddr: first.address });
    const { JoinTokens } = (await first.docker.swarmInspect()) as { JoinTokens: { Worker: string } };
    await second.docker.swarmJoin({
      ...{ ListenAddr: `${second.address}:2377`, AdvertiseAddr: second.address },
      ...{ RemoteAddrs: [`${first.address}:2377`], JoinToken: JoinTokens.Worker },
    });
    return { engines: [first, second], close };
  } catch (error) {
    await close();
    throw error;
  }
}

function startEngine(
  folder: string,
  namespace: string,
  address: string,
): { engine: SwarmEngine; process: ChildProcess } {
  mkdirSync(folder);
  const at = (name: string): string => join(folder, name);
  const socket = at('docker.sock');
  const enter = `--net=/run/netns/${namespace}`;
  const log = openSync(at('log'), 'w');
  const child = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'TERM', 'nsenter', enter, 'unshare', '--mount', 'bash', '-c', startScript, 'dockerd'],
      ...['--host', `unix://${socket}`, '--data-root', at('data'), '--exec-root', at('exec'), '--pidfile', at('pid')],
      ...['--cgroup-parent', `/${namespace}`, '--group', 'root', '--log-level', 'warn'],
    ],
    { stdio: ['ignore', log, log] },
  );
  const inNetwork = async (file: string, args: readonly string[], input?: string): Promise<string> => {
    const asked = promisify(execFile)('nsenter', [enter, file, ...args]);
    asked.child.stdin?.end(input);
    return (await asked).stdout;
  };
  return { engine: { docker: new Docker({ socketPath: socket }), socket, address, inNetwork }, process: child };
}

async function isUp({ docker: engine, socket }: SwarmEngine, child: ChildProcess): Promise<boolean> {
  if (child.exitCode !== null) {
    const log = readFileSync(join(socket, '..', 'log'), 'utf8');
    throw new Error(`The engine ended at its start: ${log.slice(-2_000)}`);
  }
  return existsSync(socket) && (await engine.ping().then(Boolean, () => false));
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] });
}
