import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { AppError } from '@backend.ai/core';
import { callAdminSocket, type Dependency, NoAnswer } from '@backend.ai/runtime';
import type { AgentStatusView } from './agent-status.ts';
import { backendByItself, backendsBefore } from './backends/choose-backend.ts';
import { type EngineReport, examineEngine, isSupported } from './backends/engine-report.ts';
import { findSandboxTools } from './backends/process/tools.ts';
import { engineSocket } from './config.ts';
import { findProgram, searchFolders } from './files/programs.ts';
import type { AgentServerOptions } from './server-config.ts';

/** What an agent needs, as it can be seen from beside: the agent may run or not. */
export function dependenciesOf({ agent, runDir }: AgentServerOptions): Dependency[] {
  const { managers, dataDir, backend, path = '' } = agent;
  const common: Dependency[] = [
    {
      name: 'Manager',
      check: (signal) => managerOf(managers, join(runDir, 'agent.sock'), signal),
      ifSilent: noManagerHint,
    },
    { name: 'Data folder', check: () => writableFolder(dirname(dataDir)) },
  ];
  if (backend === 'fake') return common;
  if (backend === 'docker')
    return [...common, { name: 'Container engine', check: async () => containerEngine(engineSocket(agent)) }];
  return [
    ...common,
    // Whether `auto` takes it or not.
    ...(backend === 'process'
      ? []
      : [{ name: 'Container engine', check: async () => engineByItself(engineSocket(agent), dataDir) }]),
    { name: 'Sandbox', check: () => sandboxTools(path) },
    { name: 'Runtimes', check: () => runtimes(path) },
  ];
}

/** What the running agent says; where none runs, whether anybody answers at one of the addresses. */
async function managerOf(addresses: readonly string[], socket: string, signal: AbortSignal): Promise<string> {
  try {
    const { link } = await callAdminSocket<AgentStatusView>(socket, 'status');
    if (link.state === 'registered') return `registered at ${link.manager}`;
    throw new AppError('server-unreachable', link.lastError ?? 'The agent is not registered yet.', {
      hint: 'On its machine: ./backend.ai mgr status   A key that was withdrawn is replaced with: mgr peers rotate',
    });
  } catch (error) {
    if (!(error instanceof NoAnswer) || error.why === 'silent') throw error;
  }
  const answering = await firstAnswering(addresses, signal);
  return `${answering} answers; the agent does not run`;
}

const noManagerHint = 'Start a manager, or correct manager.addresses.';
async function firstAnswering(addresses: readonly string[], signal: AbortSignal): Promise<string> {
  const failures: string[] = [];
  for (const address of addresses) {
    try {
      await answers(new URL(address), signal);
      return address;
    } catch (error) {
      failures.push(`${address}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`);
    }
  }
  throw new AppError('server-unreachable', failures.join(', '), {
    hint: noManagerHint,
  });
}

function answers({ protocol, hostname, port }: URL, signal: AbortSignal): Promise<void> {
  const host = hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(port || (protocol === 'wss:' ? 443 : 80)) });
    const giveUp = (): void => void socket.destroy(new Error('no answer'));
    signal.addEventListener('abort', giveUp, { once: true });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.destroy();
      resolve();
    });
  });
}

/** The folder, or what it would be made in. */
async function writableFolder(folder: string): Promise<string> {
  for (let existing = folder; ; existing = dirname(existing)) {
    try {
      await access(existing, constants.W_OK | constants.X_OK);
      return folder;
    } catch (cause) {
      const absent = (cause as NodeJS.ErrnoException).code === 'ENOENT';
      if (absent && existing !== dirname(existing)) continue;
      throw new AppError('config-invalid', `${existing} cannot be written to.`, {
        hint: 'Give the user of the agent the folder agent.data-dir, or name another one.',
        cause,
      });
    }
  }
}

/** @throws AppError `engine-unavailable`, `unsupported-feature` */
async function containerEngine(socket: string): Promise<string> {
  const engine = await examineEngine(socket);
  if (engine.state !== 'ready') {
    throw new AppError('engine-unavailable', `${engineProblems[engine.state]} at ${socket}.`, {
      hint: 'The next step: ./backend.ai doctor',
    });
  }
  if (!isSupported(engine)) {
    throw new AppError('unsupported-feature', `${engine.product} ${engine.version} is too old.`, {
      hint: 'Install Docker 20.10 or newer.',
    });
  }
  const { product, version, images } = engine;
  return `${product} ${version} at ${socket}, ${images.length} images for sessions`;
}

/** Of an agent that chooses by itself. @throws AppError as `containerEngine` where it has chosen the engine before */
async function engineByItself(socket: string, dataDir: string): Promise<string> {
  const engine = await examineEngine(socket);
  const isWanted = engine.state === 'ready' || backendByItself(backendsBefore(dataDir), engine) === 'docker';
  return isWanted
    ? await containerEngine(socket)
    : `${engineProblems[engine.state]} at ${socket}; kernels are processes`;
}

const engineProblems: Record<Exclude<EngineReport['state'], 'ready'>, string> = {
  absent: 'no container engine',
  closed: 'the agent may not use the container engine',
  silent: 'no container engine answers',
};

async function sandboxTools(path: string): Promise<string> {
  const { bwrap, unshare } = await findSandboxTools(path);
  const found = [bwrap, unshare].filter((tool) => tool !== null);
  if (found.length > 0) return found.join(', ');
  throw new AppError('isolation-unavailable', 'Neither bubblewrap nor unshare is installed.', {
    hint: 'Install bubblewrap. What works on this machine: ./backend.ai doctor',
  });
}

async function runtimes(path: string): Promise<string> {
  const folders = searchFolders(path);
  const found = ['python3', 'node', 'bash'].map((name) => findProgram(name, folders)).filter((file) => file !== null);
  if (found.length > 0) return found.join(', ');
  throw new AppError('config-invalid', 'No interpreter was found.', { hint: 'Install python3, or set sandbox.path.' });
}
