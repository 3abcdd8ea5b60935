import {
  mostUsageRows,
  scopeOf,
  type UsagePeriod,
  type UsageReport,
  type UsageReportInput,
  type UserActor,
} from '@backend.ai/contract';
import { AppError, type Clock } from '@backend.ai/core';
import type { UsageRepository } from '../../repositories/usage.ts';
import { toIso } from '../sessions/session-view.ts';

const hourMs = 3_600_000;
/** The shortest that a period can be, in milliseconds. */
const shortest: Readonly<Record<UsagePeriod, number>> = {
  hour: hourMs,
  day: 24 * hourMs,
  month: 28 * 24 * hourMs,
  whole: Number.POSITIVE_INFINITY,
};

/** How much was used, as far as the actor may see. */
export class UsageService {
  readonly #usage: UsageRepository;
  readonly #clock: Clock;

  constructor(usage: UsageRepository, clock: Clock) {
    this.#usage = usage;
    this.#clock = clock;
  }

  /** @throws AppError `invalid-input` for a time that ends before it begins, or a report that is too long */
  async report(input: UsageReportInput, actor: UserActor): Promise<UsageReport> {
    const { by, period, user = null, project = null, domain = null } = input;
    const from = new Date(input.from).toISOString();
    const to = new Date(input.to ?? this.#clock.now()).toISOString();
    if (from >= to) {
      throw new AppError('invalid-input', 'The time of the report ends before it begins.', {
        data: { fields: { to: 'must be later than from' } },
      });
    }
    // Before the database has to make them: one row of each would be too much already.
    if ((Date.parse(to) - Date.parse(from)) / shortest[period] > mostUsageRows) throw tooLong();
    const scope = scopeOf(actor, 'usage:read');
    const query = { from, to, by, period, user, project, domain, scope, limit: mostUsageRows + 1 };
    const rows = await this.#usage.report(query);
    if (rows.length > mostUsageRows) throw tooLong();
    return { from, to, by, period, rows: rows.map((row) => ({ ...row, period: toIso(row.period) })) };
  }
}

function tooLong(): AppError {
  return new AppError('invalid-input', `The report has more than ${mostUsageRows} rows.`, {
    hint: 'Take longer periods, or a shorter time.',
    data: { fields: { period: 'makes too many rows' } },
  });
}
