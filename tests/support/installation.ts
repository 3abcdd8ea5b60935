import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Client, createClient } from '@backend.ai/client';
import { waitFor } from '@backend.ai/testing';
import { freePort, startEtcd, startPostgres, startRedis } from '../../scripts/dev-servers/index.ts';
import { type CommandOptions, type CommandResult, launcher, repository, runCommand } from './command.ts';
import { Service } from './service.ts';

type DevServer = Awaited<ReturnType<typeof startEtcd>>;

interface Ports {
  readonly api: number;
  readonly rpc: number;
}

type Settings = Readonly<Record<string, string | number>>;

/** Short enough that tests of what happens after them do not wait long, and longer than a busy machine holds a manager up. */
const leaderTtlMs = 5_000;

/**
 * Two managers and two agents as processes of their own on PostgreSQL, Redis and etcd, made as README says: by
 * `scripts/run-dev.sh` and `start-server`. Everything lies in one temporary directory, on free ports.
 */
export class TestInstallation {
  readonly directory: string = mkdtempSync(join(tmpdir(), 'backendai-'));
  /** Secrets that must appear nowhere. */
  readonly secrets: string[] = [];
  readonly managers: Service[] = [];
  readonly agents: Service[] = [];
  readonly #sources: string;
  #ports!: readonly [Ports, Ports];
  #serverPorts!: { postgres: number; redis: number; etcd: number };
  #credentials!: { accessKey: string; secretKey: string };
  postgres!: DevServer;
  redis!: DevServer;
  etcd!: DevServer;

  /** With both managers and both agents. */
  static async start(): Promise<TestInstallation> {
    const installation = await TestInstallation.prepare();
    try {
      await Promise.all([installation.addManager(), installation.addManager()]);
      await Promise.all([installation.addAgent(), installation.addAgent()]);
      return installation;
    } catch (error) {
      await installation.stop();
      throw error;
    }
  }

  /** Servers, databases and configurations only, made by the sources in this folder. */
  static async prepare(sources: string = repository): Promise<TestInstallation> {
    const installation = new TestInstallation(sources);
    try {
      await installation.#prepare();
      return installation;
    } catch (error) {
      await installation.stop();
      throw error;
    }
  }

  private constructor(sources: string) {
    this.#sources = sources;
  }

  get configs(): string {
    return join(this.directory, 'configs');
  }

  /** `./scripts/run-dev.sh` of this installation. */
  async runDev(...args: string[]): Promise<CommandResult> {
    const { postgres, redis, etcd } = this.#serverPorts;
    return await runCommand(join(this.#sources, 'scripts', 'run-dev.sh'), [
      ...args,
      ...['--directory', this.directory, '--configs', this.configs],
      ...['--postgres-port', String(postgres), '--redis-port', String(redis), '--etcd-port', String(etcd)],
    ]);
  }

