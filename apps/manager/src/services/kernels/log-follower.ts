import { type FollowedLog, type LogChunk, logCursorSchema, type UserActor } from '@backend.ai/contract';
import { AppError, type Clock, type ErrorCode, hasCode, isTerminal, servingStatuses } from '@backend.ai/core';
import type { AgentClients } from '../../clients/agent-clients.ts';
import type { KernelLogRepository } from '../../repositories/kernel-logs.ts';
import type { SessionRecord } from '../../repositories/session-rows.ts';
import type { SessionRepository } from '../../repositories/sessions.ts';
import { heardOfChange, type SessionChanges } from '../sessions/session-changes.ts';
import type { SessionService } from '../sessions/session-service.ts';
import { keptAfter, lastLines } from './kept-log.ts';

export interface LogFollowerOptions {
  readonly sessions: SessionService;
  readonly rows: SessionRepository;
  readonly logs: KernelLogRepository;
  readonly agents: AgentClients;
  readonly changes: SessionChanges;
  readonly clock: Clock;
}

export interface FollowRequest {
  readonly tailLines?: number | null | undefined;
  /** Where another subscription stopped. */
  readonly lastEventId?: string | null | undefined;
}

/** Where a reader is. */
interface Place {
  readonly kernelId: string;
  readonly cursor: string | null;
}

const holdMs = 10_000;
/** An agent that cannot be asked now is asked again after this time. */
const retryMs = 500;
/** What an agent or the way to it may say that is over in a while. */
const passing: readonly ErrorCode[] = ['agent-unreachable', 'connection-lost', 'deadline-exceeded', 'kernel-not-found'];

/**
 * Follows the output of sessions. Nothing is remembered between two pieces but where the reader is, and that the reader
 * knows as well: whichever manager it asks next goes on there. The next piece is fetched when the last one is taken, so
 * that a slow reader costs nothing here and nothing at the kernel. Following is no use of a session.
 */
export class LogFollower {
  readonly #options: LogFollowerOptions;

  constructor(options: LogFollowerOptions) {
    this.#options = options;
  }

  /** @throws AppError `session-not-found`, `invalid-input` */
  async *follow(
    ref: string,
    { tailLines, lastEventId }: FollowRequest,
    actor: UserActor,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<FollowedLog, void, undefined> {
    const { sessions, rows, changes, clock } = this.#options;
    let place = lastEventId ? parsePlace(lastEventId) : undefined;
    let session = await sessions.find(ref, actor, 'session:use');
    const following = changes.follow(session.id);
    const stop = signal ?? new AbortController().signal;
    /** The kernel of which there is nothing more to come. */
    let finished: string | undefined;
    try {
      while (!stop.aborted) {
        const kernelId = session.kernels[0]?.id;
        if (kernelId === undefined) return;
        // A session that started anew has another kernel, which is read from its beginning.
        const cursor = place?.kernelId === kernelId ? place.cursor : null;
        const over = isTerminal(session.status);
        let waitMs: number | undefined;
        if (finished !== kernelId) {
          const chunk = over ? undefined : await this.#ask(session, cursor, place ? null : tailLines, stop);
          if (chunk === 'later') waitMs = retryMs;
          else {
            const piece = chunk ?? (await this.#kept(kernelId, cursor, place ? null : tailLines));
            place = { kernelId, cursor: piece.cursor };
            if (piece.ended) finished = kernelId;
            const { text, missed } = piece;
            if (text !== '' || missed) yield { text, missed, cursor: textOf(place) };
          }
        }
        if (over) return;
        if (waitMs !== undefined || finished === kernelId) await heardOfChange(following, clock, stop, waitMs);
        session = (await rows.findById(session.id)) ?? session;
      }
    } finally {
      following.stop();
    }
  }

  /** `later`: it does not run yet, or its agent cannot be asked now. */
  async #ask(
    session: SessionRecord,
    cursor: string | null,
    tailLines: number | null | undefined,
    signal: AbortSignal,
  ): Promise<LogChunk | 'later'> {
    const kernel = session.kernels[0];
    if (!kernel?.agentId || !(servingStatuses.includes(session.status) || session.status === 'TERMINATING'))
      return 'later';
    try {
      return await this.#options.agents.call(kernel.agentId, (api) =>
        api.readLog.query({ kernelId: kernel.id, cursor, tailLines, holdMs }, { signal }),
      );
    } catch (error) {
      if (signal.aborted || hasCode(error, ...passing)) return 'later';
      throw error;
    }
  }

  /** Of a kernel that has ended, from what is kept of it. */
  async #kept(kernelId: string, cursor: string | null, tailLines: number | null | undefined): Promise<LogChunk> {
    const { text, missed } = keptAfter(await this.#options.logs.find(kernelId), cursor);
    const tail = typeof tailLines === 'number' ? lastLines(text, tailLines) : text;
    return { text: tail, missed, cursor, ended: true };
  }
}

/** `<kernel id>/<place in its output>`; the latter is empty before the beginning. */
function parsePlace(text: string): Place {
  const [kernelId = '', rest = ''] = text.split('/');
  if (rest === '') return { kernelId, cursor: null };
  const cursor = logCursorSchema.safeParse(rest);
  if (!cursor.success) throw new AppError('invalid-input', 'This is no place in the output of a session.');
  return { kernelId, cursor: cursor.data };
}

function textOf({ kernelId, cursor }: Place): string {
  return `${kernelId}/${cursor ?? ''}`;
}
