import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from '@backend.ai/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { missingPackages } from '../scripts/dev-servers/index.ts';
import { type CommandResult, repository, runCommand } from './support/command.ts';

/** As the reference of commands has them, to be copied into a terminal each. */
const blocks = {
  infrastructure: './scripts/run-dev.sh  # Starts PostgreSQL, Redis, etcd',
  manager: '# Terminal 2: Manager\n./backend.ai mgr start-server',
  agent: '# Terminal 3: Agent\n./backend.ai ag start-server',
  health: `for component in mgr ag storage web; do
  echo "=== $component ==="
  ./backend.ai $component health
done`,
};

const canMakeNetworks = spawnSync('unshare', ['--net', 'ip', 'link', 'set', 'lo', 'up']).status === 0;

/**
 * In a network of its own (root only), where the usual ports are free whoever works on this machine, and in a folder
 * with all of the repository but its configurations.
 */
describe.skipIf(!canMakeNetworks || missingPackages().length > 0)('the start-up blocks, as they stand', () => {
  const terminals: ChildProcess[] = [];
  let folder: string;
  let network: ChildProcess;
  const env = { ...process.env, BACKEND_SKIP_BUILD: '1', BACKEND_AGENT_AGENT_BACKEND: 'process', NO_COLOR: '1' };
  const inside = (): string[] => [`--net=/proc/${network.pid}/ns/net`];
  const run = (block: string): Promise<CommandResult> =>
    runCommand('nsenter', [...inside(), 'bash', '-c', block], { cwd: folder, env });
  /** Runs until Ctrl-C. */
  const openTerminal = async (block: string): Promise<() => Promise<number | null>> => {
    const terminal = spawn('nsenter', [...inside(), 'bash', '-c', block], { cwd: folder, env, detached: true });
    terminals.push(terminal);
    let shown = '';
    for (const stream of [terminal.stdout, terminal.stderr]) stream.on('data', (text: Buffer) => (shown += text));
    const ended = once(terminal, 'close') as Promise<[number | null]>;
    await waitFor(() => shown.includes('Ready. Ctrl-C ends it.') || terminal.exitCode !== null);
    expect(terminal.exitCode, shown).toBeNull();
    return async () => {
      process.kill(-terminal.pid!, 'SIGINT');
      return (await ended)[0];
    };
  };
  /** Processes in the network, but the one that keeps it. */
  const others = (): string[] => {
    const namespaceOf = (pid: string | number): string => {
      try {
        return readlinkSync(`/proc/${pid}/ns/net`);
      } catch {
        return '';
      }
    };
    const wanted = namespaceOf(network.pid!);
    const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
    return pids.filter((pid) => namespaceOf(pid) === wanted && pid !== String(network.pid));
  };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'start-up-'));
    const own = new Set(['.git', '.dev', 'configs']);
    for (const name of readdirSync(repository)) {
      if (!own.has(name)) symlinkSync(join(repository, name), join(folder, name));
    }
    mkdirSync(join(folder, 'configs'));
    // `cat` ends with this process at the latest.
    network = spawn('unshare', ['--net', 'bash', '-c', 'ip link set lo up && echo up && exec cat'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await once(network.stdout!, 'data');
  });
  afterAll(async () => {
    for (const { pid } of terminals) {
      try {
        process.kill(-pid!, 'SIGKILL');
      } catch {
        // It has ended.
      }
    }
    await run('./scripts/run-dev.sh stop');
    network.kill();
    rmSync(folder, { recursive: true, force: true });
  });

  it('start the servers, a manager and an agent; the loop says how each component is; a reset leaves no process', async () => {
    const { code, stdout, stderr } = await run(blocks.infrastructure);
    expect([code, stderr]).toEqual([0, '']);
    for (const port of [5432, 6379, 2379]) expect(stdout).toContain(` on 127.0.0.1:${port}, process `);
    expect(stdout).toMatch(/\n {2}\.\/backend\.ai mgr start-server\n {2}\.\/backend\.ai ag start-server\n$/);
    const endManager = await openTerminal(blocks.manager);
    const endAgent = await openTerminal(blocks.agent);

    const healthy =
      /=== mgr ===\n[\s\S]*All 5 work\.\n=== ag ===\n[\s\S]*registered at [\s\S]*work\.\n=== storage ===\n=== web ===\n$/;
    const health = await waitFor(async () => {
      const answer = await run(blocks.health);
      expect(answer.stdout).toMatch(healthy);
      return answer;
    });
    expect(health.code).toBe(1);
    expect(health.stderr.match(/^Error: .* not part of this version/gm)).toHaveLength(2);

    const keys = /superadmin .*\n\s*(BACKEND_ACCESS_KEY=\S+)\n\s*(BACKEND_SECRET_KEY=\S+)/.exec(stdout)!.slice(1, 3);
    const backend = `BACKEND_ENDPOINT=http://127.0.0.1:8091 ${keys.join(' ')} ./backend.ai`;
    const created = await run(`${backend} session create --name kept python`);
    expect(created.code, created.stderr).toBe(0);
    expect(await endAgent()).toBe(0);
    expect(await endManager()).toBe(0);

    // The session runs on without its agent, and would without its files.
    const reset = await run('./scripts/run-dev.sh reset');
    expect([reset.code, reset.stderr]).toEqual([0, '']);
    expect(reset.stdout).toContain('Ended kernels that the agent had left running: 1\n');
    expect(others()).toEqual([]);
  });
});