  async #prepare(): Promise<void> {
    this.#serverPorts = { postgres: await freePort(), redis: await freePort(), etcd: await freePort() };
    const ports = async (): Promise<Ports> => ({ api: await freePort(), rpc: await freePort() });
    this.#ports = [await ports(), await ports()];
    const made = await this.runDev();
    if (made.code !== 0) throw new Error(`run-dev.sh failed (${made.code}): ${made.stdout}${made.stderr}`);
    const [, accessKey = '', secretKey = ''] =
      /superadmin .*\n\s*BACKEND_ACCESS_KEY=(\S+)\n\s*BACKEND_SECRET_KEY=(\S+)/.exec(made.stdout) ?? [];
    this.#credentials = { accessKey, secretKey };
    const secret = (name: string): string => readFileSync(join(this.directory, 'secrets', name), 'utf8');
    this.secrets.push(secretKey, secret('postgres'), secret('redis'), secret('agent-join-token'));
    const { postgres, redis, etcd } = this.#serverPorts;
    const [survives, at] = [true, (name: string): string => join(this.directory, name)];
    // They run already: these are handles on them.
    [this.postgres, this.redis, this.etcd] = await Promise.all([
      startPostgres({ directory: at('postgres'), port: postgres, password: secret('postgres-superuser'), survives }),
      startRedis({ directory: at('redis'), port: redis, password: secret('redis'), survives }),
      startEtcd({ directory: at('etcd'), port: etcd, survives }),
    ]);
  }

  /** Starts the next manager, of another build when its launcher is named. */
  async addManager({ launcher, more = {} }: { launcher?: string; more?: Settings } = {}): Promise<Service> {
    const number = this.managers.length + 1;
    const args = ['mgr', 'start-server', ...this.#managerSettings(number), ...settings(more)];
    const manager = this.#service(args, launcher);
    this.managers.push(manager);
    await manager.start();
    return manager;
  }

  /** Starts the next agent, of another build when its launcher is named, and waits until a manager knows it. */
  async addAgent(launcher?: string): Promise<Service> {
    const number = this.agents.length + 1;
    const token = number === 1 ? undefined : await this.#newToken();
    const agent = this.#service(['ag', 'start-server', ...this.#agentSettings(number, token)], launcher);
    this.agents.push(agent);
    await agent.start();
    await waitFor(() => agent.log.includes('registered with a manager'), {
      what: `agent ${number} is registered`,
    });
    return agent;
  }

  #service(args: readonly string[], launcher: string | undefined): Service {
    return new Service(args, { cwd: this.directory, ...(launcher === undefined ? {} : { launcher }) });
  }

  #managerSettings(number: number): string[] {
    const { api, rpc } = this.#ports[number - 1] as Ports;
    return settings({
      'manager.id': `m-${number}`,
      'http.port': api,
      'rpc.port': rpc,
      'metrics.port': 0,
      'scheduler.leader-ttl-ms': leaderTtlMs,
      'scheduler.heartbeat-ms': 1_000,
      'scheduler.agent-lost-after-ms': 10_000,
      ...(number === 1
        ? {}
        : {
            'manager.data-dir': join(this.directory, `manager-${number}`),
            'keys.installation-key-file': join(this.directory, 'manager', 'keys', 'installation.key'),
          }),
    });
  }

  #agentSettings(number: number, token: string | undefined): string[] {
    return settings({
      'agent.id': `i-${number}`,
      'agent.backend': 'process',
      'manager.addresses': this.#ports.map(({ rpc }) => `ws://127.0.0.1:${rpc}`).join(','),
      'rpc.port': 0,
      'data-port.port': 0,
      'metrics.port': 0,
      'resources.slots': 'cpu=4,mem=4g',
      ...(token === undefined
        ? {}
        : { 'agent.data-dir': join(this.directory, `agent-${number}`), 'manager.join-token-file': token }),
    });
  }

  /** @returns the file that it lies in */
  async #newToken(): Promise<string> {
    const { token } = await this.json<{ token: string }>(['mgr', 'peers', 'token', 'agent']);
    this.secrets.push(token);
    const file = join(this.directory, 'secrets', 'second-join-token');
    writeFileSync(file, token, { mode: 0o600 });
    return file;
  }

  /** The SDK, talking to one of the managers. */
  client(manager: 1 | 2): Client {
    const { api } = this.#ports[manager - 1] as Ports;
    return this.clientAt(`http://127.0.0.1:${api}`);
  }

  /** With the credentials of this installation at any endpoint. */
  clientAt(endpoint: string): Client {
    return createClient({ endpoint, ...this.#credentials });
  }

  /** In the directory that holds `configs/`, as an operator would. */
  cli(args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    const env = { BACKEND_SKIP_BUILD: '1', BACKEND_DATA_DIR: '', XDG_DATA_HOME: join(this.directory, 'nowhere') };
    return runCommand(launcher, args, { cwd: this.directory, ...options, env: { ...env, ...options.env } });
  }

  async json<T>(args: readonly string[]): Promise<T> {
    const { code, stdout, stderr } = await this.cli([...args, '--json']);
    if (code !== 0) throw new Error(`${args.join(' ')} failed (${code}): ${stderr}${stdout}`);
    return JSON.parse(stdout) as T;
  }

  managerStatus(number: 1 | 2): Promise<{ epoch: number | null; connectedAgents: string[] }> {
    return this.json(['mgr', 'status', ...this.#managerSettings(number)]);
  }

  agentStatus(number: 1 | 2): Promise<{ kernels: Array<{ kernelId: string; state: string }>; registration: string }> {
    const place = number === 1 ? [] : settings({ 'agent.data-dir': join(this.directory, `agent-${number}`) });
    return this.json(['ag', 'status', ...place]);
  }

  flushRedis(): void {
    const { port, password } = new URL(this.redis.url);
    const env = { ...process.env, REDISCLI_AUTH: decodeURIComponent(password) };
    const answer = execFileSync('redis-cli', ['-p', port, 'FLUSHALL'], { env, encoding: 'utf8' });
    if (answer.trim() !== 'OK') throw new Error(`FLUSHALL: ${answer}`);
  }

  /** Which of the managers leads, by its number. */
  async leader(): Promise<1 | 2 | undefined> {
    for (const number of [1, 2] as const) {
      if (this.managers[number - 1]?.pid === 0) continue;
      if ((await this.managerStatus(number).catch(() => null))?.epoch) return number;
    }
    return undefined;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.agents, ...this.managers].map((service) => service.end('SIGTERM')));
    if (this.#serverPorts) await this.runDev('stop');
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function settings(values: Settings): string[] {
  return Object.entries(values).flatMap(([key, value]) => ['--set', `${key}=${value}`]);
}
