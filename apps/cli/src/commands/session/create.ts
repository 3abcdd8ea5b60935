import { parseDurationMs } from '@backend.ai/cli-kit';
import { type CreateSessionOptions, hasCode, type SessionView } from '@backend.ai/client';
import { type SessionType, sessionTypes } from '@backend.ai/core';
import { Command, Option, UsageError } from 'clipanion';
import { showProgress } from '../../files/progress.ts';
import { waitingLine } from '../../session-command.ts';
import { listed, onlyGiven, SessionCreatingCommand } from '../../session-creating-command.ts';
import { reasonOf } from '../../session-texts.ts';

export class SessionCreate extends SessionCreatingCommand {
  static override paths = [['session', 'create'], ['start']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Create a session and wait until it runs',
    examples: [
      ['A Python session', '$0 session create -r cpu=1 -r mem=512m --name my-session python'],
      ['Only queue it', '$0 session create --enqueue-only python'],
      ['A job that ends by itself', "$0 session create --type batch -c 'python main.py' --batch-timeout 1h python"],
      ['After another one', "$0 session create --type batch -c 'python report.py' --depends my-job python"],
    ],
  });

  type = Option.String('--type', { description: 'interactive, batch, inference or system' });
  startupCommand = Option.String('-c,--startup-command', { description: 'What a batch session runs, by a shell' });
  startsAt = Option.String('--starts-at', { description: 'Not before: 2030-01-31T12:00:00Z, or 1h from now (batch)' });
  batchTimeout = Option.String('--batch-timeout', { description: 'How long a batch session may run: 90s, 2h' });
  depends = Option.Array('--depends', [], { description: 'Session that has to end with success first' });
  enqueueOnly = Option.Boolean('--enqueue-only', false, { description: 'Return as soon as it is queued' });
  maxWait = Option.String('--max-wait', { description: 'Stop waiting after so many seconds; it stays queued' });
  noReuse = Option.Boolean('--no-reuse', false, { description: 'Fail when a session of this name lives' });

  override async perform(): Promise<number | undefined> {
    const timeoutMs = this.maxWait === undefined ? 0 : parseDurationMs('--max-wait', this.maxWait);
    const options = { ...this.createOptions, ...this.#batchOptions(), reuseIfExists: !this.noReuse };
    const session = await this.createSession(await this.connect(), options);
    if (!this.enqueueOnly) {
      const tell = waitingLine((text) => this.context.stderr.write(text));
      const progress = await showProgress(this.context, session.view.image);
      const onChange = (view: SessionView): void => {
        tell(view);
        if (view.pull) progress.onProgress?.(view.pull.currentBytes, view.pull.totalBytes);
        else progress.stop();
      };
      try {
        await session.waitUntilRunning({ timeoutMs, onChange });
      } catch (thrown) {
        if (!hasCode(thrown, 'wait-timeout') || this.maxWait === undefined) throw thrown;
        // As asked: the session was made, the wait is over.
      } finally {
        progress.stop();
      }
    }
    if (this.json) return void this.printJson({ created: session.created, session: session.view });
    const { view } = session;
    const verb = session.created ? 'is created' : 'existed already';
    this.say(`Session ${view.name} ${verb}: ${view.status}${view.status === 'PENDING' ? `, ${reasonOf(view)}` : ''}`);
    this.say(`  id: ${view.id}`);
    // Executions wait for a job.
    if (view.status === 'RUNNING' && view.type === 'batch')
      this.say(`  next: ./backend.ai session logs -f ${view.name}`);
    else if (view.status === 'RUNNING') this.say(`  next: ./backend.ai session exec ${view.name} -- ls -la`);
    else if (view.status === 'PENDING') this.say(`  why: ./backend.ai session explain ${view.name}`);
    else this.say(`  next: ./backend.ai session info ${view.name}`);
  }

  #batchOptions(): Partial<CreateSessionOptions> {
    const { type, startupCommand, startsAt, batchTimeout } = this;
    return onlyGiven({
      type: type === undefined ? undefined : parseType(type),
      startupCommand,
      startsAt: startsAt === undefined ? undefined : parseMoment('--starts-at', startsAt),
      timeoutMs: batchTimeout === undefined ? undefined : parseDurationMs('--batch-timeout', batchTimeout),
      dependencies: listed(this.depends),
    });
  }
}

function parseType(text: string): SessionType {
  const type = sessionTypes.find((known) => known === text);
  if (!type) throw new UsageError(`--type takes one of ${sessionTypes.join(', ')}, not "${text}".`);
  return type;
}

/** A moment, or a duration from now on. */
function parseMoment(option: string, text: string): string {
  const at = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Date.now() + parseDurationMs(option, text);
  if (Number.isNaN(at)) throw new UsageError(`${option} takes a moment such as 2030-01-31T12:00:00Z, not "${text}".`);
  return new Date(at).toISOString();
}
