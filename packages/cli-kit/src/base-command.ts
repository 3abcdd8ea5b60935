import type { AppError } from '@backend.ai/core';
import { Command, Option, UsageError } from 'clipanion';
import type { CliContext } from './context.ts';
import { clean, explain, writeError, writeJson } from './output.ts';

/**
 * Every command of backend.ai: `--json`, and failures told in one way.
 *
 * `perform` does the work and returns the exit code (0 when it returns nothing); what it throws becomes one sentence, a
 * next step and the request id on stderr, exit code 1, or 2 for wrong usage. With `--json` stdout gets one document in
 * any case.
 */
export abstract class BaseCommand extends Command<CliContext> {
  json = Option.Boolean('--json', false, { description: 'Print one JSON document' });

  abstract perform(): Promise<number | undefined>;

  async execute(): Promise<number> {
    try {
      return (await this.perform()) ?? 0;
    } catch (thrown) {
      if (thrown instanceof UsageError) throw thrown;
      return this.fail(explain(thrown, this.context.env));
    }
  }

  /** One document; the request id is part of it. */
  protected printJson(document: Record<string, unknown>): void {
    writeJson(this.context.stdout, { requestId: this.context.requestId, ...document });
  }

  /** A line on stdout that `--json` leaves out. */
  protected say(text: string): void {
    if (!this.json) this.context.stdout.write(`${clean(text)}\n`);
  }

  /** A line on stderr about something that was not done as one may expect. */
  protected note(text: string): void {
    this.context.stderr.write(`${clean(text)}\n`);
  }

  protected fail(error: AppError): number {
    const { requestId } = this.context;
    writeError(this.context.stderr, error, requestId);
    if (this.json) writeJson(this.context.stdout, { requestId, error: error.toBody(requestId) });
    return 1;
  }
}
