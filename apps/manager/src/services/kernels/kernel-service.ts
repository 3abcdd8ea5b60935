import type {
  CompleteInput,
  CompleteResult,
  ExecuteInput,
  FileListing,
  RunResult,
  ServiceStart,
  ServiceView,
  StartServiceInput,
  Transfer,
  TransferTicket,
  UserActor,
} from '@backend.ai/contract';
import { AppError, hasCode, isTerminal, servingStatuses } from '@backend.ai/core';
import type { AgentApi, AgentClients } from '../../clients/agent-clients.ts';
import type { KernelLogRepository } from '../../repositories/kernel-logs.ts';
import type { SessionRecord } from '../../repositories/session-rows.ts';
import type { SessionRepository } from '../../repositories/sessions.ts';
import type { SessionActivity } from '../idle/session-activity.ts';
import { notRunning } from '../sessions/not-running.ts';
import type { SessionService } from '../sessions/session-service.ts';
import { keptText } from './kept-log.ts';
import type { RunningKernels } from './running-kernels.ts';

const logBytes = 1024 * 1024;

type Work<T> = (api: AgentApi, kernelId: string, sessionId: string) => Promise<T>;

/** What users do inside running sessions: each call goes to the agent of the main kernel. */
export class KernelService {
  readonly #sessions: SessionService;
  readonly #repository: SessionRepository;
  readonly #logs: KernelLogRepository;
  readonly #agents: AgentClients;
  readonly #running: RunningKernels;
  readonly #activity: SessionActivity;

  constructor(
    sessions: SessionService,
    repository: SessionRepository,
    logs: KernelLogRepository,
    agents: AgentClients,
    running: RunningKernels,
    activity: SessionActivity,
  ) {
    this.#sessions = sessions;
    this.#repository = repository;
    this.#logs = logs;
    this.#agents = agents;
    this.#running = running;
    this.#activity = activity;
  }

  execute(ref: string, input: ExecuteInput, actor: UserActor, signal: AbortSignal | undefined): Promise<RunResult> {
    const work: Work<RunResult> = (api, kernelId) => api.execute.mutate({ ...input, kernelId }, options(signal));
    // How a run ended can be read from its agent for a while after it ended its session.
    return this.#inside(ref, actor, work, input.mode === 'continue');
  }

  /** The current run, or a certain one. */
  async interrupt(ref: string, actor: UserActor, runId?: string): Promise<void> {
    const which = runId === undefined ? {} : { runId };
    await this.#inside(ref, actor, (api, kernelId) => api.interrupt.mutate({ kernelId, ...which }));
  }

  complete(
    ref: string,
    input: CompleteInput,
    actor: UserActor,
    signal: AbortSignal | undefined,
  ): Promise<CompleteResult> {
    return this.#inside(ref, actor, (api, kernelId) => api.complete.query({ ...input, kernelId }, options(signal)));
  }

  services(ref: string, actor: UserActor): Promise<ServiceView[]> {
    return this.#inside(ref, actor, (api, kernelId) => api.services.query({ kernelId }));
  }

