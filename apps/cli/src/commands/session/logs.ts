import { once } from 'node:events';
import { parseWhole } from '@backend.ai/cli-kit';
import type { Session } from '@backend.ai/client';
import { Command, Option } from 'clipanion';
import { SessionCommand } from '../../session-command.ts';

export class SessionLogs extends SessionCommand {
  static override paths = [['session', 'logs'], ['logs']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Print what a session wrote',
    details: `
      The newest two megabytes are kept while a session runs, and the newest of these afterwards. With --follow it goes on
      with what comes, until the session has ended; it begins with a session that does not run yet, and goes on with the
      next kernel of one that is restarted. A session that starts anew begins an empty log; the ends of those before it are
      kept, of the last five.
    `,
    examples: [
      ['All of it', '$0 session logs my-session'],
      ['The last lines, and what comes', '$0 session logs --follow --tail 10 my-session'],
      ['What it wrote before it was restarted', '$0 session logs my-session --attempt 1'],
    ],
  });

  attempt = Option.String('--attempt', {
    description: 'The n-th time that it was started, from 1; without it the present or last one',
  });

  follow = Option.Boolean('-f,--follow', false, { description: 'Go on until the session has ended' });
  tail = Option.String('--tail', { description: 'Begin with so many of the last lines' });

  override async perform(): Promise<undefined> {
    const session = await this.open();
    const tailLines = parseWhole('--tail', this.tail);
    if (this.follow) return void (await this.#follow(session, tailLines));
    const all = await session.logs(parseWhole('--attempt', this.attempt));
    const logs = tailLines === undefined ? all : lastLines(all, tailLines);
    if (this.json) return void this.printJson({ logs });
    this.context.stdout.write(logs);
    if (logs !== '' && !logs.endsWith('\n')) this.context.stdout.write('\n');
  }

  async #follow(session: Session, tailLines: number | undefined): Promise<void> {
    const { stdout, stderr } = this.context;
    const over = new AbortController();
    const forget = this.context.onInterrupt(() => over.abort());
    try {
      for await (const { text, missed } of session.followLogs({ tailLines, signal: over.signal })) {
        if (missed && !this.json) stderr.write('(some output is missing: it came faster than it was read)\n');
        const shown = this.json ? `${JSON.stringify({ text, missed })}\n` : text;
        // Who reads slowly gets the next piece later.
        if (!stdout.write(shown)) await once(stdout, 'drain', { signal: over.signal }).catch(ignoreAbort);
      }
    } finally {
      forget();
    }
  }
}

function ignoreAbort(error: Error): void {
  if (error.name !== 'AbortError') throw error;
}

/** A last line without its end counts as one. */
function lastLines(text: string, count: number): string {
  const lines = text.split('\n');
  const whole = lines.at(-1) === '' ? lines.slice(0, -1) : lines;
  const kept = count === 0 ? [] : whole.slice(-count);
  return kept.length === 0 ? '' : `${kept.join('\n')}${text.endsWith('\n') ? '\n' : ''}`;
}
