import { isLoopback, slotsFromTexts, systemClock } from '@backend.ai/core';
import { type AgentConfig, type AgentDependencies, engineSocket } from '../config.ts';
import type { Backend } from './backend.ts';
import { type BackendKind, backendByItself, backendsBefore, whyEngineIsUnused } from './choose-backend.ts';
import { examineEngine } from './engine-report.ts';
import { FakeBackend } from './fake/fake-backend.ts';
import { ProcessBackend } from './process/process-backend.ts';

/** What makes the kernels of an agent, and how it came to be chosen. */
export interface ChosenBackend {
  readonly backend: Backend;
  /** Why processes were chosen although there is an engine, and what to do; null: it is not so. */
  readonly unusedEngine: string | null;
}

/** The one that is configured, or what the machine offers; not started. */
export async function openBackend(
  config: AgentConfig,
  dependencies: AgentDependencies,
  installationId: string,
): Promise<ChosenBackend> {
  const { docker, dataDir, slots, reserve, allowUnisolated, sandbox, useCgroups, processLimit, startDeadlineMs } =
    config;
  const { identity, runtimes, fakeScript, clock = systemClock } = dependencies;
  const socketPath = engineSocket(config);
  const { kind, unusedEngine } = await chooseKind(config, dependencies, socketPath);
  const logger = dependencies.logger.with({ module: 'kernels' });
  const parsedSlots = slots && slotsFromTexts(slots);
  if (kind === 'fake') {
    return { backend: new FakeBackend({ clock, slots: parsedSlots, script: fakeScript }), unusedEngine };
  }
  const common = { dataDir, installationId, processLimit, startDeadlineMs, clock, logger, slots: parsedSlots, reserve };
  if (kind === 'docker') {
    // It takes long to load, and most agents of a small machine do without.
    const { DockerBackend } = await import('./docker/docker-backend.ts');
    const backend = new DockerBackend({
      ...docker,
      ...common,
      socketPath,
      agentId: identity.id,
      allowUnguarded: docker.allowUnguarded || !('host' in config.rpc) || isLoopback(config.rpc.host),
    });
    return { backend, unusedEngine };
  }
  const backend = new ProcessBackend({
    ...common,
    allowUnisolated,
    sandbox,
    useCgroups,
    interpreters: runtimes,
    path: config.path,
  });
  return { backend, unusedEngine };
}

async function chooseKind(
  { backend, dataDir }: AgentConfig,
  { logger }: AgentDependencies,
  socket: string,
): Promise<{ readonly kind: BackendKind; readonly unusedEngine: string | null }> {
  if (backend !== 'auto') return { kind: backend, unusedEngine: null };
  const engine = await examineEngine(socket);
  const before = backendsBefore(dataDir);
  const kind = backendByItself(before, engine);
  const unusedEngine = whyEngineIsUnused(before, engine);
  const images = engine.state === 'ready' ? engine.images : null;
  logger.info('backend chosen', { backend: kind, engine: socket, state: engine.state, images, unusedEngine });
  return { kind, unusedEngine };
}
