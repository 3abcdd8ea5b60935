import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import {
  type AgentRouter,
  type AgentService,
  createAgentGatewayRouter,
  createAgentRouter,
  procedureMetas,
} from '@backend.ai/contract';
import { createRpcClient, createRpcServer, generateIdentity, pinnedKeys, type RpcClient } from '@backend.ai/rpc';
import { collectLogs, waitFor } from '@backend.ai/testing';
import { onTestFinished } from 'vitest';
import type { AgentOptions } from '../src/index.ts';
import { FakeGateway } from './agent-world.ts';

const agentMetas = procedureMetas(createAgentRouter({} as AgentService));

export interface ForeignAgent {
  readonly child: ChildProcess;
  readonly api: RpcClient<AgentRouter>['api'];
  /** Waits until the process is gone. */
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Resolves when the process is gone. */
  ended(): Promise<void>;
}

/** A gateway on a real port, and agents in processes of their own. */
export async function foreignAgents(dataDir: string, options: Partial<AgentOptions> = {}, prefix: string[] = []) {
  const gateway = new FakeGateway();
  const logs = collectLogs('manager');
  const identity = generateIdentity('agent', 'i-test');
  const manager = generateIdentity('manager', 'manager');
  const server = createRpcServer({
    router: createAgentGatewayRouter(gateway),
    identity: manager,
    directory: pinnedKeys('agent', [identity.publicKey]),
    allow: ['agent'],
    logger: logs.logger,
  });
  const { address } = await server.listenWebSocket({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => server.close({ graceMs: 0 }));

  /** @param killedAfter The step of making a kernel after which nothing more is done, not even an undo */
  async function start(killedAfter?: string): Promise<ForeignAgent> {
    const script = fileURLToPath(new URL('./agent-process.ts', import.meta.url));
    const command = [
      ...prefix,
      process.execPath,
      '--conditions=@backend.ai/source',
      '--import',
      import.meta.resolve('tsx'),
      script,
    ];
    const [file = '', ...args] = command;
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'], cwd: '/' });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (output += chunk));
    const input = {
      dataDir,
      backend: 'process',
      managers: [address],
      managerKeys: [manager.publicKey],
      identity: { ...identity, privateKey: identity.privateKey.export({ type: 'pkcs8', format: 'pem' }) },
      rpc: { host: '127.0.0.1', port: 0 },
      dataPort: { host: '127.0.0.1', port: 0 },
      slots: { cpu: '8', mem: String(8 * 1024 ** 3) },
      ...options,
      killedAfter,
    };
    child.stdin?.end(JSON.stringify(input));
    const isOver = (): boolean => child.exitCode !== null || child.signalCode !== null;
    const ended = async (): Promise<void> => {
      await waitFor(isOver, { timeoutMs: 75_000, what: 'exit' });
    };
    const kill = (signal: NodeJS.Signals): Promise<void> => {
      child.kill(signal);
      return ended();
    };
    onTestFinished(() => (isOver() ? undefined : kill('SIGTERM')), 40_000);
    const before = gateway.registrations.length;
    await waitFor(() => isOver() || (gateway.registrations.length > before && output.includes('ready')), {
      timeoutMs: 75_000,
      what: 'an agent process',
    });
    if (isOver()) throw new Error(`The agent ended with ${child.exitCode ?? child.signalCode}: ${output}`);
    const registration = gateway.registrations.at(-1);
    const client = createRpcClient<AgentRouter>({
      address: registration?.address ?? '',
      identity: manager,
      serverKeys: [identity.publicKey],
      metas: agentMetas,
      headers: () => ({ epoch: 1 }),
      logger: logs.logger,
    });
    onTestFinished(() => client.close());
    return { child, api: client.api, kill, ended };
  }
  return { gateway, start, logs, name: randomUUID() };
}
