import { parseDurationMs } from '@backend.ai/cli-kit';
import type { Client, Run, RunOptions, Session } from '@backend.ai/client';
import { hasCode, isTerminal } from '@backend.ai/core';
import { Option } from 'clipanion';
import { collectFiles, leftOutLine } from '../files/local-files.ts';
import { showProgress } from '../files/progress.ts';
import { waitingLine } from '../session-command.ts';
import { SessionCreatingCommand } from '../session-creating-command.ts';
import { followRun } from './follow-run.ts';
import { runDocument } from './run-document.ts';

/** What `run IMAGE -c CODE` and `run IMAGE FILE` share: a session for the run, its files, and its end. */
export abstract class RunInSession extends SessionCreatingCommand {
  rm = Option.Boolean('--rm', { description: 'Destroy the session afterwards; so it is for one made here (--no-rm)' });
  timeout = Option.String('--timeout', { description: 'The program may last so long: 10s, 5m' });
  maxWait = Option.String('--max-wait', { description: 'Wait so many seconds for the session to run' });
  uploads = Option.Array('--upload', [], { description: 'File or folder the program needs' });

  protected abstract start(client: Client, session: Session, options: RunOptions): Promise<Run>;

  /** Local files that go into the session. */
  protected filesToUpload(): readonly string[] {
    return this.uploads;
  }

  override async perform(): Promise<number> {
    const timeoutMs = this.timeout === undefined ? 0 : parseDurationMs('--timeout', this.timeout);
    const maxWaitMs = this.maxWait === undefined ? 0 : parseDurationMs('--max-wait', this.maxWait);
    const create = this.createOptions;
    // Mistakes in names are found before anything is created.
    const { files, leftOut } = await collectFiles(this.filesToUpload(), this.context.cwd);
    for (const target of leftOut) this.note(leftOutLine(target));
    const client = await this.connect();
    const session = await this.createSession(client, create);
    const remove = this.rm ?? session.created;
    const stopWaiting = this.#destroyWhenInterrupted(session, remove);
    try {
      let run: Run;
      try {
        const onChange = waitingLine((text) => this.context.stderr.write(text));
        await session.waitUntilRunning({ timeoutMs: maxWaitMs, onChange });
        for (const { file, target } of files) {
          const progress = await showProgress(this.context, target);
          await session.upload(target, { file }, { onProgress: progress.onProgress }).finally(progress.stop);
        }
        run = await this.start(client, session, { collect: this.json, timeoutMs });
      } finally {
        stopWaiting();
      }
      const { outcome, exitCode } = await followRun(this.context, session, run, {
        quiet: this.json,
        destroyOnSecondInterrupt: remove,
      });
      if (this.json && outcome) this.printJson(runDocument(session, outcome, this.context.requestId));
      return exitCode;
    } finally {
      // Recorded; the cluster carries it out. What went wrong here must not hide what went wrong before.
      if (remove && !isTerminal(session.view.status)) {
        await session.destroy().catch((error: unknown) => {
          // It ended by itself: what the program did may have ended its session, too.
          if (hasCode(error, 'session-not-found')) return;
          this.context.stderr.write(`The session may be left behind: ./backend.ai session destroy ${session.name}\n`);
        });
      }
    }
  }

  /** Before the program runs, Ctrl-C gives up the whole undertaking. */
  #destroyWhenInterrupted(session: Session, remove: boolean): () => void {
    return this.context.onInterrupt(() => {
      const end = remove ? session.destroy({ forced: true }) : Promise.resolve();
      end.catch(() => {}).then(() => process.exit(130));
    });
  }
}
