import type { SessionIdleView, SessionInspection, SessionStatisticsView, UserActor } from '@backend.ai/contract';
import type { IdleService } from '../idle/idle-service.ts';
import type { StatisticsService } from '../statistics/statistics-service.ts';
import { notRunning } from './not-running.ts';
import type { InspectedView, SessionService } from './session-service.ts';

export interface InspectionServiceOptions {
  readonly sessions: SessionService;
  readonly statistics: StatisticsService;
  readonly idle: IdleService;
}

/** What is known of one session, from one statement: what it is, what it uses, whether it is of use. */
export class InspectionService {
  readonly #options: InspectionServiceOptions;

  constructor(options: InspectionServiceOptions) {
    this.#options = options;
  }

  /** @throws AppError `session-not-found` */
  async inspect(ref: string, actor: UserActor): Promise<SessionInspection> {
    const found = await this.#options.sessions.inspect(ref, actor);
    const [statistics, idle] = await Promise.all([this.#statisticsOf(found), this.#idlenessOf(found)]);
    return { session: found.session, statistics, idle };
  }

  /** @throws AppError `session-not-found` */
  async statistics(ref: string, actor: UserActor): Promise<SessionStatisticsView> {
    return await this.#statisticsOf(await this.#options.sessions.inspect(ref, actor));
  }

  /** What would become of the session if it were judged now. @throws AppError `session-not-found`, `session-not-running` */
  async idle(ref: string, actor: UserActor): Promise<SessionIdleView> {
    const found = await this.#options.sessions.inspect(ref, actor);
    const idle = await this.#idlenessOf(found);
    if (idle) return idle;
    const { id, name, status, reason } = found.session;
    throw notRunning({ id, name, status, statusReason: reason.code });
  }

  async #statisticsOf({ session, measured }: InspectedView): Promise<SessionStatisticsView> {
    return { sessionId: session.id, name: session.name, ...(await this.#options.statistics.ofKernels(measured)) };
  }

  async #idlenessOf({ session, running }: InspectedView): Promise<SessionIdleView | null> {
    if (!running) return null;
    return { sessionId: session.id, name: session.name, checks: await this.#options.idle.check(running) };
  }
}
