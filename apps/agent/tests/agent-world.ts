import { randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  type Stats,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import {
  type AgentGatewayService,
  type AgentRegistration,
  type AgentRouter,
  type AgentService,
  createAgentGatewayRouter,
  createAgentRouter,
  type ExecuteInput,
  type Heartbeat,
  type Image,
  type KernelEvent,
  type KernelSpec,
  procedureMetas,
  type RunResult,
  type WarmSlotReport,
} from '@backend.ai/contract';
import { hasCode } from '@backend.ai/core';
import {
  createRpcClient,
  createRpcServer,
  generateIdentity,
  type PeerIdentity,
  pinnedKeys,
  type RpcClient,
} from '@backend.ai/rpc';
import { collectLogs, makeTempDirectory, waitFor } from '@backend.ai/testing';
import { expect, onTestFinished } from 'vitest';
import { Agent, type AgentOptions } from '../src/index.ts';
import { cgroupParents, remainsOf } from './remains.ts';

export const agentMetas = procedureMetas(createAgentRouter({} as AgentService));

/** A manager's end: remembers what agents report. */
export class FakeGateway implements AgentGatewayService {
  readonly registrations: AgentRegistration[] = [];
  readonly heartbeats: Heartbeat[] = [];
  /** The events of each call. */
  readonly reports: KernelEvent[][] = [];
  readonly events: KernelEvent[] = [];
  /** Of each report. */
  readonly images: Image[][] = [];
  ackedSeq = 0;
  /** Told to those who register. */
  heartbeatMs = 100;
  unknownKernels: string[] = [];
  /** Told with every reply when set. */
  managerKeys: string[] | undefined;
  /** Thrown instead of taking events. */
  refuseEvents: Error | undefined;

  async register(input: AgentRegistration) {
    this.registrations.push(input);
    return { heartbeatMs: this.heartbeatMs, ackedSeq: this.ackedSeq, ...this.#keys() };
  }

  async heartbeat(input: Heartbeat) {
    this.heartbeats.push(input);
    return { unknownKernels: this.unknownKernels, ...this.#keys() };
  }

  async reportEvents({ events }: { events: KernelEvent[] }) {
    if (this.refuseEvents) throw this.refuseEvents;
    this.reports.push(events);
    for (const event of events) {
      if (event.seq <= this.ackedSeq) continue;
      this.events.push(event);
      this.ackedSeq = event.seq;
    }
    return { ackedSeq: this.ackedSeq };
  }

  /** The last report of all slots. */
  warmSlots: WarmSlotReport[] = [];

  async reportWarmSlots({ slots }: { slots: WarmSlotReport[] }) {
    this.warmSlots = slots;
  }

  async reportImages({ images }: { images: Image[] }) {
    this.images.push(images);
  }

  #keys() {
    return this.managerKeys && { managerKeys: this.managerKeys };
  }

  of(kernelId: string): KernelEvent[] {
    return this.events.filter((event) => event.kernelId === kernelId);
  }

  waitForEvent<Type extends KernelEvent['type']>(kernelId: string, type: Type) {
    return waitFor(
      () => this.of(kernelId).find((event): event is Extract<KernelEvent, { type: Type }> => event.type === type),
      { what: `${type} of ${kernelId}; seen: ${JSON.stringify(this.of(kernelId))}` },
    );
  }
}

export interface AgentWorld {
  readonly gateway: FakeGateway;
  readonly dataDir: string;
  readonly identity: PeerIdentity;
  readonly manager: PeerIdentity;
  readonly logs: ReturnType<typeof collectLogs>;
  readonly managerAddress: string;
  startAgent(options?: Partial<AgentOptions>): Promise<StartedAgent>;
  /** Fails if a process, control group or folder of the kernel is left. */
  expectNoRemains(kernelId: string): Promise<void>;
}

export interface StartedAgent {
  readonly agent: Agent;
  readonly api: RpcClient<AgentRouter>['api'];
  readonly client: RpcClient<AgentRouter>;
}

export interface WorldOptions extends Partial<AgentOptions> {
  readonly epoch?: () => number;
  /** What else may be left of a kernel, or of all of them. */
  readonly remains?: (kernelId: string | null, dataDir: string) => Promise<string[]>;
}

/** A gateway, a data directory, and agents that start on it one after the other. Everything ends with the test. */
export async function agentWorld({
  epoch = () => 1,
  remains = async () => [],
  ...defaults
}: WorldOptions = {}): Promise<AgentWorld> {
  const directory = await makeTempDirectory();
  const logs = collectLogs('agent');
  const gateway = new FakeGateway();
  const identity = generateIdentity('agent', 'i-test');
  const manager = generateIdentity('manager', 'manager');
  const server = createRpcServer({
    router: createAgentGatewayRouter(gateway),
    identity: manager,
    directory: pinnedKeys('agent', [identity.publicKey]),
    allow: ['agent'],
    logger: logs.logger,
  });
  const managerAddress = server.listenInProcess(`manager-${randomUUID()}`).address;
  const started = new Set<StartedAgent>();
  onTestFinished(async () => {
    for (const { agent, client } of started) {
      await agent.endKernels('cluster-shutdown', 60_000).catch(() => {});
      await client.close();
      await agent.close();
    }
    await server.close({ graceMs: 0 });
    if (existsSync(join(directory.path, 'agent.json'))) expect(await remains(null, directory.path)).toEqual([]);
    expect(cgroupParents(directory.path)).toEqual([]);
    await directory.remove();
  }, 60_000);
  return {
    gateway,
    dataDir: directory.path,
    identity,
    manager,
    logs,
    managerAddress,
    async expectNoRemains(kernelId) {
      const found = async (): Promise<string[]> => [
        ...remainsOf(kernelId, directory.path),
        ...(await remains(kernelId, directory.path)),
      ];
      await waitFor(async () => (await found()).length === 0, {
        timeoutMs: 30_000,
        what: `nothing left of ${kernelId}: ${(await found()).join(', ')}`,
      });
    },
    async startAgent(options = {}) {
      reuseFindings(directory.path);
      const inProcessName = `agent-${randomUUID()}`;
      const agent = Agent.create({
        dataDir: directory.path,
        backend: 'process',
        managers: [managerAddress],
        managerKeys: [manager.publicKey],
        identity,
        rpc: { inProcessName },
        dataPort: { host: '127.0.0.1', port: 0 },
        slots: { cpu: '8', mem: String(8 * 1024 ** 3) },
        path: process.env.PATH ?? '',
        logger: logs.logger,
        ...defaults,
        ...options,
      } as AgentOptions);
      await agent.start();
      keepFindings(directory.path);
      const client = createRpcClient<AgentRouter>({
        address: `inproc:${inProcessName}`,
        identity: manager,
        serverKeys: [identity.publicKey],
        metas: agentMetas,
        headers: () => ({ epoch: epoch() }),
        logger: logs.logger,
      });
      const result = { agent, client, api: client.api };
      started.add(result);
      await agent.registered;
      return result;
    },
  };
}

/** What an agent finds out at its first start on a machine, for the next ones: asking interpreters takes a while. */
const findings = new Map<string, { readonly content: Buffer; readonly stat: Stats }>();

function keepFindings(dataDir: string): void {
  const names = readdirSync(dataDir).filter((name) => name === 'runtimes.json' || name.startsWith('runner-'));
  if (findings.size > 0 || names.length < 2) return;
  for (const name of names) {
    const folder = join(dataDir, name);
    const inside = statSync(folder).isDirectory() ? readdirSync(folder, { recursive: true, encoding: 'utf8' }) : [''];
    for (const file of inside.map((each) => join(name, each))) {
      const stat = statSync(join(dataDir, file));
      if (stat.isFile()) findings.set(file, { content: readFileSync(join(dataDir, file)), stat });
    }
  }
}

function reuseFindings(dataDir: string): void {
  if (existsSync(join(dataDir, 'runtimes.json'))) return;
  for (const [name, { content, stat }] of findings) {
    const path = join(dataDir, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content, { mode: stat.mode });
    // Python compares its compiled files with the times of their sources.
    utimesSync(path, stat.atime, stat.mtime);
  }
}

export function kernelSpec(overrides: Partial<KernelSpec> = {}): KernelSpec {
  return {
    kernelId: randomUUID(),
    sessionId: randomUUID(),
    sessionName: 'test',
    accessKey: 'AKTEST',
    image: 'local/python:3.11',
    clusterRole: 'main',
    clusterIndex: 1,
    hostname: 'main1',
    slots: { cpu: '1', mem: String(256 * 1024 ** 2) },
    environ: {},
    ...overrides,
  };
}

/** Changes what an agent that is away has written down of a kernel. */
export function rewriteFacts({ dataDir }: AgentWorld, kernelId: string, facts: Readonly<Record<string, string>>): void {
  const file = join(dataDir, 'scratch', kernelId, 'kernel.json');
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...facts }));
}