  startService(
    ref: string,
    input: StartServiceInput,
    actor: UserActor,
    signal: AbortSignal | undefined,
  ): Promise<ServiceStart> {
    return this.#inside(ref, actor, (api, kernelId) =>
      api.startService.mutate({ ...input, kernelId }, options(signal)),
    );
  }

  async stopService(ref: string, service: string, actor: UserActor): Promise<void> {
    await this.#inside(ref, actor, (api, kernelId) => api.stopService.mutate({ kernelId, service }));
  }

  listFiles(ref: string, path: string, actor: UserActor, signal: AbortSignal | undefined): Promise<FileListing> {
    return this.#inside(ref, actor, (api, kernelId) => api.listFiles.query({ kernelId, path }, options(signal)));
  }

  /** The session is in use until `done` is called. */
  async openTransfer(
    ref: string,
    transfer: Transfer,
    actor: UserActor,
  ): Promise<{ readonly ticket: TransferTicket; readonly done: () => void }> {
    let sessionId: string | undefined;
    const ticket = await this.#inside(ref, actor, (api, kernelId, session) => {
      sessionId = session;
      return api.openTransfer.mutate({ kernelId, transfer });
    });
    return { ticket, done: sessionId === undefined ? () => {} : this.#activity.begin(sessionId) };
  }

  /**
   * Of a running session from its agent; of an ended one, and of earlier attempts, what was kept.
   * @throws AppError `session-not-running`, `object-not-found`
   */
  async logs(
    ref: string,
    attempt: number | undefined,
    actor: UserActor,
    signal: AbortSignal | undefined,
  ): Promise<{ logs: string }> {
    const session = await this.#sessions.find(ref, actor, 'session:use');
    const earlier = attempt === undefined ? [] : await this.#logs.earlier(session.id);
    if (attempt !== undefined && attempt !== earlier.length + 1) return { logs: earlierLog(session, attempt, earlier) };
    const kernel = session.kernels[0];
    if (servingStatuses.includes(session.status)) {
      try {
        return await this.#call(session, (api, kernelId) =>
          api.logs.query({ kernelId, maxBytes: logBytes }, options(signal)),
        );
      } catch (error) {
        if (!hasCode(error, 'kernel-not-found', 'session-not-running')) throw error;
      }
    }
    const kept = kernel && keptText(await this.#logs.find(kernel.id));
    if (kept !== undefined) return { logs: kept };
    if (isTerminal(session.status)) {
      throw new AppError('object-not-found', `No log of the session "${session.name}" was kept.`, {
        hint: 'It wrote nothing, or its agent was lost with it.',
      });
    }
    throw notRunning(session);
  }

  async #inside<T>(ref: string, actor: UserActor, work: Work<T>, afterItsEnd = false): Promise<T> {
    const kernel = this.#running.recall(ref, actor);
    if (!kernel) return await this.#call(await this.#find(ref, actor), work, afterItsEnd);
    try {
      return await this.#activity.during(kernel.sessionId, () =>
        this.#agents.call(kernel.agentId, (api) => work(api, kernel.kernelId, kernel.sessionId)),
      );
    } catch (error) {
      if (!hasCode(error, 'kernel-not-found', 'agent-unreachable')) throw error;
      this.#running.forget(kernel.sessionId);
      const session = await this.#find(ref, actor);
      // What was remembered is so, and asking once more would be a second execution.
      if (servingStatuses.includes(session.status) && session.kernels[0]?.id === kernel.kernelId) throw error;
      return await this.#call(session, work, afterItsEnd);
    }
  }

  #find(ref: string, actor: UserActor): Promise<SessionRecord> {
    return this.#running.learn(ref, actor, () => this.#sessions.find(ref, actor, 'session:use'));
  }

  async #call<T>(session: SessionRecord, work: Work<T>, afterItsEnd = false): Promise<T> {
    const kernel = session.kernels[0];
    const runs = servingStatuses.includes(session.status);
    if (!kernel?.agentId || !(runs || afterItsEnd)) throw notRunning(session);
    try {
      const { id, agentId } = kernel;
      const call = (): Promise<T> => this.#agents.call(agentId, (api) => work(api, id, session.id));
      return runs ? await this.#activity.during(session.id, call) : await call();
    } catch (error) {
      if (!runs && hasCode(error, 'kernel-not-found', 'run-not-found', 'agent-unreachable')) throw notRunning(session);
      if (!hasCode(error, 'kernel-not-found')) throw error;
      // It ended this moment, or its agent lost it: say what is known by now.
      const now = await this.#repository.findById(session.id);
      throw now && !servingStatuses.includes(now.status) ? notRunning(now) : error;
    }
  }
}

function options(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal ? { signal } : {};
}

function earlierLog(
  { name }: SessionRecord,
  wanted: number,
  earlier: ReadonlyArray<{ readonly attempt: number; readonly log: string | null }>,
): string {
  const log = earlier.find(({ attempt }) => attempt === wanted)?.log;
  if (typeof log === 'string') return log;
  const kept = earlier.flatMap(({ attempt, log: text }) => (text === null ? [] : [attempt]));
  throw new AppError('object-not-found', `No log of attempt ${wanted} of the session "${name}" was kept.`, {
    hint:
      kept.length === 0
        ? 'Logs of no earlier attempt are kept: the present one is shown without --attempt.'
        : `Kept are those of the attempts ${kept.join(', ')}; the present one is ${earlier.length + 1}.`,
  });
}