type Api = StartedAgent['api'];

export async function startKernel(world: AgentWorld, api: Api, overrides: Partial<KernelSpec> = {}) {
  const spec = kernelSpec(overrides);
  await api.createKernel.mutate(spec);
  const outcome = await waitFor(
    () =>
      world.gateway.of(spec.kernelId).find(({ type }) => type === 'kernel-started' || type === 'kernel-start-failed'),
    { what: 'the kernel started or failed to' },
  );
  if (outcome.type !== 'kernel-started') {
    throw new Error(JSON.stringify([outcome, world.logs.records.filter(({ level }) => level !== 'debug')]));
  }
  return { spec, kernelId: spec.kernelId, started: outcome };
}

/** Runs to the end, following with `continue`, and gives everything together. */
export async function runCode(api: Api, kernelId: string, input: string | Partial<ExecuteInput>): Promise<RunResult> {
  const first =
    typeof input === 'string' ? { mode: 'query' as const, code: input } : { mode: 'query' as const, ...input };
  let result = (await api.execute.mutate({ kernelId, flushMs: 50, ...first })) as RunResult;
  const console = [...result.console];
  while (['continued', 'clean-finished', 'build-finished'].includes(result.status)) {
    result = (await api.execute.mutate({
      kernelId,
      mode: 'continue',
      runId: result.runId,
      cursor: result.cursor,
      flushMs: 50,
    })) as RunResult;
    console.push(...result.console);
  }
  return { ...result, console };
}

export function textOf(result: RunResult, kind = 'stdout'): string {
  return result.console.flatMap(([each, data]) => (each === kind ? [String(data)] : [])).join('');
}

export async function readAll(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'no error';
  } catch (error) {
    return hasCode(error, (error as { code: never }).code) ? (error as { code: string }).code : String(error);
  }
}
